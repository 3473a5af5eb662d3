"""A volume takes translations of each other in all languages, whatever rows a language lacks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Choices, Question, TextPair
from xlt.data.parallel import by_id, in_order, joined, keys_of, translations
from xlt.data.sampling.batches import nested_subset, subset_by_identity
from xlt.data.sources import Split
from xlt.datamodule import TransferData
from xlt.splits.splits import Splits

WORDS = {"en": ("won", "saw"), "de": ("gewann", "sah"), "ja": ("\u52dd", "\u898b")}
"""What differs between languages."""


def pair(i: int, language: str) -> dict[str, Any]:
    """A pair of PAWS-X, known in every language by its numbers."""
    one, other = WORDS[language]
    first, second = f"Team {i} {one} {i + 3} games.", f"Town {i * 7} {other} team {i} in {i + 3} games."
    return {"sentence1": first, "sentence2": second, "label": str(i * i % 7 % 2)}


def write(root: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    path = root / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


@pytest.fixture
def splits(tmp_path: Path, tiny_encoder: str) -> Splits:
    text = TextEncoder(load_tokenizer(tiny_encoder), 64, 16)
    return Splits([tmp_path / "root"], tmp_path / "cache", text)


def drawn(splits: Splits, name: str, volume: int, split: Split = "validation", seed: int = 0) -> list[int]:
    """The numbers in the file of the examples that a volume takes."""
    return splits.open(tasks.load(name), split).subset(volume, seed, "task").tolist()


def kept(count: int, without: Sequence[int]) -> list[int]:
    return [i for i in range(count) if i not in without]


LACKS = {"en": (7, 50, 51), "de": (5, 102, 199, 120), "ja": (0, 1, 2, 160, 7)}
"""Pairs that a language lacks."""


def test_pairs_without_ids_are_taken_by_translation(splits: Splits, tmp_path: Path):
    numbers = {language: kept(300, lacking) for language, lacking in LACKS.items()}
    for language, there in numbers.items():
        rows = [pair(i, language) for i in there]
        write(tmp_path / "root", f"google/xtreme/PAWS-X.{language}/validation", rows)
    found = {
        language: {there[i] for i in drawn(splits, f"pawsx/{language}", 40)}
        for language, there in numbers.items()
    }
    for language in ("de", "ja"):
        wanted = found["en"] - set(LACKS[language])
        assert len(found[language]) == 40
        assert len(found[language] & wanted) >= len(wanted) - len(LACKS["en"])
    # Nested, and of the seed.
    assert set(drawn(splits, "pawsx/de", 10)) < set(drawn(splits, "pawsx/de", 40))
    assert drawn(splits, "pawsx/de", 40, seed=1) != drawn(splits, "pawsx/de", 40)
    # English rows are drawn by their numbers.
    assert drawn(splits, "pawsx/en", 40) == nested_subset(297, 40, 0, "task").tolist()


def test_pairs_with_ids_are_taken_by_id_in_any_order(splits: Splits, tmp_path: Path):
    order = {"en": list(range(100)), "de": list(range(100))[::-1], "ja": kept(100, (3, 4))}
    for language, there in order.items():
        rows = [pair(i, language) | {"id": i} for i in there]
        write(tmp_path / "root", f"google/xtreme/PAWS-X.{language}/validation", rows)
    found = {lang: {order[lang][i] for i in drawn(splits, f"pawsx/{lang}", 30)} for lang in order}
    assert found["de"] == found["en"]
    assert len(found["ja"] & found["en"]) >= 28


def question(i: int, answer: bool = True) -> dict[str, Any]:
    answers = {"text": ["cats"], "answer_start": [0]} if answer else {"text": [""], "answer_start": [0]}
    return {"id": f"q{i}", "title": "", "context": f"cats {i}", "question": f"who {i}?", "answers": answers}


def test_questions_are_taken_by_id_though_some_lack_answers_or_languages(splits: Splits, tmp_path: Path):
    root = tmp_path / "root" / "google" / "xtreme"
    write(root, "XQuAD.en/validation", [question(i) for i in range(90)])
    write(root, "XQuAD.de/validation", [question(i, answer=i % 10 != 4) for i in range(90)])
    labelled = [i for i in range(90) if i % 10 != 4]
    english = set(drawn(splits, "xquad/en", 30))
    german = {labelled[i] for i in drawn(splits, "xquad/de", 30)}
    assert english & set(labelled) <= german
    order = {"en": list(range(90)), "de": list(range(0, 120, 2)), "es": list(range(0, 120, 3))}
    for language, there in order.items():
        write(root, f"MLQA.{language}.{language}/validation", [question(i) for i in there])
    found = {lang: {order[lang][i] for i in drawn(splits, f"mlqa/{lang}", 25)} for lang in order}
    assert found["en"] & set(order["de"]) <= found["de"]
    # Those that English lacks are known by their ids.
    everywhere = set(order["de"]) & set(order["es"])
    assert found["de"] & everywhere <= found["es"]


def test_without_english_rows_the_first_language_tells_which_are_translations(splits: Splits, tmp_path: Path):
    there = {"de": kept(120, (9,)), "ja": kept(120, (40, 80))}
    for language, numbers in there.items():
        rows = [pair(i, language) for i in numbers]
        write(tmp_path / "root", f"google/xtreme/PAWS-X.{language}/validation", rows)
    found = {lang: {there[lang][i] for i in drawn(splits, f"pawsx/{lang}", 30)} for lang in there}
    assert len(found["de"] & found["ja"]) >= 28


def test_rows_that_cannot_be_put_in_order_are_taken_by_number_and_said(
    splits: Splits, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for language, count in (("en", 60), ("de", 50)):
        rows = [pair(i, language) | {"label": str(int(language == "de"))} for i in range(count)]
        write(tmp_path / "root", f"google/xtreme/PAWS-X.{language}/validation", rows)
    with caplog.at_level("INFO"):
        assert drawn(splits, "pawsx/de", 10) == nested_subset(50, 10, 0, "task").tolist()
    assert "pawsx/de: a volume takes its rows by their numbers, not by translation: its 50" in caplog.text


def test_training_takes_the_same_translations_in_every_language(tmp_path: Path, tiny_encoder: str):
    root = tmp_path / "root"
    there = {"en": range(200), "de": kept(200, (3, 90, 91))}
    for language, numbers in there.items():
        of = root if language == "en" else root / language
        rows = [
            {"premise": p["sentence1"], "hypothesis": p["sentence2"], "label": int(p["label"])}
            for p in (pair(i, language) for i in numbers)
        ]
        for split in ("train", "validation_matched"):
            write(of, f"nyu-mll/glue/mnli/{split}", rows)
        lines = [{**pair(i, language), "language": language, "gold_label": "neutral"} for i in numbers]
        write(root / language, "xnli", lines)
    xnli = [row for lang in there for row in pq.read_table(root / lang / "xnli.parquet").to_pylist()]
    write(root, "google/xtreme/XNLI/validation", xnli)
    data = TransferData(
        ["xnli", "xnli/de"], str(root), volume=50, validation_volume=20, max_length=64, stride=16,
        tokens_per_micro_batch=256, encoder=tiny_encoder, cache=str(tmp_path / "cache"),
    )  # fmt: skip
    data.prepare_data()
    for split, volume in (("train", 50), ("validation", 20)):
        english, german = (
            {list(there[lang])[i] for i in data.rows_in_use(name, split)}
            for name, lang in (("xnli", "en"), ("xnli/de", "de"))
        )
        assert len(english) == len(german) == volume
        assert len(english & german) >= volume - 3


# The parts of it


def test_a_subset_by_identity_is_of_the_identities_alone():
    assert subset_by_identity(range(50), 9, 3, "t").tolist() == nested_subset(50, 9, 3, "t").tolist()
    names = [*range(20), "a#0", "b#0", "c#0"]
    order = np.random.default_rng(0).permutation(len(names))
    for volume in (1, 5, 22):
        wanted = {names[i] for i in subset_by_identity(names, volume, 0)}
        assert {names[order[i]] for i in subset_by_identity([names[i] for i in order], volume, 0)} == wanted
        assert wanted <= {names[i] for i in subset_by_identity(names, volume + 1, 0)}


def test_examples_are_put_in_order_though_both_languages_lack_some():
    own, other = kept(150, (0, 10, 11, 77)), kept(150, (12, 40, 149))
    english, japanese = [
        [TextPair(*map(str, pair(i, language).values())) for i in part]
        for language, part in (("en", own), ("ja", other))
    ]
    places = in_order(english, japanese)
    found = {(own[i], other[j]) for i, j in enumerate(places.tolist()) if j >= 0}
    right = {(i, i) for i in set(own) & set(other)}
    assert len(found & right) >= len(right) - 2


def ask(name: str, text: str = "") -> Question:
    return Question("?", text, (), (), name)


def test_examples_that_share_an_id_are_told_apart_by_their_order():
    own, other = [ask("a", "1"), ask("b"), ask("a", "2")], [ask("b"), ask("a", "1"), ask("a", "2")]
    assert [(a.context, b.context) for a, b in joined(own, other)] == [("1", "1"), ("", ""), ("2", "2")]
    with pytest.raises(ValueError, match="the id 'a' occurs 2 times in one language and 1 times"):
        joined(own, other[:2])
    assert by_id(own, other[:2]).tolist() == [-1, 0, -1]


def test_questions_without_ids_are_not_joined():
    with pytest.raises(ValueError, match="they have neither ids nor labels"):
        joined([ask(""), ask("")], [ask(""), ask("")])


def test_ids_of_examples_with_other_labels_are_not_believed():
    own = [replace(TextPair(*map(str, pair(i, "en").values())), id=str(i)) for i in range(60)]
    other = [replace(TextPair(*map(str, pair(i, "de").values())), id=str(i - 2)) for i in range(2, 60)]
    assert translations(other, own).tolist() == list(range(2, 60))


def test_ids_are_believed_if_few_labels_differ():
    own = [Choices("Why?", ("a", "b"), i % 2, str(i)) for i in range(20)]
    other = [Choices("Warum?", ("c", "d"), (i == 3) ^ i % 2, str(i)) for i in reversed(range(20))]
    assert translations(own, other).tolist() == list(reversed(range(20)))


def test_ids_with_other_labels_of_texts_that_cannot_be_compared_are_refused():
    own = [Choices("Why?", ("a", "b"), i % 2, str(i)) for i in range(20)]
    other = [Choices("Warum?", ("c", "d"), (i < 3) ^ i % 2, str(i)) for i in range(20)]
    with pytest.raises(ValueError, match="only 85 % of the labels of examples with the same id agree"):
        translations(own, other)


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "b", "a"], ["a#1", "b", "a#2"]),
        (["", "", "x"], ["#1", "#2", "x"]),
        (["a", "a", "a#1"], ["a#2", "a#3", "a#1"]),
        ([""], ["#1"]),
    ],
)
def test_keys_of_empty_and_repeated_ids(ids: list[str], wanted: list[str]):
    assert keys_of(ids) == wanted


def test_a_set_that_lacks_most_of_the_other_language_is_no_translation_of_it(splits: Splits, tmp_path: Path):
    there = {"en": range(300, 330), "de": range(100), "ja": kept(100, (5, 60))}
    for language, numbers in there.items():
        rows = [pair(i, language) for i in numbers]
        write(tmp_path / "root", f"google/xtreme/PAWS-X.{language}/validation", rows)
    # German has no translations in English; Japanese has some in German.
    assert drawn(splits, "pawsx/de", 20) == nested_subset(100, 20, 0, "task").tolist()
    german, japanese = ({list(there[la])[i] for i in drawn(splits, f"pawsx/{la}", 20)} for la in ("de", "ja"))
    assert len(german & japanese) >= 18
    pairs = [[TextPair(*map(str, pair(i, la).values())) for i in there[la]] for la in ("de", "en")]
    with pytest.raises(ValueError, match="its 100 examples and the 30 of the other language have no ids"):
        joined(*pairs)

"""The nine tasks of XTREME: their rows in each language, whose rows they train on, what is refused."""

from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from benchmark_rows import write, write_root
from conftest import REPOSITORY, Command, run
from datasets import ClassLabel, Dataset, Features

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Question, Sentence
from xlt.data.multilingual import _languages_of
from xlt.data.sentence_files import SentenceFiles
from xlt.data.sources import RawSplit
from xlt.datamodule import TransferData
from xlt.evaluation.groups import GROUPS
from xlt.kinds.task import Task
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits

TARGETS = [name for group in GROUPS.values() for name in group]

NUM_LANGUAGES = {
    "xnli": 15, "pawsx": 7, "udpos": 33, "panx": 40, "xquad": 11, "mlqa": 7, "tydiqa": 9, "bucc2018": 4,
    "tatoeba": 36,
}  # fmt: skip
"""Hu et al. (2020), table 1; BUCC and Tatoeba less English."""

MIRRORED = {
    "xnli": {"ar": 2490, "en": 2490, "zh": 2490, "el": 0, "ur": 0},
    "pawsx": {"en": 2000, "fr": 1992, "ko": 0},
    "udpos": {"mr": 46, "te": 131, "el": 403, "he": 0},
    "panx": {"jv": 100, "yo": 100, "sw": 1000, "ka": 0},
    "xquad": {"ar": 1190, "en": 1190, "th": 0},
    "mlqa": {"en": 1148, "ar": 517, "vi": 0},
    "tydiqa": {"sw": 2755, "en": 0},
    "tatoeba": {"jv": 205, "af": 1000, "eu": 0},
}
"""Rows of some languages, as the mirror's description counts them; 0 where it has none."""


@pytest.fixture(scope="session")
def root(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(Path(samples[0]), tmp_path_factory.mktemp("benchmark"))


def in_language(name: str, language: str) -> Task[Any]:
    return tasks.load(f"{name}/{language}" if language else name)


def examples_of(name: str, language: str, split: str, root: Path) -> list[Any]:
    task = in_language(name, language)
    parts = [part for source in task.sources for part in source.open(split, [root], language)]
    return list(read_examples(task, parts))


@pytest.mark.parametrize("name", TARGETS)
def test_task_has_the_languages_of_xtreme_and_cites_its_paper(name: str):
    task = tasks.load(name)
    assert len(set(task.languages)) == len(task.languages) == NUM_LANGUAGES[name]
    assert ("en" in task.languages) == (name not in ("bucc2018", "tatoeba"))
    assert task.licence
    assert task.citation
    text = (REPOSITORY / "xlt" / "tasks" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 50
    assert "http" in text.split('"""')[1]


def test_together_the_tasks_have_the_forty_languages_of_xtreme():
    assert len({language for name in TARGETS for language in tasks.load(name).languages}) == 40


@pytest.mark.parametrize("name", MIRRORED)
def test_task_reads_every_row_of_a_language(name: str, mirror: Path):
    split = "test" if tasks.load(name).only_test else "validation"
    for language, count in MIRRORED[name].items():
        if count:
            task = in_language(name, language)
            assert sum(map(task.is_labelled, examples_of(name, language, split, mirror))) == count
        else:
            with pytest.raises(FileNotFoundError):
                in_language(name, language).sources[0].open(split, [mirror], language)


def test_bucc_reads_each_distinct_sentence_once_and_every_gold_pair(mirror: Path):
    found = examples_of("bucc2018", "zh", "validation", mirror)
    sides = Counter(sentence.side for sentence in found)
    lines = [len((mirror / "bucc2018" / f"zh-en.dev.{end}").read_text().splitlines()) for end in ("zh", "en")]
    assert [sum(s.copies for s in found if s.side == side) for side in (0, 1)] == lines == [8624, 13589]
    assert all(sides[side] <= count for side, count in enumerate(lines))
    gold = (mirror / "bucc2018" / "zh-en.dev.gold").read_text().split("\n")[:-1]
    assert sorted(pair for sentence in found for pair in sentence.pairs) == sorted(gold)


def test_xnli_keeps_the_languages_of_one_file_apart(root: Path):
    path = root / "google" / "xtreme" / "XNLI" / "validation.parquet"
    rows = pq.read_table(path).to_pylist()
    for language in ("ar", "de", "en"):
        found = [example.first for example in examples_of("xnli", language, "validation", root)]
        assert found == [row["sentence1"] for row in rows if row["language"] == language]


def test_tydiqa_trains_and_validates_in_english_on_other_passages(root: Path):
    train, held = (examples_of("tydiqa", "", split, root) for split in ("train", "validation"))
    everything = pq.read_table(root / "google/xtreme/tydiqa/train.parquet").to_pylist()
    english = [row["id"] for row in everything if row["id"].startswith("english")]
    assert sorted(e.id for e in train + held) == sorted(english)
    assert train
    assert held
    assert not {e.context for e in train} & {e.context for e in held}


def test_the_mirrors_tydiqa_holds_about_a_tenth_out(mirror: Path):
    train, held = (examples_of("tydiqa", "", split, mirror) for split in ("train", "validation"))
    assert len(train) + len(held) == 3696
    assert 0.07 < len(held) / 3696 < 0.13
    assert all(isinstance(example, Question) for example in train)


def data_of(root: Path, cache: str, encoder: str, *names: str) -> TransferData:
    sizes = {"tokens_per_micro_batch": 1024, "max_length": 128, "stride": 32}
    return TransferData(list(names), root=str(root), encoder=encoder, cache=cache, **sizes)


def test_xnli_trains_on_mnli_and_validates_on_itself(root: Path, cache: str, tiny_encoder: str):
    data = data_of(root, cache, tiny_encoder, "xnli", "mnli")
    data.prepare_data()
    stored = data.encoded
    assert stored["xnli"]["train"].meta.content == stored["mnli"]["train"].meta.content
    assert stored["xnli"]["train"].folder == stored["mnli"]["train"].folder  # encoded once
    assert stored["xnli"]["validation"].meta.examples == 40
    assert data.tasks["xnli"].head_key == data.tasks["mnli"].head_key == "mnli"


def test_xquad_and_mlqa_train_and_validate_on_squad(root: Path, cache: str, tiny_encoder: str):
    data = data_of(root, cache, tiny_encoder, "xquad", "squad_v1")
    data.prepare_data()
    for split in ("train", "validation"):
        assert data.encoded["xquad"][split].folder == data.encoded["squad_v1"][split].folder
    assert {tasks.load(name).head_key for name in ("xquad", "mlqa", "squad_v1")} == {"squad_v1"}
    assert tasks.load("tydiqa").head_key == "tydiqa"


def test_a_task_that_is_only_tested_is_not_trained(
    root: Path, tmp_path: Path, tiny_run: Command, capsys: Any
):
    changes = {"data.tasks": "[tatoeba]", "data.root": root}
    assert run(tiny_run(tmp_path / "run", changes)) == 2
    message = capsys.readouterr().err
    assert "tatoeba" in message
    assert "no training rows" in message
    assert "xlt evaluate" in message


def test_the_other_task_must_have_the_same_classes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_encoder: str
):
    package = tmp_path / "otherlab"
    package.mkdir()
    text = (REPOSITORY / "xlt" / "tasks" / "xnli.py").read_text()
    changed = text.replace(
        '("entailment", "neutral", "contradiction")', '("contradiction", "neutral", "entailment")'
    )
    (package / "swapped.py").write_text(changed)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = data_of(root, str(tmp_path / "cache"), tiny_encoder, "otherlab.swapped")
    with pytest.raises(ValueError, match="reads the rows of mnli, whose classes are"):
        data.prepare_data()


def test_an_unknown_tag_is_refused_with_its_row(root: Path, tmp_path: Path, tiny_encoder: str):
    write(tmp_path, "PAN-X.en", "validation", [{"tokens": ["a"], "ner_tags": [9]}])
    text = TextEncoder(load_tokenizer(tiny_encoder), 64, 0)
    with pytest.raises(ValueError, match=r"PAN-X.en/validation.parquet, row 0 \(task panx/en\)"):
        Splits([tmp_path], tmp_path / "cache", text).open(in_language("panx", "en"), "validation")


# Files of sentences

SOURCE = SentenceFiles("bucc2018", "Fetch them")


def put(root: Path, end: str, text: str) -> None:
    path = root / "bucc2018" / f"de-en.dev.{end}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    put(tmp_path, "de", "d1\tHallo\nd2\tWelt\nd3\tHallo\n")
    put(tmp_path, "en", "e1\tHello\ne2\tWorld\n")
    put(tmp_path, "gold", "d3\te1\nd2\te2\n")
    return tmp_path


def test_a_repeated_sentence_is_read_once_and_keeps_the_pairs_of_its_copies(files: Path):
    task = tasks.load("bucc2018/de")
    found = list(read_examples(task, SOURCE.open("validation", [files], "de")))
    assert found == [
        Sentence("Hallo", 0, ("d3\te1",), 2, "d1"),
        Sentence("Welt", 0, ("d2\te2",), 1, "d2"),
        Sentence("Hello", 1, (), 1, "e1"),
        Sentence("World", 1, (), 1, "e2"),
    ]


@pytest.mark.parametrize(
    ("end", "text", "message"),
    [
        ("gold", "d9\te1\n", r"de-en.dev.gold, line 1: the id d9 is not in .*de-en.dev.de"),
        ("gold", "d1\te9\n", r"de-en.dev.gold, line 1: the id e9 is not in .*de-en.dev.en"),
        ("gold", "d1 e1\n", r"de-en.dev.gold, line 1: no tab"),
        ("en", "e1\tHello\ne1\tWorld\n", r"de-en.dev.en, line 2: the id e1 occurs twice"),
        ("de", "Hallo\n", r"de-en.dev.de, line 1: no tab"),
    ],
)
def test_files_of_sentences_that_do_not_fit_are_refused(files: Path, end: str, text: str, message: str):
    put(files, end, text)
    with pytest.raises(ValueError, match=message):
        SOURCE.open("validation", [files], "de")


def test_missing_files_of_sentences_say_how_to_get_them(tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"de-en.dev.en and .*de-en.dev.gold cannot be found in .*Fetch"
    ):
        SOURCE.open("validation", [tmp_path], "de")


def test_a_missing_file_of_sentences_is_named_alone(files: Path, tmp_path: Path):
    next(files.glob("*/de-en.dev.gold")).unlink()
    with pytest.raises(FileNotFoundError, match=r"^\S+de-en.dev.gold cannot be found in"):
        SOURCE.open("validation", [tmp_path / "other", files], "de")


def test_a_language_that_mlqa_cannot_score_is_refused():
    with pytest.raises(ValueError, match=r"task mlqa/sw: MLQA has rules for .* xquad/sw"):
        tasks.load("mlqa/sw")
    assert tasks.load("mlqa/vi").language == "vi"


@pytest.mark.parametrize(("name", "column"), [("panx", "ner_tags"), ("udpos", "pos_tags")])
@pytest.mark.parametrize("tag", [-1, 17])
def test_tags_that_are_none_are_refused(name: str, column: str, tag: int):
    read = tasks.load(name).read
    with pytest.raises(ValueError, match=rf"class {tag} is not between 0 and "):
        read({"tokens": ["a", "b"], column: [0, tag]})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"label": 1}], r"row 0: its language cannot be determined, because there is no column 'language'"),
        (
            [{"language": "de"}, {"language": None}],
            r"row 1: its language cannot be determined, because it is None, not",
        ),
    ],
)
def test_rows_whose_language_cannot_be_told_are_refused(rows: list[dict[str, Any]], message: str):
    part = RawSplit("x", "there.parquet", None, message, lambda: Dataset.from_list(rows))
    with pytest.raises(ValueError, match=rf"there\.parquet, {message}"):
        _languages_of(part, itemgetter("language"))


# A language in another data root


def write_xnli(root: Path, split: str, languages: list[str]) -> None:
    """XNLI with a row in each language."""
    rows = [
        {"sentence1": f"{code} {root.name}", "sentence2": "b", "language": code, "gold_label": "neutral"}
        for code in languages
    ]
    write(root, "XNLI", split, rows)


def test_a_language_that_the_first_root_lacks_is_found_in_the_next(tmp_path: Path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.mkdir()
    write_xnli(two, "validation", ["en", "de"])
    write_xnli(three, "validation", ["de", "sw"])
    found = {}
    for code in ("en", "de", "sw"):
        task = in_language("xnli", code)
        (part,) = task.sources[0].open("validation", [one, two, three], code)
        found[code] = [example.first for example in read_examples(task, [part])]
    # The first root that has a language wins.
    assert found == {"en": ["en two"], "de": ["de two"], "sw": ["sw three"]}


def test_a_root_with_another_split_alone_does_not_hide_the_next(tmp_path: Path):
    write_xnli(tmp_path / "one", "validation", ["en"])
    write_xnli(tmp_path / "two", "test", ["en", "sw"])
    roots = [tmp_path / "one", tmp_path / "two"]
    (part,) = tasks.load("xnli").sources[0].open("test", roots, "sw")
    assert part.location == str(tmp_path / "two/google/xtreme/XNLI/test.parquet")


def test_a_language_that_no_root_has_is_named_with_those_of_each(tmp_path: Path):
    write_xnli(tmp_path / "one", "validation", ["en"])
    write_xnli(tmp_path / "two", "validation", ["de"])
    roots = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(
        FileNotFoundError, match=r"one/.* no row in sw, but in en; .*two/.* no row in sw, but in de"
    ):
        tasks.load("xnli").sources[0].open("validation", roots, "sw")


def test_two_tasks_tell_the_languages_of_one_file_each_its_way(tmp_path: Path):
    part = RawSplit("x", "x.parquet", None, "one", lambda: Dataset.from_list([{"a": "en", "b": "de"}]))
    assert _languages_of(part, itemgetter("a")) == ["en"]
    assert _languages_of(part, itemgetter("b")) == ["de"]


def test_languages_may_be_classes_that_the_file_names(tmp_path: Path):
    names = ["de", "en", "sw"]
    features = Features({"language": ClassLabel(names=names)})
    rows = Dataset.from_dict({"language": [2, 0]}, features=features)
    part = RawSplit("x", "x.parquet", None, "named", lambda: rows)
    assert _languages_of(part, itemgetter("language")) == ["de", "sw"]

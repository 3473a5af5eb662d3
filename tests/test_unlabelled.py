"""Rows without a label, in every spelling: dropped and counted, and a set of them is shown as missing."""

import shutil
from collections.abc import Callable
from json import loads
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Command, run

from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import TaggedWords
from xlt.data.sources import Local
from xlt.evaluate import evaluate
from xlt.kinds import Tagging
from xlt.splits.encoding import Unlabelled, encode_split
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits
from xlt.tasks import load

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")

SPELLINGS = {
    "number": pa.array([-1, -1]),
    "null": pa.array([None, None], pa.int64()),
    "null text": pa.array([None, None], pa.string()),
    "nan": pa.array([float("nan")] * 2, pa.float64()),
    "text": pa.array(["-1", "-1"]),
    "empty": pa.array(["", ""]),
    "blank": pa.array(["  ", " "]),
    "mixed": pa.array(["", None]),
}

ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "mnli": ("nyu-mll/glue/mnli", {"premise": ["a", "b"], "hypothesis": ["c", "d"]}, "label"),
    "qqp": ("nyu-mll/glue/qqp", {"question1": ["a", "b"], "question2": ["c", "d"]}, "label"),
    "pawsx": ("google/xtreme/PAWS-X.en", {"sentence1": ["a", "b"], "sentence2": ["c", "d"]}, "label"),
    "xnli/en": (
        "google/xtreme/XNLI",
        {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "language": ["en"] * 2},
        "gold_label",
    ),
    "hellaswag": ("Rowan/hellaswag/default", {"ctx": ["a", "b"], "endings": [list("abcd")] * 2}, "label"),
    "cosmosqa": (
        "allenai/cosmos_qa/default",
        {name: ["a", "b"] for name in ("id", "context", "question", *(f"answer{i}" for i in range(4)))},
        "label",
    ),
    "commonsenseqa": (
        "tau/commonsense_qa/default",
        {
            "id": ["a", "b"],
            "question": ["c", "d"],
            "choices": [{"label": list("ABCDE"), "text": list("vwxyz")}] * 2,
        },
        "answerKey",
    ),
}


def write(root: Path, folder: str, columns: dict[str, Any], split: str = "train") -> None:
    """A file of a mirror."""
    path = root / folder / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def labelled(name: str, root: Path) -> list[bool]:
    """Which of the task's rows have a label."""
    task = load(name)
    parts = task.sources[0].open("train", [root], task.language)
    return [task.is_labelled(example) for example in read_examples(task, parts)]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_a_label_is_one_in_every_spelling(name: str, spelling: str, tmp_path: Path) -> None:
    folder, columns, label = ROWS[name]
    write(tmp_path, folder, {**columns, label: SPELLINGS[spelling]})
    assert labelled(name, tmp_path) == [False, False]


@pytest.mark.parametrize(
    ("name", "label"), [("mnli", 0), ("pawsx", "1"), ("hellaswag", "3"), ("cosmosqa", 2)]
)
def test_the_rows_beside_it_stay(name: str, label: Any, tmp_path: Path) -> None:
    folder, columns, column = ROWS[name]
    write(tmp_path, folder, {**columns, column: [None, label]})
    assert labelled(name, tmp_path) == [False, True]


@pytest.mark.parametrize(
    "tags",
    [
        pa.array([None] * 2, pa.list_(pa.int64())),
        pa.array([[]] * 2, pa.list_(pa.int64())),
        pa.array([[-1, -1]] * 2),
        pa.array([[None, None]] * 2, pa.list_(pa.int64())),
        pa.array([["-1", "-1"]] * 2),
        pa.array([["", " "]] * 2),
    ],
)
@pytest.mark.parametrize(
    ("name", "folder", "column"),
    [
        ("panx", "google/xtreme/PAN-X.en", "ner_tags"),
        ("udpos", "google/xtreme/udpos.English", "pos_tags"),
        ("ccg", "ccg/default", "tags"),
    ],
)
def test_a_sentence_without_tags_has_no_label(
    name: str, folder: str, column: str, tags: pa.Array, tmp_path: Path
) -> None:
    write(tmp_path, folder, {"tokens": [["Oslo", "is"]] * 2, column: tags})
    assert labelled(name, tmp_path) == [False, False]
    text = TextEncoder(load_tokenizer(MINI), 64, 16)
    with pytest.raises(Unlabelled, match="no row has a label"):
        Splits([tmp_path], tmp_path / "cache", text).open(load(name), "train")


@pytest.mark.parametrize(
    "answers",
    [
        None,
        {"text": None, "answer_start": None},
        {"text": [None], "answer_start": [None]},
        {"text": [], "answer_start": []},
    ],
)
@pytest.mark.parametrize("name", ["squad_v1", "xquad", "mlqa"])
def test_a_question_without_answers_has_no_label(name: str, answers: Any) -> None:
    task = load(name)
    row = {"id": "q", "question": "who", "context": "the man", "answers": answers}
    assert not task.is_labelled(task.read(row))


def test_a_sentence_with_some_tags_is_refused(tmp_path: Path) -> None:
    task = Tagging(
        name="own",
        source=Local("own", "Ask."),
        read=lambda row: TaggedWords(tuple(row["tokens"]), tuple(row["tags"])),
    )
    write(tmp_path, "own/default", {"tokens": [["Oslo", "is"]], "tags": [["N", ""]]})
    with pytest.raises(ValueError, match="the word 'is' has no tag, but other words of the sentence have"):
        list(read_examples(task, task.source.open("train", [tmp_path])))  # type: ignore[union-attr]


def test_the_tags_of_untagged_sentences_are_no_classes(tmp_path: Path) -> None:
    task = load("ccg")
    write(tmp_path, "ccg/default", {"tokens": [["a"], ["b"]], "tags": [["N"], [""]]})
    found = encode_split(
        task,
        task.sources[0].open("train", [tmp_path]),
        TextEncoder(load_tokenizer(MINI), 64, 16),
        tmp_path / "cache" / "ccg",
    )
    assert (list(found.meta.labels), found.meta.examples, found.meta.dropped) == (["N"], 1, 1)


def test_the_message_of_a_wrong_label_allows_what_is_allowed(tmp_path: Path) -> None:
    folder, columns, _ = ROWS["pawsx"]
    write(tmp_path, folder, {**columns, "label": ["1", "2"]})
    with pytest.raises(
        ValueError, match=r"label '2' is not one of: 0 0, 1 1\. Give null, -1 or an empty text for"
    ):
        labelled("pawsx", tmp_path)


def test_annotators_of_snli_who_do_not_agree_give_no_label(tmp_path: Path) -> None:
    folder, columns, _ = ROWS["mnli"]
    write(tmp_path, folder, {**columns, "label": ["-", "neutral"]})
    assert labelled("mnli", tmp_path) == [False, True]


# A whole evaluation


@pytest.fixture(scope="module")
def tagger_and_pairs(
    tiny_run: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Callable[[Path, str, pa.Array], None]]:
    """A run of PAWS-X and PAN-X, and what writes their test sets."""
    folder = tmp_path_factory.mktemp("unlabelled")
    pairs, root = ROWS["pawsx"], folder / "root"

    def write_test(where: Path, column: str, labels: pa.Array) -> None:
        tags = pa.array([[5, 0]] * 2)
        write(where, pairs[0], {**pairs[1], "label": labels if column == "label" else ["1", "0"]}, "test")
        tags = labels if column == "ner_tags" else tags
        write(where, "google/xtreme/PAN-X.en", {"tokens": [["Oslo", "is"]] * 2, "ner_tags": tags}, "test")

    for split in ("train", "validation"):
        write(root, pairs[0], {**pairs[1], "label": ["1", "0"]}, split)
        write(root, "google/xtreme/PAN-X.en", {"tokens": [["Oslo", "is"]], "ner_tags": [[5, 0]]}, split)
    changes = {"data.tasks": "[pawsx, panx]", "data.root": root, "data.validation_volume": None}
    assert (
        run(tiny_run(folder / "run", {**changes, "trainer.max_steps": 2, "trainer.val_check_interval": 2}))
        == 0
    )
    return folder / "run", write_test


@pytest.mark.parametrize(
    ("column", "labels", "missing", "scored"),
    [
        *(("label", SPELLINGS[spelling], "pawsx", "panx") for spelling in ("number", "blank", "null text")),
        ("ner_tags", pa.array([[-1, -1]] * 2), "panx", "pawsx"),
        ("ner_tags", pa.array([None, None], pa.list_(pa.int64())), "panx", "pawsx"),
    ],
)
def test_a_set_without_labels_is_missing_and_the_rest_is_scored(
    column: str,
    labels: pa.Array,
    missing: str,
    scored: str,
    tagger_and_pairs: tuple[Path, Callable[[Path, str, pa.Array], None]],
    tmp_path: Path,
) -> None:
    trained, write_test = tagger_and_pairs
    write_test(tmp_path / "root", column, labels)
    settings = {
        "out": tmp_path / "out", "root": tmp_path / "root", "cache": tmp_path / "cache",
        "runs": f"[{trained}]",
        "tasks": "[pawsx, panx]", "split": "test", "accelerator": "cpu", "max_length": 128, "stride": 32,
    }  # fmt: skip
    assert run([f"--{key}={value}" for key, value in settings.items()], evaluate) == 0
    found = loads((tmp_path / "out" / "results.json").read_text())
    assert list(found[scored]) == ["en"]
    assert not found.get(missing)
    gaps = loads((tmp_path / "out" / "summary.json").read_text())["missing"]
    reasons = {gap["reason"] for gap in gaps if (gap["task"], gap["language"]) == (missing, "en")}
    assert len(reasons) == 1
    assert "no row has a label" in reasons.pop()
    shutil.rmtree(tmp_path / "out")

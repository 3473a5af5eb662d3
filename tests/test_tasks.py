"""The tasks: all load, read real rows, and a new one is one file."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import NINE, REPOSITORY, Command, run
from datasets import Dataset
from PIL import Image

import xlt.kinds
from xlt import tasks
from xlt.batch.predictions import Predictions
from xlt.data.examples import Choices, Question, TaggedWords, Text, TextPair
from xlt.data.sources import RawSplit, Split
from xlt.datamodule import TransferData
from xlt.kinds import Classification, MultipleChoice, SpanExtraction, Tagging, XtremeQuestions
from xlt.kinds.task import example_class, scores_of
from xlt.splits.opening import SPLITS
from xlt.splits.reading import read_examples

SHAPES = {
    "anli_plus": (Classification, TextPair),
    "mnli": (Classification, TextPair),
    "qqp": (Classification, TextPair),
    "squad_v1": (SpanExtraction, Question),
    "squad_v2": (SpanExtraction, Question),
    "hellaswag": (MultipleChoice, Choices),
    "ccg": (Tagging, TaggedWords),
    "cosmosqa": (MultipleChoice, Choices),
    "commonsenseqa": (MultipleChoice, Choices),
}
CHOICES = {"hellaswag": 4, "cosmosqa": 4, "commonsenseqa": 5}
PAGE = REPOSITORY / "docs" / "add-a-task.md"


def read_some(task: str, split: Split, roots: list[Path], most: int) -> list[Any]:
    """Examples of the first rows of each of the task's sources."""
    loaded = tasks.load(task)
    parts = [part for source in loaded.sources for part in source.open(split, roots)]
    return [e for part in parts for e in islice(read_examples(loaded, [part]), most)]


def test_the_nine_tasks_are_there():
    assert set(NINE) <= set(tasks.known())


@pytest.mark.parametrize("name", NINE)
def test_task_is_a_value_of_its_kind_and_says_where_it_comes_from(name: str):
    task = tasks.load(name)
    kind, _ = SHAPES[name]
    assert type(task) is kind
    assert task.name == name
    assert task.licence
    assert re.search(r"\b(19|20)\d\d\b", task.citation), "a citation has a year"
    assert task.sources


@pytest.mark.parametrize("name", NINE)
def test_task_file_is_short_and_cites_its_paper(name: str):
    text = (REPOSITORY / "xlt" / "tasks" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 40
    assert "https://" in text.split('"""')[1]


def test_hub_names_are_those_the_specification_gives():
    found = {n: [getattr(s, "repository", s) for s in tasks.load(n).sources] for n in NINE if n != "ccg"}
    assert found == {
        "anli_plus": ["nyu-mll/glue", "stanfordnlp/snli", "facebook/anli"],
        "mnli": ["nyu-mll/glue"],
        "qqp": ["nyu-mll/glue"],
        "squad_v1": ["rajpurkar/squad"],
        "squad_v2": ["rajpurkar/squad_v2"],
        "hellaswag": ["Rowan/hellaswag"],
        "cosmosqa": ["allenai/cosmos_qa"],
        "commonsenseqa": ["tau/commonsense_qa"],
    }


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NINE)
def test_task_reads_the_sample_rows(name: str, split: Split, samples: list[str]):
    examples = read_some(name, split, [Path(root) for root in samples], most=2000)
    assert len(examples) >= 30
    assert {type(example) for example in examples} == {SHAPES[name][1]}
    check_values(name, examples)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NINE)
def test_task_reads_the_rows_of_the_larger_mirror(name: str, split: Split, mirror: Path):
    examples = read_some(name, split, [mirror], most=500)
    assert len(examples) >= 500
    assert {type(example) for example in examples} == {SHAPES[name][1]}
    check_values(name, examples)


def check_values(name: str, examples: list[Any]) -> None:
    """The examples hold what the data set's description says."""
    if SHAPES[name][1] is TextPair:
        assert {e.label for e in examples} <= set(range(len(tasks.load(name).labels)))
        assert all(e.first and e.second for e in examples)
    elif name in CHOICES:
        assert {len(e.choices) for e in examples} == {CHOICES[name]}
        assert {e.label for e in examples} == set(range(CHOICES[name]))
        assert all(e.context for e in examples)
    elif SHAPES[name][1] is Question:
        for e in examples:
            for answer, start in zip(e.answers, e.starts, strict=True):
                assert e.context[start:].startswith(answer)
        share = sum(bool(e.answers) for e in examples) / len(examples)
        assert share == 1 if name == "squad_v1" else 0.3 < share < 0.7
    else:
        assert all(len(e.words) == len(e.tags) > 0 for e in examples)
        assert any("/" in tag for e in examples for tag in e.tags)


def write(root: Path, path: str, rows: Mapping[str, list[Any]]) -> None:
    """A file of a mirror."""
    file = root / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(rows)), file)


def pairs(*labels: int) -> dict[str, list[Any]]:
    """Rows of natural language inference with these labels."""
    texts = [f"Sentence number {i}." for i in range(len(labels))]
    return {"premise": texts, "hypothesis": texts, "label": list(labels)}


def test_anli_plus_is_the_sum_of_its_parts_without_unlabelled_rows(tiny_encoder: str, tmp_path: Path):
    root = tmp_path / "root"
    write(root, "nyu-mll/glue/mnli/train", pairs(0, 1, 2))
    write(root, "stanfordnlp/snli/plain_text/train", pairs(0, -1, 2, -1, 1))
    for n, labels in ((1, (0,)), (2, (1, 1)), (3, (2, 0, 1, 2))):
        write(root, f"facebook/anli/plain_text/train_r{n}", pairs(*labels))
        write(root, f"facebook/anli/plain_text/dev_r{n}", pairs(0))
    write(root, "nyu-mll/glue/mnli/validation_matched", pairs(1))
    write(root, "stanfordnlp/snli/plain_text/validation", pairs(-1, 2))
    data = TransferData(
        ["anli_plus"],
        root=str(root),
        encoder=tiny_encoder,
        cache=str(tmp_path / "cache"),
        max_length=64,
        stride=16,
    )
    data.prepare_data()
    stored = data.encoded["anli_plus"]
    # Training: 3 MNLI + 3 of 5 SNLI + 1 + 2 + 4 ANLI; validation: 1 + 1 of 2 + 3.
    assert (stored["train"].meta.examples, stored["train"].meta.dropped) == (13, 2)
    assert (stored["validation"].meta.examples, stored["validation"].meta.dropped) == (5, 1)
    targets = stored["train"].features.scalars("targets").tolist()
    assert targets == [*(0, 1, 2), *(0, 2, 1), *(0,), *(1, 1), *(2, 0, 1, 2)]
    assert data.num_examples() == {"anli_plus": 13}


def test_anli_plus_of_the_samples_is_the_sum_of_their_rows(samples: list[str]):
    roots = [Path(root) for root in samples]
    (root, *_) = roots
    for split, mnli, snli, anli in (
        ("train", "train", "train", "train"),
        ("validation", "validation_matched", "validation", "dev"),
    ):
        files = [
            root / "nyu-mll/glue/mnli" / f"{mnli}.parquet",
            root / "stanfordnlp/snli/plain_text" / f"{snli}.parquet",
            *(root / "facebook/anli/plain_text" / f"{anli}_r{n}.parquet" for n in (1, 2, 3)),
        ]
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        assert len(read_some("anli_plus", split, roots, most=10**6)) == rows


# A task of one's own


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a package `mylab`."""
    (tmp_path / "mylab").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def whole_task() -> str:
    """The task file that docs/add-a-task.md shows."""
    found, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "SciTail" in found
    return found


def test_the_shown_task_trains_from_a_module_outside_the_package(own_folder: Path, tiny_run: Command):
    text = whole_task()
    assert len(text.splitlines()) < 40
    (own_folder / "mylab" / "scitail.py").write_text(text)
    labels = ["entailment", "neutral"] * 10
    rows = {
        "sentence1": [f"Water boils at {i} degrees." for i in range(20)],
        "sentence2": [f"It is {i} degrees hot." for i in range(20)],
        "gold_label": labels,
    }
    for split in ("train", "validation"):
        write(own_folder / "root", f"allenai/scitail/snli_format/{split}", rows)
    folder = own_folder / "run"
    changes = {
        "data.tasks": "[mylab.scitail]",
        "data.root": own_folder / "root",
        "data.cache": own_folder / "cache",
        "data.validation_volume": None,
        "trainer.max_steps": 3,
        "trainer.val_check_interval": 3,
        "trainer.log_every_n_steps": 1,
    }
    assert run(tiny_run(folder, changes)) == 0
    results = json.loads((folder / "results.json").read_text())
    assert list(results) == ["scitail", "run"]
    assert results["scitail"]["rows"] == 20
    assert results["scitail"]["chance"] == 50
    assert results["run"]["step"] == 3


def test_a_task_of_ones_own_mixes_with_those_of_the_package(own_folder: Path):
    (own_folder / "mylab" / "scitail.py").write_text(whole_task())
    assert tasks.load("mylab.scitail").name == "scitail"
    assert tasks.load("mnli").name == "mnli"


def test_keys_name_a_task_of_ones_own_with_or_without_its_module(own_folder: Path, tiny_encoder: str):
    (own_folder / "mylab" / "scitail.py").write_text(whole_task())
    for name in ("scitail", "mylab.scitail"):
        own, both = {name: 5}, {name: 3.0, "mnli": 1.0}
        sizes = {"max_length": 64, "stride": 16, "encoder": tiny_encoder}
        data = TransferData(["mylab.scitail", "mnli"], volume=own, weights=both, **sizes)
        assert data.weights == {"scitail": 3.0, "mnli": 1.0}


def test_two_tasks_of_one_name_are_refused_with_their_modules(own_folder: Path):
    (own_folder / "mylab" / "mnli.py").write_text(whole_task())
    message = r"data\.tasks has mnli twice, by mnli and mylab\.mnli: leave one out, or rename its file"
    with pytest.raises(ValueError, match=message):
        tasks.load_all(["mnli", "mylab.mnli"], [])
    with pytest.raises(ValueError, match="mnli twice, by mnli and mnli: name it once"):
        tasks.load_all(["mnli", "mnli"], [])


@pytest.mark.parametrize("name", ["mylab.nowhere", "nolab.scitail", "mnli2"])
def test_an_unknown_task_lists_the_known(own_folder: Path, name: str):
    with pytest.raises(ValueError, match="unknown task") as raised:
        tasks.load(name)
    assert repr(name) in str(raised.value)
    for known in NINE:
        assert known in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('labels=("good")', r"labels is the text 'good', and must be a tuple: write labels=\('good',\)"),
        ('labels=("good", "bad", "good")', "labels names good twice"),
        ("labels=(0, 1)", "labels holds 0, and must hold texts: write '0'"),
        ('labels=("good", "bad"), languages="en"', "languages is the text 'en', and must be a tuple"),
    ],
)
def test_names_that_are_no_tuple_or_stand_twice_are_refused(line: str, message: str, own_folder: Path):
    text = "from xlt.data.sources import Hub\nfrom xlt.kinds import Classification\n"
    (own_folder / "mylab" / f"odd{len(line)}.py").write_text(
        f"{text}TASK = Classification(source=Hub('a/b', 'c'), read=dict, {line})\n"
    )
    with pytest.raises(ValueError, match=message):
        tasks.load(f"mylab.odd{len(line)}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpanExtraction(source=(), read=len, num_best=0), "num_best is 0: it must be at least 1"),
        (lambda: SpanExtraction(source=(), read=len, max_answer_length=0), "max_answer_length is 0"),
        (lambda: XtremeQuestions(source=(), read=len, null_threshold=float("nan")), "null_threshold is nan"),
        (lambda: MultipleChoice(source=(), read=len, num_choices=1), "num_choices is 1: it must be at least"),
        (
            lambda: Classification(source=(), read=len).check(TextPair("a", "b", 0)),
            "the TASK names no classes. Set labels in its file",
        ),
    ],
)
def test_settings_of_a_task_that_cannot_work_are_refused(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_module_whose_task_has_another_name_for_it_is_refused(own_folder: Path):
    (own_folder / "mylab" / "other.py").write_text("task = 1\n")
    with pytest.raises(ValueError, match=r"mylab\.other has no value TASK"):
        tasks.load("mylab.other")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "read returned None, not a TextPair, which Classification takes"),
        (Text("a"), r"read returned Text\(.*, not a TextPair, which Classification takes"),
    ],
)
def test_what_read_returns_must_be_the_example_of_the_kind(made: object, message: str):
    task = Classification(source=(), read=lambda _: made, labels=("A", "B"))
    with pytest.raises(ValueError, match=message):
        list(
            read_examples(
                task, [RawSplit("rows", "rows", None, "", lambda: Dataset.from_list([{"text": "a"}]))]
            )
        )


def test_every_kind_names_its_examples():
    for kind in map(vars(xlt.kinds).__getitem__, xlt.kinds.__all__):
        assert example_class(kind).__module__ == "xlt.data.examples", kind


def test_languages_that_nothing_in_the_files_tells_are_refused(own_folder: Path):
    (own_folder / "mylab" / "deaf.py").write_text(
        "from xlt.data.files import Files\nfrom xlt.kinds import Classification\n"
        "TASK = Classification(source=Files('a.csv', split='part'), read=dict, labels=('A',), "
        "languages=('en', 'de'))\n"
    )
    message = r"languages names de, but nothing in a\.csv tells the language .*Set language of Files"
    with pytest.raises(ValueError, match=message):
        tasks.load("mylab.deaf")


def test_a_tag_that_is_no_label_of_the_task_is_refused_in_training():
    task = Tagging(source=(), read=len, labels=("O", "NAME"))
    examples = [TaggedWords(("Ann", "ran"), ("NAME", "O")), TaggedWords(("in", "Rome"), ("O", "NAM"))]
    task.check(examples[0])
    with pytest.raises(ValueError, match=r"the word 'Rome' has the tag 'NAM', not one of: O, NAME"):
        task.check(examples[1])
    # A tag of test rows that no training row has is an error of the model, and no fault of the rows.
    settled = Tagging(source=(), read=len).with_labels_of(examples[:1])
    assert settled.labels == ("NAME", "O")
    settled.check(examples[1])


def test_the_shown_task_with_images_reads_paths_beside_its_rows(own_folder: Path):
    _, shapes, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (own_folder / "mylab" / "shapes.py").write_text(shapes)
    Image.new("RGB", (16, 16), "red").save(own_folder / "red.png")
    row = {"image": "red.png", "statement": "A red square.", "label": "true", "language": "en"}
    pq.write_table(pa.Table.from_pylist([row]), own_folder / "shapes_train.parquet")
    task = tasks.load("mylab.shapes")
    (raw,) = task.sources[0].open("train", [own_folder])
    (example,) = read_examples(task, [raw])
    assert (example.first, example.label) == ("A red square.", 1)
    assert example.images[0].read() == (own_folder / "red.png").read_bytes()


def own_kind() -> str:
    """The kind of one's own that docs/add-a-task.md shows, and a task of it."""
    *_, kind = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    task = whole_task().split('"""', 2)[2].replace("TASK = Classification(", "TASK = ByError(")
    return kind + task


def test_the_shown_kind_is_scored(own_folder: Path):
    (own_folder / "mylab" / "scitail.py").write_text(own_kind())
    task = tasks.load("mylab.scitail")
    features = Columns({"targets": np.array([0, 1, 1, 0])})
    found = task.score(Predictions({"prediction": np.array([0, 1, 0, 0])}, features, np.arange(4)))
    assert (found.metrics, found.details) == ({"accuracy": 75.0}, {"error": 25.0})


class Columns:
    """Columns with one value a row."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._columns = columns

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._columns[column][rows], np.ones(len(rows), np.int64)


def test_a_kind_with_other_arguments_or_another_result_is_refused(own_folder: Path):
    text = own_kind()
    (own_folder / "mylab" / "scitail.py").write_text(
        text.replace("predictions: Predictions) ->", "outputs: object, features: object, rows: object) ->")
    )
    with pytest.raises(ValueError, match="takes self, outputs, features, rows, but must"):
        tasks.load("mylab.scitail")
    (own_folder / "mylab" / "other.py").write_text(text.replace("return scores._replace(", "return dict("))
    features = Columns({"targets": np.array([0, 1])})
    predictions = Predictions({"prediction": np.array([0, 1])}, features, np.arange(2))
    with pytest.raises(ValueError, match="score returned a value of type dict: return"):
        scores_of(tasks.load("mylab.other"), predictions)

"""Labels by number in a file that names its classes: matched by name, whatever the order, or refused."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

import xlt.data.sources
from xlt.data.class_names import ClassNumber, matches
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Choices, TaggedWords, TextPair
from xlt.data.sources import Local
from xlt.kinds import Classification, MultipleChoice, Tagging
from xlt.kinds.task import Task
from xlt.splits.encoding import encode_split
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits
from xlt.tasks import load

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")
NLI: tuple[str, ...] = ("entailment", "neutral", "contradiction")
TEXT = Value("string")


def write(root: Path, path: str, columns: dict[str, Any], **features: Any) -> Path:
    """A file of a mirror as `datasets` writes it, with the features of its schema."""
    file = root / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=Features(features)).to_parquet(str(file))
    return file


def write_pairs(root: Path, path: str, columns: tuple[str, str], names: list[str], labels: list[int]) -> Path:
    """Pairs of texts, with classes of these names."""
    texts = {name: [f"{name} {i}" for i in range(len(labels))] for name in columns}
    features = dict.fromkeys(columns, TEXT) | {"label": ClassLabel(names=names)}
    return write(root, path, {**texts, "label": labels}, **features)


def labels_of(name: str, root: Path, split: Any = "train") -> list[str]:
    """The names of the labels of a task's rows."""
    task = load(name)
    parts = [part for source in task.sources for part in source.open(split, [root], task.language)]
    return [name for example in read_examples(task, parts) for name in task.classes(example)]


# The right value, in another order


@pytest.mark.parametrize(
    ("task", "path", "columns", "names", "labels", "expected"),
    [
        ("mnli", "nyu-mll/glue/mnli/train", ("premise", "hypothesis"), [*NLI[::-1]], [0, 1, 2], NLI[::-1]),
        (
            "qqp",
            "nyu-mll/glue/qqp/train",
            ("question1", "question2"),
            ["duplicate", "not_duplicate"],
            [0, 1],
            ("duplicate", "not_duplicate"),
        ),
        # As others spell them.
        (
            "qqp",
            "nyu-mll/glue/qqp/train",
            ("question1", "question2"),
            ["Not duplicate", "Duplicate"],
            [0, 1],
            ("not_duplicate", "duplicate"),
        ),
        (
            "pawsx",
            "google/xtreme/PAWS-X.en/train",
            ("sentence1", "sentence2"),
            ["1", "0"],
            [0, 1],
            ("1", "0"),
        ),
        (
            "pawsx",
            "google/xtreme/PAWS-X.en/train",
            ("sentence1", "sentence2"),
            ["yes", "no"],
            [0, 1],
            ("1", "0"),
        ),
        # Names that `datasets` makes up are the task's numbers.
        (
            "mnli",
            "nyu-mll/glue/mnli/train",
            ("premise", "hypothesis"),
            ["0", "1", "2"],
            [2, 0, 1],
            (NLI[2], *NLI[:2]),
        ),
    ],
)
def test_a_class_is_the_one_that_the_file_names(
    task: str,
    path: str,
    columns: tuple[str, str],
    names: list[str],
    labels: list[int],
    expected: tuple[str, ...],
    tmp_path: Path,
) -> None:
    write_pairs(tmp_path, path, columns, names, labels)
    assert labels_of(task, tmp_path) == list(expected)


def test_each_file_of_a_task_has_its_own_order(tmp_path: Path) -> None:
    orders = {"nyu-mll/glue/mnli/train": NLI, "stanfordnlp/snli/plain_text/train": NLI[::-1]}
    orders |= {
        f"facebook/anli/plain_text/train_r{i}": (NLI[i - 1], *NLI[: i - 1], *NLI[i:]) for i in (1, 2, 3)
    }
    for path, names in orders.items():
        write_pairs(tmp_path, path, ("premise", "hypothesis"), list(names), [0, 1, 2])
    assert labels_of("anli_plus", tmp_path) == [name for names in orders.values() for name in names]


@pytest.mark.parametrize(
    ("task", "path", "column", "tags"),
    [
        ("panx", "google/xtreme/PAN-X.en/train", "ner_tags", ["B-PER", "I-PER", "O", "B-LOC"]),
        ("udpos", "google/xtreme/udpos.English/train", "pos_tags", ["PROPN", "PROPN", "ADP", "NOUN"]),
        ("ccg", "ccg/default/train", "tags", ["N/N", "N", "(S\\NP)/NP", "N"]),
    ],
)
def test_tags_are_those_that_the_file_names(
    task: str, path: str, column: str, tags: list[str], tmp_path: Path
) -> None:
    names = sorted({*load(task).labels, *tags}, reverse=True)
    columns = {"tokens": [["Anna", "Berg", "in", "Oslo"]], column: [[names.index(tag) for tag in tags]]}
    write(tmp_path, path, columns, tokens=List(TEXT), **{column: List(ClassLabel(names=names))})
    assert labels_of(task, tmp_path) == tags


def test_the_hub_is_read_by_name_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_the_hub(names: list[str]) -> Dataset:
        features = Features({"premise": TEXT, "hypothesis": TEXT, "label": ClassLabel(names=names)})
        rows = {"premise": ["a"] * 3, "hypothesis": ["b"] * 3, "label": [0, 1, 2]}
        made = Dataset.from_dict(rows, features=features)
        made._fingerprint = "the same"
        return made

    # Another test of this process may have found no hub.
    monkeypatch.setattr(xlt.data.sources, "_UNREACHABLE", set())
    task = load("mnli")
    found = []
    for names in (list(NLI), list(NLI[::-1])):
        monkeypatch.setattr(xlt.data.sources, "load_dataset", lambda *_, names=names, **__: on_the_hub(names))
        parts = task.sources[0].open("train", [])
        assert [n for e in read_examples(task, parts) for n in task.classes(e)] == names
        found.append(parts[0].fingerprint)
    assert found[0] != found[1]


def test_the_order_of_the_names_makes_other_encoded_rows(tmp_path: Path) -> None:
    task, folders = load("mnli"), []
    splits = Splits([tmp_path], tmp_path / "cache", TextEncoder(load_tokenizer(MINI), 64, 16))
    for names in (list(NLI), list(NLI[::-1])):
        write_pairs(tmp_path, "nyu-mll/glue/mnli/train", ("premise", "hypothesis"), names, [0, 1, 2])
        folders.append(splits.folder(task, "train", splits.raw_splits(task, "train")))
    assert folders[0] != folders[1]


def test_a_file_that_names_no_classes_is_read_by_number(tmp_path: Path) -> None:
    columns = {"premise": ["a"] * 3, "hypothesis": ["b"] * 3, "label": [2, 0, 1]}
    write(tmp_path, "nyu-mll/glue/mnli/train", columns, premise=TEXT, hypothesis=TEXT, label=Value("int64"))
    assert labels_of("mnli", tmp_path) == [NLI[2], NLI[0], NLI[1]]


def test_the_schemas_of_older_versions_are_read(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "google/xtreme/PAN-X.en/train",
        {"tokens": [["Oslo"]], "ner_tags": [[5]]},
        tokens=List(TEXT),
        ner_tags=List(Value("int64")),
    )
    names = sorted(load("panx").labels)
    label = {"num_classes": 7, "names": names, "id": None, "_type": "ClassLabel"}
    for old in ({"feature": label, "length": -1, "id": None, "_type": "Sequence"}, [label]):
        info = {"info": {"features": {"ner_tags": old}}}
        table = pq.read_table(file).replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, file)
        assert labels_of("panx", tmp_path) == [names[5]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["B", "A", "C"], [1, 0, 2]),
        (["2", "0", "1"], [2, 0, 1]),
        (["choice3", "choice1", "choice2"], [2, 0, 1]),
        (["first", "second", "third"], [0, 1, 2]),
    ],
)
def test_the_name_of_a_choice_may_tell_its_place(
    names: list[str], expected: list[int], tmp_path: Path
) -> None:
    def read(row: Mapping[str, Any]) -> Choices:
        return Choices("so", ("a", "b", "c"), row["label"])

    task = MultipleChoice(name="own", source=Local("own", "Ask."), read=read, num_choices=3)
    write(tmp_path, "own/default/train", {"label": [0, 1, 2]}, label=ClassLabel(names=names))
    found = encode_split(
        task,
        task.source.open("train", [tmp_path]),  # type: ignore[union-attr]
        TextEncoder(load_tokenizer(MINI), 64, 16),
        tmp_path / "cache" / "own",
    )
    assert found.features.scalars("targets").tolist() == expected


# What does not match


def own_task(read: Any, labels: tuple[str, ...] = NLI) -> Classification:
    """A task of a user's own."""
    return Classification(name="own", source=Local("own", "Ask."), read=read, labels=labels)


def read_own(task: Task[Any], root: Path) -> list[Any]:
    """The examples of the task."""
    return list(read_examples(task, task.sources[0].open("train", [root])))


def test_other_classes_are_refused_with_both_lists(tmp_path: Path) -> None:
    file = write_pairs(
        tmp_path, "nyu-mll/glue/mnli/train", ("premise", "hypothesis"), ["entailment", "refuted"], [0, 0]
    )
    with pytest.raises(ValueError, match="column label") as caught:
        labels_of("mnli", tmp_path)
    message = str(caught.value)
    assert f"{file}, row 0 (task mnli)" in message
    assert "entailment, refuted" in message
    assert "entailment, neutral, contradiction" in message
    assert "Name the classes in the file as the task does" in message


def test_tags_of_other_classes_are_refused(tmp_path: Path) -> None:
    columns = {"tokens": [["Oslo"]], "ner_tags": [[1]]}
    names = List(ClassLabel(names=["O", "MISC"]))
    write(tmp_path, "google/xtreme/PAN-X.en/train", columns, tokens=List(TEXT), ner_tags=names)
    with pytest.raises(ValueError, match=r"column ner_tags has the classes O, MISC, but .* B-PER"):
        labels_of("panx", tmp_path)


def test_a_read_that_counts_in_another_order_than_the_file_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, "own/default/train", ("a", "b"), [*NLI[::-1]], [0, 1, 2])
    by_number = own_task(lambda row: TextPair(row["a"], row["b"], NLI[row["label"]]))
    plain = own_task(lambda row: TextPair(row["a"], row["b"], int(row["label"])))
    for task in (by_number, plain):
        with pytest.raises(
            ValueError, match=r"names class 0 'contradiction', but .* makes 'entailment' of it"
        ):
            read_own(task, tmp_path)
    in_the_files_order = own_task(lambda row: TextPair(row["a"], row["b"], NLI[::-1][row["label"]]))
    assert [NLI[example.label] for example in read_own(in_the_files_order, tmp_path)] == list(NLI[::-1])


def test_tags_counted_in_another_order_than_the_files_are_refused(tmp_path: Path) -> None:
    columns = {"tokens": [["Oslo", "is"]], "tags": [[1, 0]]}
    names = List(ClassLabel(names=["Y", "X"]))
    write(tmp_path, "own/default/train", columns, tokens=List(TEXT), tags=names)
    task = Tagging(
        name="own",
        source=Local("own", "Ask."),
        labels=("X", "Y"),
        read=lambda row: TaggedWords(tuple(row["tokens"]), tuple("XY"[tag] for tag in row["tags"])),
    )
    with pytest.raises(
        ValueError, match="column tags names class 1 'X', but the task's read makes 'Y' of it"
    ):
        read_own(task, tmp_path)
    as_they_are = replace(task, read=lambda row: TaggedWords(tuple(row["tokens"]), tuple(row["tags"])))
    assert read_own(as_they_are, tmp_path)[0].tags == ("X", "Y")


def test_a_column_of_classes_that_is_not_the_label_may_have_any(tmp_path: Path) -> None:
    columns = {"a": ["x"], "genre": [1], "label": [2]}
    genre, label = ClassLabel(names=["fiction", "letters"]), ClassLabel(names=list(NLI))
    write(tmp_path, "own/default/train", columns, a=TEXT, genre=genre, label=label)
    task = own_task(lambda row: TextPair(row["a"], str(row["genre"]), row["label"]))
    assert task.classes(read_own(task, tmp_path)[0]) == ["contradiction"]


def test_a_users_own_classes_may_be_others_if_read_maps_them(tmp_path: Path) -> None:
    write_pairs(tmp_path, "own/default/train", ("a", "b"), [*NLI], [0, 1, 2])
    task = own_task(
        lambda row: TextPair(row["a"], row["b"], "yes" if row["label"] == 0 else "no"), ("no", "yes")
    )
    assert [example.label for example in read_own(task, tmp_path)] == [1, 0, 0]


def test_an_unlabelled_row_of_a_file_with_names_stays_unlabelled(tmp_path: Path) -> None:
    write_pairs(tmp_path, "own/default/train", ("a", "b"), [*NLI[::-1]], [-1, 0])
    task = own_task(lambda row: TextPair(row["a"], row["b"], row["label"]))
    assert [task.is_labelled(example) for example in read_own(task, tmp_path)] == [False, True]


# Names


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (("False", "True"), ("no", "yes"), [0, 1]),
        (("true", "false"), ("0", "1"), [1, 0]),
        (("b-per", "o"), ("O", "B-PER"), [1, 0]),
        # A spelling decides where classes differ by nothing else.
        (("a", "A"), ("A", "a"), [1, 0]),
        (("a", "A"), ("a", "b"), None),
        (("", "y", "x"), ("x", "y"), [-1, 1, 0]),
        (("0", "1", "2"), ("1", "2", "3"), None),
        (("0", "1", "2"), ("x", "y"), None),
    ],
)
def test_names_match_in_other_spellings(
    names: tuple[str, ...], labels: tuple[str, ...], expected: list[int] | None
) -> None:
    assert matches(names, labels) == expected


def test_a_class_number_survives_a_pickle() -> None:
    found = pickle.loads(pickle.dumps(ClassNumber(1, "label", ("x", "y"))))
    assert (found, found.name, found.column) == (1, "y", "label")

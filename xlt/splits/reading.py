"""Read rows into examples. An error names the file, the row and the task."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

from xlt.data.class_names import ClassMismatch, ReadRow, check_names
from xlt.data.images import images_beside
from xlt.data.sources import RawSplit, Row
from xlt.kinds.task import Task, example_class

E = TypeVar("E")

READING_VERSION = 1
"""Version of the code that makes examples of rows: this module, and xlt.data's sources, examples, class
names, multilingual, texts, images, image rows and image sources. Raise it when a change there gives other
examples for the same rows."""


def read_examples(task: Task[E], raw_splits: Sequence[RawSplit]) -> Iterator[E]:
    """Yield the example of every row, including rows without a label.

    Raises:
        ValueError: A column is missing, or a value has the wrong type or is out of range.
    """
    return (example for example, _, _ in read_rows(task, raw_splits))


def read_rows(task: Task[E], raw_splits: Sequence[RawSplit]) -> Iterator[tuple[E, RawSplit, int]]:
    """Yield the example of every row with its raw split and the row's number there.

    Raises:
        ValueError: A column is missing, or a value has the wrong type or is out of range.
    """
    for split in raw_splits:
        for number, row in enumerate(split.rows()):
            with _located(task, split, row, number):
                is_kept = split.keeps is None or split.keeps(row)
                example = _read(task, split, row) if is_kept else None
            if is_kept:
                yield example, split, number  # type: ignore[misc]


def without_images(examples: Iterable[E]) -> list[E]:
    """Return examples in a list, without the contents of their images, which would fill the memory."""
    return [deepcopy(example) if hasattr(example, "images") else example for example in examples]


def place_of(task: Task[Any], split: RawSplit, number: int) -> str:
    """Return the file, the row and the task, for errors."""
    return f"{split.location}, row {number} (task {task.name})"


def _read(task: Task[E], split: RawSplit, row: Row) -> E:
    """Return the example of a row."""
    columns = ReadRow(row)
    made = task.read(columns)
    wanted = example_class(type(task))
    if not isinstance(made, wanted):
        kind = type(task).__name__
        raise TypeError(f"read returned {made!r:.60}, not a {wanted.__name__}, which {kind} takes")
    example = task.by_name(made)
    task.check(example)
    if not task.is_labelled(example):
        return example
    if columns.classes and task.labels:
        check_names(columns.classes, task.classes(example), task.labels)
    if split.is_blind:
        example = replace(example, images=())  # type: ignore[type-var]
    return example if split.perturb is None else split.perturb(example)


@contextmanager
def _located(task: Task[Any], split: RawSplit, row: Row, number: int) -> Iterator[None]:
    """Add the file, the row and the task to an error."""
    where = place_of(task, split, number)
    try:
        with images_beside(split.location):
            yield
    except KeyError as error:
        raise ValueError(
            f"{where}: column {error} is missing; the columns are {', '.join(row)}. Rename the column in the "
            "data, or read another column in the task's file"
        ) from error
    except ClassMismatch as error:
        raise ValueError(f"{where}: {error}") from error
    except (TypeError, ValueError, IndexError, AttributeError, FileNotFoundError) as error:
        raise ValueError(f"{where}: {error}. Correct the row, or the task's read function") from error

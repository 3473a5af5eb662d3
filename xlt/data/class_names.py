"""Integer labels that know the name of their class in the file, so that a task matches them by name.

A file's schema may name its classes (`ClassLabel` of `datasets`, at any depth). The names decide, not their
order: `entailment` may be 0 in a file and 1 in another.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

_TRUTH = {"false": "0", "no": "0", "true": "1", "yes": "1"}
"""Spellings of yes and no."""

_INDEX = re.compile(r"(.*?)(\d+|(?<![A-Za-z])[A-Za-z])")
"""Name of a choice that tells its index: `3`, `B`, `choice2`."""

HOW_TO_FIX = "Name the classes in the file as the task does, or return the name from the task's read"


class ClassMismatch(ValueError):
    """Raised when a file names other classes than the task."""


class ClassNumber(int):
    """A class's number in a file, with the names that the file's schema gives its classes."""

    column: str
    names: tuple[str, ...]

    def __new__(cls, number: int, column: str, names: tuple[str, ...]) -> "ClassNumber":
        """Return the number of a class.

        Args:
            number: The number.
            column: Name of the column that holds the number.
            names: Names of the column's classes, in the file's order.
        """
        made = super().__new__(cls, number)
        made.column, made.names = column, names
        return made

    def __getnewargs__(self) -> tuple[int, str, tuple[str, ...]]:  # type: ignore[override]
        """Return the arguments from which a copy or a pickle is made."""
        return int(self), self.column, self.names

    @property
    def name(self) -> str:
        """Name of the class in the file."""
        return self.names[self]

    def index(self, labels: Sequence[str]) -> int:
        """Return the class's index in a task's labels; -1 if its name marks a missing label.

        Args:
            labels: Names of the task's classes. Empty if the classes are choices, which have an index.

        Raises:
            ClassMismatch: The file's classes are not the task's.
        """
        found = matches(self.names, tuple(labels)) if labels else _indices(self.names)
        if found is None:
            raise ClassMismatch(
                f"column {self.column} has the classes {', '.join(self.names)}, but those of the task are "
                f"{', '.join(labels)}. {HOW_TO_FIX}"
            )
        return found[self]


def name_of(value: Any) -> Any:
    """Return the name of a class that the file names, and any other value as it is."""
    return value.name if isinstance(value, ClassNumber) else value


def is_missing(label: object) -> bool:
    """Return True if there is no label: null, NaN, -1, or a text that is empty or -1."""
    if isinstance(label, str):
        return label.strip() in ("", "-1")
    return label is None or (isinstance(label, int | float) and (label == -1 or label != label))


@lru_cache
def matches(names: tuple[str, ...], labels: tuple[str, ...]) -> list[int] | None:
    """Return the index in a task's labels of each class of a file; None if the task lacks a class.

    Case, space, hyphens and underscores do not count. `no` and `false` mean 0, `yes` and `true` mean 1,
    unless two classes would become the same. Names that are numbers, which `datasets` makes up, are the
    task's indices.
    """
    for spelled in (str, _fold):
        index = {spelled(label): i for i, label in enumerate(labels)}
        found = [index.get(spelled(name), -1 if is_missing(name) else None) for name in names]
        places = [place for place in found if place != -1]
        if len(index) == len(labels) and None not in found and len(set(places)) == len(places):
            return [place for place in found if place is not None]
    numbers = [
        -1 if is_missing(name) else int(name) for name in names if is_missing(name) or name.isdecimal()
    ]
    made_up = len(numbers) == len(names) and not any(label.isdecimal() for label in labels)
    return numbers if made_up and max(numbers, default=0) < len(labels) else None


def _fold(name: str) -> str:
    """Return a name without differences of spelling."""
    plain = re.sub(r"[\s_-]+", " ", name.strip()).casefold()
    return _TRUTH.get(plain, plain)


@lru_cache
def _indices(names: tuple[str, ...]) -> list[int]:
    """Return the index of each choice: by its name if all names tell an index, else by its position."""
    parts = [match.groups() for match in map(_INDEX.fullmatch, names) if match]
    if len(parts) < len(names) or len({(start, end.isdecimal()) for start, end in parts}) > 1:
        return list(range(len(names)))
    keys = [(int(end), "") if end.isdecimal() else (0, end.upper()) for _, end in parts]
    return [sorted(keys).index(key) for key in keys]


def classes_in(features: Any, column: str = "") -> Any:
    """Return the named classes of a schema: for each column its class numbers, or the same for its parts.

    Args:
        features: Features of `datasets`, as `to_dict` and the metadata of a parquet file hold them.
        column: Name of the column that the features describe. Defaults to the whole schema.
    """
    if isinstance(features, list):  # of one item: lists in files of older versions
        return classes_in(features[0], column) if features else None
    if not isinstance(features, Mapping):
        return None
    names = features.get("names")
    if features.get("_type") == "ClassLabel" and isinstance(names, Sequence):
        return [ClassNumber(i, column, tuple(names)) for i in range(len(names))]
    if isinstance(features.get("_type"), str):
        return classes_in(features.get("feature"), column)
    found = {k: classes_in(part, f"{column}.{k}" if column else k) for k, part in features.items()}
    return {name: classes for name, classes in found.items() if classes} or None


def named(value: Any, classes: Any) -> Any:
    """Return a value, or a list or mapping of values, whose classes know their names.

    Args:
        value: The value in the file.
        classes: Result of `classes_in`. None for a value without classes.
    """
    if classes is None:
        return value
    if isinstance(value, list):
        return [named(item, classes) for item in value]
    if isinstance(value, dict) and isinstance(classes, dict):
        return {key: named(item, classes.get(key)) for key, item in value.items()}
    if isinstance(value, int) and isinstance(classes, list) and 0 <= value < len(classes):
        return classes[value]
    return value


def by_name(example: Any, labels: Sequence[str]) -> Any:
    """Return the example with class numbers of the file replaced by the task's numbers.

    Args:
        example: A dataclass.
        labels: The task's labels.

    Raises:
        ClassMismatch: The file's classes are not the task's.
    """
    changed = {}
    for field in fields(example):
        value = getattr(example, field.name)
        if isinstance(value, ClassNumber):
            changed[field.name] = value.index(labels)
        elif isinstance(value, tuple) and any(isinstance(item, ClassNumber) for item in value):
            changed[field.name] = tuple(i.index(labels) if isinstance(i, ClassNumber) else i for i in value)
    return replace(example, **changed) if changed else example


class ReadRow(dict[str, Any]):
    """A row that records the named classes that a task has read."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(row)
        self.classes: list[list[ClassNumber]] = []
        """The class numbers of each column that was read."""

    def __getitem__(self, column: str) -> Any:
        """Return the column's value."""
        value = super().__getitem__(column)
        found = value if isinstance(value, list) else [value]
        if found and all(isinstance(item, ClassNumber) for item in found):
            self.classes.append(found)
        return value

    def get(self, column: str, default: Any = None) -> Any:
        """Return the column's value, or the default if there is no such column."""
        try:
            return self[column]
        except KeyError:
            return default


def check_names(
    classes: Sequence[Sequence[ClassNumber]], found: Sequence[str], labels: Sequence[str]
) -> None:
    """Check that a task's `read` gives the classes that the file names. A task may count in another order.

    Args:
        classes: The class numbers of each column that was read.
        found: Names of the example's classes: its label, or its tags.
        labels: The task's labels.

    Raises:
        ClassMismatch: The example has other classes than the file names.
    """
    wrong: list[tuple[ClassNumber, str]] = []
    for numbers in classes:
        if matches(numbers[0].names, tuple(labels)) is None or len(found) not in (1, len(numbers)):
            continue
        indices = [number.index(labels) for number in numbers]
        names = [labels[index] if index >= 0 else "" for index in indices]
        if list(found) == names or (len(found) == 1 and found[0] in names):
            return
        wrong += [(n, f) for n, name, f in zip(numbers, names, found, strict=False) if name != f]
    if wrong:
        number, name = wrong[0]
        raise ClassMismatch(
            f"column {number.column} names class {int(number)} {number.name!r}, but the task's read makes "
            f"{name!r} of it. Return the number or the name unchanged: xlt matches both by name"
        )

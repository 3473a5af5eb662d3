"""Columns of the user's rows that a task needs: those of its texts, not those of labels and ids.

A task's `read` takes a row with all columns of its data set. Which of them hold the label is not written
down, so `read` is tried with other values: a column is needed if its value changes what the encoder reads.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from xlt.data.examples import TaggedWords
from xlt.data.text_files import SEPARATORS
from xlt.evaluation.own_rows.reading import LINE, UserRow, UserRows
from xlt.kinds.task import Task

UNREAD = ("label", "tags", "answers", "starts", "id")
"""Fields of examples that the encoder does not read."""

STAND_INS = (None, "", -1, {"text": [], "answer_start": []})
"""Values that stand for a missing label, tags, answers or id."""

OTHER = "x"
"""A value that is no stand-in."""

MAX_TRIED = 4
"""Largest number of columns for which all combinations of stand-ins are tried."""

FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError)
"""Errors of a `read` function that gets a wrong value."""


class _MissingColumn(KeyError):
    """Raised when a task reads a column that the row lacks."""


class _Row(dict[str, Any]):
    """A row that records the columns that a task reads."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.read: dict[str, None] = {}

    def __getitem__(self, column: str) -> Any:
        self.read[column] = None
        return super().__getitem__(column)

    def __missing__(self, column: str) -> Any:
        raise _MissingColumn(column)


class _Trial:
    """Attempts to read a row with stand-ins for some columns.

    Args:
        task: The task.
        row: The row. It may lack columns.
    """

    def __init__(self, task: Task[Any], row: Mapping[str, Any]) -> None:
        self._task, self._row = task, row
        self.asked: dict[str, None] = {}
        """Columns that `read` asks for."""
        self.lacking: list[str] = []
        """Columns that `read` asks for and the row lacks."""
        self._faults: list[str] = []

    def texts(self, changes: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return what the encoder reads of a row with some changes; None if the row cannot be read."""
        row, example = _Row({**self._row, **changes}), None
        try:
            example = self._task.by_name(self._task.read(row))
            self._task.check(example)
        except _MissingColumn as error:
            self.lacking.append(error.args[0])
            return None
        except FAULTS as error:
            # A check says more than the error of a `read` that gets a stand-in.
            self._faults.insert(len(self._faults) if example is None else 0, str(error))
            return None
        finally:
            self.asked.update(row.read)
        return tuple(getattr(example, f.name) for f in fields(example) if f.name not in UNREAD)

    @property
    def fault(self) -> str:
        """Reason why the row could not be read, if it could not."""
        return next(iter(self._faults), "")

    def readable(self) -> dict[str, Any] | None:
        """Return changes with which the row can be read; None if no stand-ins help."""
        known = -1
        while known < len(self.lacking):
            known = len(self.lacking)
            for changes in self._changes():
                if self.texts(changes) is not None:
                    return changes
                if len(self.lacking) > known:
                    break
        return None

    def _changes(self) -> Iterator[dict[str, Any]]:
        """Yield stand-ins for all columns that the row lacks, then also for each of the others."""
        others = [column for column in self.asked if column not in self.lacking]
        for names in ([*self.lacking, *extra] for extra in ((), *([other] for other in others))):
            if len(names) <= MAX_TRIED:
                yield from (dict(zip(names, v, strict=True)) for v in product(STAND_INS, repeat=len(names)))
            else:
                yield from (dict.fromkeys(names, value) for value in STAND_INS)

    def unread(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stand-in for each column that the encoder does not read.

        Args:
            changes: Changes with which the row can be read.
        """
        texts, found = self.texts(changes), {}
        for column in self.asked:
            other = self.texts({**changes, column: OTHER})
            for value in STAND_INS:
                if self.texts({**changes, column: value}) == texts and other in (None, texts):
                    found[column] = value
                    break
        return found


class RowReader:
    """Reads the examples of a task from the user's rows, without labels.

    Args:
        task: The task, with the classes of its head.
        rows: The user's rows.
        columns: Names of the user's columns, by the task's names, where they differ.

    Raises:
        ValueError: A column is missing, or `columns` names a column that does not exist.
    """

    def __init__(self, task: Task[Any], rows: UserRows, columns: Mapping[str, str]) -> None:
        self._task, first = task, rows.first.values
        self._hint = ". Lists need JSON lines or parquet" if rows.suffix in SEPARATORS else ""
        empty = _Trial(task, {})
        changes = empty.readable()
        self._columns = dict(columns)
        if rows.has_lines and not columns:
            texts = [] if changes is None else [c for c in empty.asked if c not in empty.unread(changes)]
            if len(texts) != 1:
                raise ValueError(
                    f"{rows.name} has plain lines, but task {task.name} reads several texts or lists. Give "
                    "one JSON object per line, with a key for each column"
                )
            self._columns = {texts[0]: LINE}
        unknown = [own for own in self._columns.values() if own not in first]
        if unknown:
            raise ValueError(self._missing(rows, unknown, "names"))
        trial = empty if changes is not None else _Trial(task, self._renamed(first))
        changes = trial.readable() if changes is None else changes
        if changes is None:
            raise ValueError(
                f"{rows.first.place}: task {task.name} cannot read the row ({trial.fault}). The task "
                f"reads the columns {', '.join(trial.asked)}, of which labels and ids may be left out; the "
                f"row has {', '.join(first)}{self._hint}"
            )
        self._unread = trial.unread(changes)
        texts = [column for column in trial.asked if column not in self._unread]
        stray = [column for column in self._columns if column not in trial.asked]
        if stray:
            raise ValueError(
                f"columns names {', '.join(stray)}, but task {task.name} reads {', '.join(texts)}"
            )
        lacking = [column for column in texts if column not in self._renamed(first)]
        if lacking:
            raise ValueError(self._missing(rows, lacking, "reads"))
        self._texts = texts

    def read(self, row: UserRow) -> Any:
        """Return the example of a row.

        Text in the column of a sentence's words is a JSON list, or is divided at spaces.

        Raises:
            ValueError: A column is missing, or a value has the wrong type.
        """
        values = self._renamed(row.values) | self._unread
        try:
            example = example_of(self._task, _Row(values))
            if isinstance(example, TaggedWords):
                words = {c: _words_in(v) for c in self._texts if isinstance(v := values[c], str)}
                example = self._with_words(example, values | words) if words else example
        except _MissingColumn as error:
            raise ValueError(
                f"{row.place}: column {error} is missing; the columns are {', '.join(row.values)}"
            ) from error
        except FAULTS as error:
            raise ValueError(f"{row.place}: {self._fault(values, error)}{self._hint}") from error
        return example

    def _with_words(self, example: TaggedWords, values: Mapping[str, Any]) -> Any:
        """Return the example of a row with lists of words, or the example if the task divides the text."""
        try:
            return example_of(self._task, _Row(values))
        except FAULTS:
            if isinstance(example.words, str):
                raise
            return example

    def _fault(self, values: Mapping[str, Any], error: Exception) -> str:
        """Return what is wrong with a row: the user's columns without text or a list, or else the error."""
        odd = [c for c in self._texts if values[c] is None or isinstance(values[c], bool | int | float)]
        names = ", ".join(f"{self._columns.get(c, c)} ({values[c]!r})" for c in odd)
        return f"there must be text in column {names}" if odd else str(error)

    def _renamed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with the task's names of columns beside the user's."""
        return {**values, **{task: values[own] for task, own in self._columns.items() if own in values}}

    def _missing(self, rows: UserRows, lacking: Sequence[str], what: str) -> str:
        """Return the error message for columns that the rows lack."""
        who = "columns" if what == "names" else f"task {self._task.name}"
        found, example = ", ".join(rows.first.values), f"{{{lacking[0]}: YOUR_COLUMN}}"
        for mark in ";\t,|" if rows.suffix in SEPARATORS and len(rows.first.values) == 1 else "":
            if mark in found:
                return (
                    f"{rows.name} seems to be separated by {mark!r}: xlt reads commas in .csv, tabs in .tsv"
                )
        fix = "Correct columns" if what == "names" else f"Rename columns, or set --columns '{example}'"
        return (
            f"{rows.name} has no column {', '.join(lacking)}, which {who} {what}; its columns are "
            f"{found}. {fix}"
        )


def _words_in(text: str) -> list[str]:
    """Return the words of a JSON list, as `xlt predict` writes lists into tables, or of a plain text."""
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError:
        found = None
    is_list = isinstance(found, list) and all(isinstance(word, str) for word in found)
    return found if is_list and found else text.split()


def example_of(task: Task[Any], row: Mapping[str, Any]) -> Any:
    """Return the example of a row, checked by the task."""
    example = task.by_name(task.read(row))
    task.check(example)
    return example

"""Read the user's rows one at a time: CSV, TSV, JSON lines, parquet, or lines of text."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from xlt.data.parquet import unreadable
from xlt.data.text_files import SEPARATORS, SUFFIXES, decoded, object_rows, table_rows

PIPE = "-"
"""Name of the standard input and the standard output."""

LINE = "text"
"""Name of the column of plain lines."""

INPUTS = (*SUFFIXES, ".txt")
"""Suffixes of files that can be read."""


class UserRow(NamedTuple):
    """A row, and its place for errors.

    Args:
        values: Column name to value.
        place: File and line, such as `rows.csv, line 3`.
    """

    values: dict[str, Any]
    place: str


class UserRows:
    """Rows of a file or of the standard input, in order.

    Args:
        path: A file, or `-` for the standard input: JSON lines if its first line begins with `{`, else plain
            lines.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another suffix, or no rows.
    """

    def __init__(self, path: str) -> None:
        self.name, self.suffix = ("the standard input", "") if path == PIPE else (path, Path(path).suffix)
        if path != PIPE and self.suffix not in INPUTS:
            raise ValueError(
                f"input is {path}: it must end in {', '.join(INPUTS)}, or be - for the standard input"
            )
        if path != PIPE and not Path(path).is_file():
            raise FileNotFoundError(f"input is {path}, but there is no such file")
        rows = self._read(path)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{self.name} has no rows")
        self.first = first
        """The first row."""
        self._rows = chain([first], rows)

    def __iter__(self) -> Iterator[UserRow]:
        """Return the rows, including the first. They can be read once."""
        return self._rows

    @property
    def has_lines(self) -> bool:
        """Return True if the rows are plain lines, each in the column `text`."""
        return self.suffix == ".txt"

    def _read(self, path: str) -> Iterator[UserRow]:
        """Yield the rows."""
        if self.suffix == ".parquet":
            yield from _parquet(Path(path))
        elif path == PIPE:
            yield from self._from_lines(decoded(sys.stdin.buffer, self.name))
        else:
            with Path(path).open("rb") as file:
                yield from self._from_lines(decoded(file, self.name))

    def _from_lines(self, lines: Iterator[str]) -> Iterator[UserRow]:
        """Yield the rows of lines of text, after a look at the first line of the standard input."""
        if not self.suffix:
            start = list(islice(lines, 1))
            self.suffix = ".jsonl" if start and start[0].lstrip().startswith("{") else ".txt"
            lines = chain(start, lines)
        if self.suffix == ".txt":
            return _plain_lines(lines, self.name)
        found = (
            object_rows(lines, self.name)
            if self.suffix == ".jsonl"
            else table_rows(lines, self.name, SEPARATORS[self.suffix])
        )
        return (UserRow(values, f"{self.name}, line {number}") for values, number in found)


def _plain_lines(lines: Iterable[str], name: str) -> Iterator[UserRow]:
    """Yield a row for each line. A blank line is an empty text, so that rows and predictions stay aligned."""
    for number, line in enumerate(lines, 1):
        yield UserRow({LINE: line.rstrip("\r\n")}, f"{name}, line {number}")


def _parquet(path: Path) -> Iterator[UserRow]:
    """Yield the rows of a parquet file. Rows are counted from 0.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged.
    """
    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(1000):
            for values in batch.to_pylist():
                yield UserRow(values, f"{path}, row {number}")
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error

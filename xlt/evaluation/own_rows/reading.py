"""Read the user's rows one at a time: CSV, TSV, JSON lines, parquet, or lines of text."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from xlt.data.parquet import unreadable

PIPE = "-"
"""Name of the standard input and the standard output."""

LINE = "text"
"""Name of the column of plain lines."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}

INPUTS = (*DELIMITERS, ".jsonl", ".parquet", ".txt")
"""Suffixes of files that can be read."""

MAX_FIELD = 2**31 - 1
"""Maximum number of characters in a field of a CSV file. The default of Python is too small for passages."""


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
            yield from self._from_lines(_decoded(sys.stdin.buffer, self.name))
        else:
            with Path(path).open("rb") as file:
                yield from self._from_lines(_decoded(file, self.name))

    def _from_lines(self, lines: Iterator[str]) -> Iterator[UserRow]:
        """Yield the rows of lines of text, after a look at the first line of the standard input."""
        if not self.suffix:
            start = list(islice(lines, 1))
            self.suffix = ".jsonl" if start and start[0].lstrip().startswith("{") else ".txt"
            lines = chain(start, lines)
        if self.suffix in DELIMITERS:
            return _table(lines, DELIMITERS[self.suffix], self.name)
        return _json_lines(lines, self.name) if self.suffix == ".jsonl" else _plain_lines(lines, self.name)


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a file as text, without a byte order mark.

    Raises:
        ValueError: A line is not UTF-8.
    """
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number} is not UTF-8 ({error.reason} at byte {error.start + 1} of the "
                "line): save the file as UTF-8"
            ) from error


def _table(lines: Iterable[str], delimiter: str, name: str) -> Iterator[UserRow]:
    """Yield the rows of a CSV or TSV file, whose first line names the columns.

    Raises:
        ValueError: Two columns have the same name, or a row has another number of fields.
    """
    csv.field_size_limit(MAX_FIELD)
    table = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        heads = next(table, [])
        if len(set(heads)) < len(heads):
            raise ValueError(f"{name}, line 1: two columns have the same name: {', '.join(heads)}")
        for fields in table:
            place = f"{name}, line {table.line_num}"
            if fields and len(fields) != len(heads):
                raise ValueError(
                    f"{place} has {len(fields)} fields, but there are {len(heads)} columns: "
                    f"{', '.join(heads)}. Put a field that holds a delimiter or a quote in quotes"
                )
            if fields:
                yield UserRow(dict(zip(heads, fields, strict=True)), place)
    except csv.Error as error:
        raise ValueError(f"{name}, line {table.line_num} cannot be read: {error}") from error


def _json_lines(lines: Iterable[str], name: str) -> Iterator[UserRow]:
    """Yield the rows of a file with a JSON object a line. Blank lines are skipped.

    Raises:
        ValueError: A line is not an object.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{place} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{place} must be a JSON object, such as {{{json.dumps(LINE)}: ...}}")
        yield UserRow(values, place)


def _plain_lines(lines: Iterable[str], name: str) -> Iterator[UserRow]:
    """Yield a row for each line that is not blank."""
    for number, line in enumerate(lines, 1):
        if line.strip():
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

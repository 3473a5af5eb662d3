"""Rows of text files: CSV, TSV and JSON Lines. An error names the file and the line."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""Suffix to the separator of columns."""

SUFFIXES = (*SEPARATORS, ".jsonl", ".parquet")
"""Suffixes of files of rows."""

OTHER_SEPARATORS = ",;\t|"
"""Characters that other programs write between columns."""


class TextRows:
    """The rows of a text file, read from the file itself.

    Args:
        path: The file: `.csv`, `.tsv` or `.jsonl`, in UTF-8 with or without a byte order mark.
        separator: Character between columns. Defaults to that of the suffix.
        quotes: True if quotation marks enclose texts that hold a separator.
    """

    def __init__(self, path: Path, separator: str = "", quotes: bool = True) -> None:
        self._path, self._quotes = path, quotes
        self._separator = separator or SEPARATORS.get(path.suffix, "")

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the rows in order, `batch_size` at a time, as columns.

        Raises:
            ValueError: The file is not UTF-8, or a line cannot be read.
        """
        rows = self._rows()
        while chunk := list(islice(rows, batch_size)):
            names = dict.fromkeys(name for row in chunk for name in row)
            yield {name: [row.get(name) for row in chunk] for name in names}

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            try:
                yield from self._objects(file) if self._path.suffix == ".jsonl" else self._table(file)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{self._path} is not UTF-8 text ({error.reason}). Save the file with the encoding UTF-8"
                ) from error

    def _objects(self, file: Iterator[str]) -> Iterator[dict[str, Any]]:
        """Yield the objects of JSON Lines."""
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{self._path}, line {number} is not JSON: {error}. {_OBJECT}") from error
            if not isinstance(row, dict) or not row:
                raise ValueError(f"{self._path}, line {number} is {row!r:.60}, not an object. {_OBJECT}")
            yield row

    def _table(self, file: Iterator[str]) -> Iterator[dict[str, str]]:
        """Yield the rows of a table whose first line names the columns."""
        quoting = csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE
        lines = csv.reader(file, delimiter=self._separator, quoting=quoting, strict=True)
        try:
            header = next(lines, [])
            self._check_header(header)
            for values in lines:
                if len(values) not in (0, len(header)):
                    raise ValueError(
                        f"{self._path}, line {lines.line_num} has {len(values)} values, but the first line "
                        f"names {len(header)} columns. Enclose a text that holds {self._separator!r} in "
                        "quotation marks"
                    )
                if values:
                    yield dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise ValueError(
                f"{self._path}, line {lines.line_num}: {error}. Double each quotation mark inside a text in "
                "quotation marks, or set quotes=False in the task's file if they are text"
            ) from error

    def _check_header(self, header: list[str]) -> None:
        """Refuse a first line that does not name the columns.

        Raises:
            ValueError: The line is empty, has another separator, or names a column twice or not at all.
        """
        if not header:
            raise ValueError(f"{self._path} has no first line: it must name the columns")
        other = next((mark for mark in OTHER_SEPARATORS if mark in header[0]), "")
        if len(header) == 1 and other and other != self._separator:
            raise ValueError(
                f"{self._path}: the first line is the single column {header[0]!r}. If {other!r} separates "
                f"columns, set separator={other!r} in the task's file"
            )
        bad = next((name for name in header if not name.strip() or header.count(name) > 1), None)
        if bad is not None:
            what = f"names the column {bad!r} twice" if bad.strip() else "has a column without a name"
            raise ValueError(f"{self._path}: the first line {what}. Give each column a name of its own")


_OBJECT = 'Each line must hold an object, such as {"text": "Good", "label": "positive"}'

"""Rows of text files: CSV, TSV and JSON Lines. An error names the file and the line."""

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""Suffix to the separator of columns."""

SUFFIXES = (*SEPARATORS, ".jsonl", ".parquet")
"""Suffixes of files of rows."""

OTHER_SEPARATORS = ",;\t|"
"""Characters that other programs write between columns."""

MAX_FIELD = 2**31 - 1
"""Maximum number of characters in a field of a table. The default of Python is too small for passages."""

IN_TASK_FILE = " in the task's file"
"""Place of the settings `separator` and `quotes` of a `TextRows`."""

OBJECT = 'Each line must hold an object, such as {"text": "Good", "label": "positive"}'


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
        with self._path.open("rb") as file:
            lines, name = decoded(file, str(self._path)), str(self._path)
            is_table = self._path.suffix != ".jsonl"
            found = (
                table_rows(lines, name, self._separator, self._quotes, IN_TASK_FILE)
                if is_table
                else object_rows(lines, name)
            )
            while chunk := [row for row, _ in islice(found, batch_size)]:
                names = dict.fromkeys(name for row in chunk for name in row)
                yield {name: [row.get(name) for row in chunk] for name in names}


def decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a file as text, without a byte order mark.

    Args:
        file: The file.
        name: Name of the file, for errors.

    Raises:
        ValueError: A line is not UTF-8.
    """
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number} is not UTF-8 text ({error.reason} at byte {error.start + 1} of the "
                "line). Save the file with the encoding UTF-8"
            ) from error


def object_rows(lines: Iterable[str], name: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the objects of JSON Lines, each with the number of its line. Blank lines are skipped.

    Raises:
        ValueError: A line is not an object, or it has one half of a surrogate pair.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{name}, line {number} has \\u{ord(error.object[error.start]):04x} without its other half. "
                "The two belong together, as in \\ud83d\\ude00: give both, or remove it"
            ) from error
        except ValueError as error:
            raise ValueError(f"{name}, line {number} is not JSON: {error}. {OBJECT}") from error
        if not isinstance(row, dict) or not row:
            raise ValueError(f"{name}, line {number} is {row!r:.60}, not an object. {OBJECT}")
        yield row, number


def table_rows(
    lines: Iterable[str], name: str, separator: str, quotes: bool = True, place: str = ""
) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the rows of a table whose first line names the columns, each with the number of its last line.

    Args:
        lines: Lines of the table.
        name: Name of the file, for errors.
        separator: Character between columns.
        quotes: True if quotation marks enclose texts that hold a separator.
        place: Place where the user may set `separator` and `quotes`, for errors. Empty if there is none.

    Raises:
        ValueError: A line cannot be read, or the first line does not name the columns.
    """
    csv.field_size_limit(MAX_FIELD)
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    table = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
    try:
        header = next(table, [])
        if header or place:
            _check_header(header, name, separator, place)
        for values in table:
            if len(values) not in (0, len(header)):
                raise ValueError(
                    f"{name}, line {table.line_num} has {len(values)} values, but the first line names "
                    f"{len(header)} columns: {', '.join(header)}. Enclose a text that holds {separator!r} in "
                    "quotation marks"
                )
            if values:
                yield dict(zip(header, values, strict=True)), table.line_num
    except csv.Error as error:
        if "new-line character" in str(error):
            raise ValueError(
                f"{name}, line {table.line_num} has a carriage return (CR) alone. Save the file with the "
                "line ends LF or CRLF, and enclose a text that holds line ends in quotation marks"
            ) from error
        other = f", or set quotes=False{place} if they are text" if place else ""
        raise ValueError(
            f"{name}, line {table.line_num}: {error}. Double each quotation mark inside a text in quotation "
            f"marks{other}"
        ) from error


def _check_header(header: list[str], name: str, separator: str, place: str) -> None:
    """Refuse a first line that does not name the columns.

    Raises:
        ValueError: The line is empty, has another separator, or names a column twice or not at all.
    """
    if not header:
        raise ValueError(f"{name} has no first line: it must name the columns")
    other = next((mark for mark in OTHER_SEPARATORS if mark in header[0]), "")
    if len(header) == 1 and other and other != separator:
        fix = f"set separator={other!r}{place}" if place else f"replace it by {separator!r}"
        raise ValueError(
            f"{name}: the first line is the single column {header[0]!r}. If {other!r} separates columns, "
            f"{fix}"
        )
    bad = next((column for column in header if not column.strip() or header.count(column) > 1), None)
    if bad is not None:
        what = f"names the column {bad!r} twice" if bad.strip() else "has a column without a name"
        raise ValueError(f"{name}: the first line {what}. Give each column a name of its own")

"""Write rows with their predictions chunk by chunk: JSON lines, CSV, TSV or parquet."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from xlt.data.text_files import SEPARATORS, SUFFIXES
from xlt.evaluation.own_rows.reading import PIPE
from xlt.system.files import discard, publish, scratch_path
from xlt.system.tables import finite
from xlt.training.run_folder import check_writable

Rows = Sequence[Mapping[str, Any]]
"""Rows: column name to value."""

Write = Callable[[Rows], None]
"""Function that writes the next rows."""


def check_output(out: str, source: str) -> None:
    """Check the name of an output.

    Args:
        out: A file, or `-`.
        source: The input.

    Raises:
        FileNotFoundError: The file's folder does not exist.
        OSError: The file's folder cannot be written.
        ValueError: The suffix is unknown, or the output is the input.
    """
    path = Path(out)
    if out == PIPE:
        return
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"out is {out}: it must end in {', '.join(SUFFIXES)}, or be -, which prints JSON lines"
        )
    if source != PIPE and path.resolve() == Path(source).resolve():
        raise ValueError(f"out is {out}, which is the input: name another file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out is {out}, but there is no folder {path.parent}: make the folder first")
    check_writable(path.parent, "the output's folder", "out")


@contextmanager
def writer(out: str) -> Iterator[Write]:
    """Yield a function that writes rows. A file appears under its name when all rows are written.

    Args:
        out: A file, whose suffix is its format, or `-` for JSON lines on the standard output.
    """
    if out == PIPE:
        yield _json_lines(sys.stdout)
        return
    path, scratch = Path(out), scratch_path(Path(out))
    try:
        if path.suffix == ".parquet":
            with _parquet(scratch) as write:
                yield write
        else:
            with scratch.open("w", encoding="utf-8", newline="") as file:
                is_table = path.suffix in SEPARATORS
                yield _table(file, SEPARATORS[path.suffix]) if is_table else _json_lines(file)
        publish(scratch, path)
    finally:
        discard(scratch)


def _json_lines(file: TextIO) -> Write:
    """Return a function that writes one JSON object per line. A reader of a pipe gets whole chunks."""

    def write(rows: Rows) -> None:
        file.writelines(f"{_json(row)}\n" for row in rows)
        file.flush()

    return write


def _json(value: Any) -> str:
    """Return a value as JSON. Dates and other values that JSON lacks become text."""
    return json.dumps(finite(value), ensure_ascii=False, default=str)


def _table(file: TextIO, delimiter: str) -> Write:
    """Return a function that writes a CSV file. Lists and mappings are JSON in their fields."""
    table = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    heads: list[str] = []
    numbers = count(1)

    def write(rows: Rows) -> None:
        if not heads:
            heads.extend(rows[0])
            table.writerow(heads)
        for row in rows:
            _check_columns(next(numbers), row, heads)
            table.writerow([_json(v) if isinstance(v, list | dict) else v for v in row.values()])

    return write


def _check_columns(number: int, row: Mapping[str, Any], heads: Sequence[str]) -> None:
    """Raise ValueError for a row with other columns than the first row. Rows are counted from 1."""
    if list(row) != list(heads):
        raise ValueError(
            f"row {number} has the columns {', '.join(row)}, but the first row has {', '.join(heads)}: give "
            "all rows the same columns in the same order, or set out to a .jsonl file"
        )


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    """Yield a function that writes a parquet file. The first chunk decides the types of the columns."""
    opened: list[pq.ParquetWriter] = []
    numbers = count(1)

    def write(rows: Rows) -> None:
        names = opened[0].schema.names if opened else list(rows[0])
        for row in rows:
            _check_columns(next(numbers), row, names)
        try:
            if not opened:
                opened.append(pq.ParquetWriter(path, schema_of(rows)))
            opened[0].write_table(pa.Table.from_pylist(list(rows), schema=opened[0].schema))
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(
                f"a value does not have the type of its column in the first rows, or does not fit into 64 "
                f"bits ({error}): set out to a .jsonl file"
            ) from error

    try:
        yield write
    finally:
        for file in opened:
            file.close()


def schema_of(rows: Rows) -> pa.Schema:
    """Return the types of the columns of some rows. A column without values is of text."""
    found = pa.Table.from_pylist(list(rows)).schema
    return pa.schema(
        [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in found]
    )

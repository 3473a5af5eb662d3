"""Every example of a finished cell with its gold answer and its prediction, for the analysis of errors.

<out>/examples/<task>/<language>[-<perturbation>].parquet

The files of a task have the same columns, so that pandas or pyarrow reads the task's folder as one table.
E examples.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xlt.batch.predictions import Predictions
from xlt.data.sources import RawSplit
from xlt.evaluation.perturbations.images import image_name
from xlt.evaluation.plan import Cell
from xlt.evaluation.scores import writing
from xlt.kinds.outcome import Outcome
from xlt.kinds.task import Task
from xlt.splits.reading import read_examples
from xlt.system.files import discard, publish, scratch_path

FOLDER = "examples"

ROWS_AT_A_TIME = 1000

NO_TEXTS = ("label", "tags", "answers", "starts", "image", "images")
"""Fields of examples that are no columns: gold answers have a column of their own."""

TYPES = {
    **dict.fromkeys(("example", "english", "start", "end", "tokens"), pa.int32()),
    "correct": pa.bool_(),
    "score": pa.float32(),
}
"""Types of columns by name. Those of others follow from the values."""


def path_of(out: Path, cell: Cell) -> Path:
    """Return the path of a cell's examples.

    Args:
        out: The evaluation's folder.
        cell: The cell.
    """
    name = "-".join(filter(None, (cell.language, cell.perturbation)))
    return out / FOLDER / cell.task.group / f"{name}.parquet"


def write_examples(
    out: Path,
    cell: Cell,
    task: Task[Any],
    predictions: Predictions,
    raw_splits: Sequence[RawSplit],
    examples: np.ndarray,
    english: np.ndarray | None,
) -> None:
    """Write the examples of a cell, if its kind predicts single examples.

    Args:
        out: The evaluation's folder.
        cell: The cell.
        task: The task in the cell's language.
        predictions: Predictions for the rows of the examples.
        raw_splits: The rows of the split.
        examples: Numbers of the examples in the split, ascending, shape (E,).
        english: Row number of each example's English translation, -1 if it is unknown, shape (E,). None if
            the task's languages are not parallel.

    Raises:
        OSError: The file cannot be written.
    """
    if image_name(cell.perturbation) is not None:
        raw_splits = [replace(raw, perturb=None) for raw in raw_splits]  # the texts are the same
    # Both copies advance together, so few examples are in memory.
    read, again = tee(_examples(task, raw_splits, examples))
    outcomes = task.outcomes(predictions, again)
    if outcomes is None:
        return
    columns: dict[str, np.ndarray] = {"example": examples, "tokens": _num_tokens(predictions, examples)}
    if english is not None:
        columns["english"] = english
    constant = {"language": cell.language, "perturbation": cell.perturbation}
    numbers = ({name: int(values[i]) for name, values in columns.items()} for i in range(len(examples)))
    rows = (
        {**constant, **number, **_columns(example, outcome)}
        for number, example, outcome in zip(numbers, read, outcomes, strict=True)
    )
    with writing(path_of(out, cell)):
        _write(path_of(out, cell), rows)


def _examples(task: Task[Any], raw_splits: Sequence[RawSplit], numbers: np.ndarray) -> Iterator[Any]:
    """Yield the examples with some numbers. Examples without a label have no number.

    Only these examples are perturbed, which takes far longer than reading them.
    """
    wanted = iter(numbers.tolist())
    number, i = next(wanted, -1), 0
    for raw in raw_splits:
        for example in read_examples(task, [replace(raw, perturb=None)]):
            if task.is_labelled(example):
                if i == number:
                    yield example if raw.perturb is None else raw.perturb(example)
                    number = next(wanted, -1)
                i += 1


def _num_tokens(predictions: Predictions, examples: np.ndarray) -> np.ndarray:
    """Return the number of tokens of each example, of all its rows together, shape (E,)."""
    counts = predictions.features.gather("input_ids", predictions.rows)[1]
    places = np.searchsorted(examples, predictions.examples)
    return np.bincount(places, counts, len(examples)).astype(np.int32)


def _columns(example: Any, outcome: Outcome) -> dict[str, Any]:
    """Return the texts of an example, its gold answer, and its prediction."""
    texts = {f.name: getattr(example, f.name) for f in fields(example) if f.name not in NO_TEXTS}
    return {
        **texts,
        **outcome.details,
        "gold": outcome.gold,
        "prediction": outcome.prediction,
        "probability": outcome.probability,
        "gold_probability": outcome.gold_probability,
        "correct": outcome.score == 100,
        "score": outcome.score,
    }


def _write(path: Path, rows: Iterator[Mapping[str, Any]]) -> None:
    """Write rows into a parquet file, which appears when it is complete."""
    first = next(rows)
    schema, scratch = _schema(first), scratch_path(path)
    rows = chain([first], rows)
    try:
        with pq.ParquetWriter(scratch, schema, compression="zstd") as file:
            while chunk := list(islice(rows, ROWS_AT_A_TIME)):
                file.write_table(pa.Table.from_pylist(chunk, schema=schema))
        publish(scratch, path)
    finally:
        discard(scratch)


def _schema(row: Mapping[str, Any]) -> pa.Schema:
    """Return the types of the columns of a row."""
    known = {**TYPES, "gold_probability": _type_of(row["probability"])}
    return pa.schema([(name, known.get(name) or _type_of(value)) for name, value in row.items()])


def _type_of(value: Any) -> pa.DataType:
    """Return the type of a column by one of its values. A missing value is a text."""
    if isinstance(value, list | tuple):
        return pa.list_(_type_of(next(iter(value), None)))
    if isinstance(value, float):
        return pa.float32()
    return pa.int32() if isinstance(value, int) else pa.string()


def read_columns(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """Return columns of a cell's examples. Columns that the file lacks are left out.

    Args:
        path: The file.
        columns: Names of the columns. If None, all.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            return file.read(names)
    except pa.ArrowException as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Delete the scores of the same task and language in scores/ to "
            "score again"
        ) from error

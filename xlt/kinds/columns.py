"""Columns of rows of sequences, and lines of text."""

from collections.abc import Sequence

from xlt.data.encode import Pair
from xlt.data.sequences import segment_columns


def sequence_columns(encoded: Sequence[Pair], per_row: int, first: int) -> dict[str, list[list[int]]]:
    """Return the columns common to all rows of sequences: input_ids, lengths, weight and example.

    If the tokenizer gives segment ids, column `first_segments` holds the number of tokens of segment 0 of
    each sequence.

    Args:
        encoded: Sequences of all rows, in order.
        per_row: Number of sequences of each row.
        first: Example number of the first row.
    """
    rows = [encoded[i : i + per_row] for i in range(0, len(encoded), per_row)]
    return segment_columns(rows) | {
        "input_ids": [[token for piece in row for token in piece.ids] for row in rows],
        "lengths": [[len(piece.ids) for piece in row] for row in rows],
        "weight": [[1]] * len(rows),
        "example": [[first + i] for i in range(len(rows))],
    }


def one_per_line(values: Sequence[object]) -> str:
    """Return the values as text, one per line."""
    return "".join(f"{value}\n" for value in values)

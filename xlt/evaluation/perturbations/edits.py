"""Edits of a text: replacements of character spans, and the new positions of all other characters."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from xlt.data.examples import Question


class Edit(NamedTuple):
    """Replacement of the characters from `start` up to `end` by `text`; an insertion if both are equal."""

    start: int
    end: int
    text: str


def edited(text: str, edits: Sequence[Edit]) -> str:
    """Return the edited text. Edits must ascend and not overlap."""
    pieces, end = [], 0
    for edit in edits:
        pieces += [text[end : edit.start], edit.text]
        end = edit.end
    return "".join([*pieces, text[end:]])


def moved(positions: Sequence[int], edits: Sequence[Edit]) -> tuple[int, ...]:
    """Return the positions of unedited characters after the edits.

    Args:
        positions: Positions of characters before the edits, none of which is edited.
        edits: The edits.
    """
    ends = [edit.end for edit in edits]
    growth = [0, *accumulate(len(edit.text) - (edit.end - edit.start) for edit in edits)]
    return tuple(position + growth[bisect_right(ends, position)] for position in positions)


def gold_spans(example: Question) -> list[tuple[int, int]]:
    """Return the span of each gold answer: its first character and the character after its last."""
    return [(s, s + len(a)) for s, a in zip(example.starts, example.answers, strict=True)]


def is_apart(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Return True if the characters from `start` up to `end` are in no span."""
    return all(end <= first or start >= last for first, last in spans)

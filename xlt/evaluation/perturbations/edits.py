"""Edits of a text: stretches of its characters that become other text, and where the rest of it moves."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from xlt.data.examples import Question


class Edit(NamedTuple):
    """The characters from `start` up to `end` become `text`; where both are the same, it is put in there."""

    start: int
    end: int
    text: str


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text with its edits, which ascend and do not overlap."""
    pieces, place = [], 0
    for edit in edits:
        pieces += [text[place : edit.start], edit.text]
        place = edit.end
    return "".join([*pieces, text[place:]])


def moved(places: Sequence[int], edits: Sequence[Edit]) -> tuple[int, ...]:
    """Where the characters at these places, none of which is edited itself, stand after the edits."""
    ends = [edit.end for edit in edits]
    growth = [0, *accumulate(len(edit.text) - (edit.end - edit.start) for edit in edits)]
    return tuple(place + growth[bisect_right(ends, place)] for place in places)


def gold_spans(example: Question) -> list[tuple[int, int]]:
    """First character of each gold answer and the one after its last."""
    return [(s, s + len(a)) for s, a in zip(example.starts, example.answers, strict=True)]


def is_apart(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a stretch shares no character with any of the spans."""
    return all(end <= first or start >= last for first, last in spans)

"""Find the examples of two languages that are translations of each other: by id, by index, or by order.

XNLI's languages hold the same pairs in the same order, and XQuAD's questions have ids. PAWS-X has neither:
each language lacks some pairs. Its translations are found by their order, with the help of what both
languages have in common: numbers and names, lengths and labels.
"""

from collections import Counter
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import regex

from xlt.data.examples import UNLABELLED, ImageCaption, Question, TextPair

_ANCHOR = regex.compile(r"\d+|\p{Lu}[\p{Latin}\p{M}]{2,}")
"""Text that often stays the same in a translation: numbers, and names if the script is the same."""

LABELS_AGREE = 0.98
"""Share of the pairs found by order that must have the same label."""

LABELS_OF_IDS_AGREE = 0.9
"""Share of the pairs found by id that must have the same label. Row numbers that are no ids agree less."""

SLACK = 32
"""Number of examples by which the languages may run apart, beyond the difference of their sizes."""

MAX_COMPARISONS = 10_000_000
"""Largest number of comparisons of two examples, which takes about ten seconds."""

GAP = -0.5
"""Penalty for an example without a translation. The likeness of a pair is 0 to 3."""

MATCH, PASS_OWN, PASS_OTHER = range(3)


@singledispatch
def texts_of(example: Any) -> tuple[str, str]:
    """Return the two texts of an example.

    Raises:
        TypeError: An example of this type has no two texts.
    """
    raise TypeError(f"a {type(example).__name__} has no texts that could be mixed")


@texts_of.register
def _(example: TextPair) -> tuple[str, str]:
    return example.first, example.second or ""


@texts_of.register
def _(example: ImageCaption) -> tuple[str, str]:
    return example.text, ""


@texts_of.register
def _(example: Question) -> tuple[str, str]:
    return example.question, example.context


def keys_of(ids: Sequence[str]) -> list[str]:
    """Return a distinct key for each row: its id, plus a number if the id is empty or repeated."""
    counts = Counter(ids)
    taken = set(counts)
    numbers: Counter[str] = Counter()
    keys = []
    for key in ids:
        name = key
        while not key or (counts[name] > 1 and key in taken):
            numbers[name] += 1
            key = f"{name}#{numbers[name]}"
            key = "" if key in taken else key
        taken.add(key)
        keys.append(key)
    return keys


def joined(own: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return the pairs of examples that are translations of each other.

    Args:
        own: Examples in a language.
        other: Examples in another language. Each may lack some that the other has; the order must be the
            same.

    Raises:
        ValueError: The pairs cannot be determined.
    """
    if not own or not other:
        raise ValueError("one of the languages has no example with a label, so there is nothing to join")
    counts = [Counter(example.id for example in part) for part in (own, other)]
    for name, count in counts[0].items():
        if name and 0 < counts[1][name] != count:
            raise ValueError(
                f"the id {name!r} occurs {count} times in one language and {counts[1][name]} times in the "
                "other: give each example an id of its own"
            )
    return [(own[i], other[j]) for i, j in enumerate(translations(own, other).tolist()) if j >= 0]


def translations(own: Sequence[Any], other: Sequence[Any]) -> np.ndarray:
    """Return the index in `other` of the translation of each example of `own`; -1 if it has none.

    Ids decide if half of the examples share ids, and a share LABELS_OF_IDS_AGREE of these examples has the
    same label. Else the order decides.

    Args:
        own: Examples in a language.
        other: Examples in another language. Each may lack some that the other has.

    Raises:
        ValueError: The translations cannot be determined.
    """
    indices = by_id(own, other)
    share = _agreement(own, other, indices)
    if 2 * (indices >= 0).sum() >= min(len(own), len(other)) and share >= LABELS_OF_IDS_AGREE:
        return indices
    try:
        return in_order(own, other)
    except TypeError as error:  # examples of a kind whose texts cannot be compared
        raise ValueError(
            f"only {100 * share:.0f} % of the labels of examples with the same id agree: correct the ids"
        ) from error


def by_id(own: Sequence[Any], other: Sequence[Any]) -> np.ndarray:
    """Return the index in `other` of the example with the id of each example of `own`; -1 if none has.

    If several examples share an id, and equally many in both languages, their order decides.
    """
    counts = [Counter(example.id for example in part) for part in (own, other)]
    index_of = {key: index for index, key in enumerate(occurrences(other))}
    return np.array(
        [
            index_of.get(key, -1) if key[0] and counts[0][key[0]] == counts[1][key[0]] else -1
            for key in occurrences(own)
        ],
        np.int64,
    )


def occurrences(examples: Sequence[Any]) -> list[tuple[str, int]]:
    """Return the id of each example, and the number of earlier examples with the same id."""
    seen: Counter[str] = Counter()
    found = []
    for example in examples:
        found.append((example.id, seen[example.id]))
        seen[example.id] += 1
    return found


def _agreement(own: Sequence[Any], other: Sequence[Any], indices: np.ndarray) -> float:
    """Return the share of the pairs with two labels whose labels are the same; 1 if there are none."""
    pairs = [(_label(own[i]), _label(other[j])) for i, j in enumerate(indices.tolist()) if j >= 0]
    known = [one == two for one, two in pairs if one and two]
    return float(np.mean(known)) if known else 1.0


def _label(example: Any) -> str:
    """Return an example's label as text; empty if it has none."""
    label = str(getattr(example, "label", ""))
    return "" if label == str(UNLABELLED) else label


def in_order(own: Sequence[Any], other: Sequence[Any]) -> np.ndarray:
    """Return the index in `other` of the translation of each example of `own`, ascending; -1 if it has none.

    Args:
        own: Examples in a language.
        other: Examples in another language. Each may lack some that the other has.

    Raises:
        ValueError: There are no labels, the sets are too large or of very different sizes, or too few labels
            agree.
    """
    if not any(map(_label, own)) or not any(map(_label, other)):
        raise ValueError(
            "they have neither ids nor labels: give each example the id that its translations have"
        )
    if 2 * min(len(own), len(other)) < max(len(own), len(other)):
        raise ValueError(
            f"its {len(own):,} examples and the {len(other):,} of the other language have no ids in common, "
            "and the two numbers differ too much for a set and its translation"
        )
    indices = np.arange(len(own))
    if len(own) != len(other) or _agreement(own, other, indices) < LABELS_AGREE:
        indices = _aligned(own, other)
    alike = _agreement(own, other, indices)
    if alike < LABELS_AGREE:
        raise ValueError(
            f"its {len(own):,} examples cannot be joined with the {len(other):,} of the other language: they "
            f"have no ids, and put in order {100 * alike:.0f} % of the labels agree"
        )
    return indices


def _aligned(own: Sequence[Any], other: Sequence[Any]) -> np.ndarray:
    """Return the ascending indices in `other` with the largest sum of likenesses; -1 for no translation.

    Raises:
        ValueError: The sets are too large.

    Source: Needleman and Wunsch (1970), J. Mol. Biol. 48(3), in a band about the diagonal. A state is the
        number
    of examples passed in each language. Its diagonal is the difference of both numbers.
    """
    rows, columns = len(own), len(other)
    low = min(0, columns - rows) - SLACK
    width = max(0, columns - rows) + SLACK - low + 1
    if rows * width > MAX_COMPARISONS:
        raise ValueError(f"{rows:,} and {columns:,} examples without ids are too many to put in order")
    likeness = _Likeness(own, other)
    passed, steps = low + np.arange(width), GAP * np.arange(width)
    best = np.where((passed >= 0) & (passed <= columns), GAP * passed, -np.inf)
    moves = np.zeros((rows, width), np.int8)
    for row in range(rows):
        matched = best + likeness.of(row, passed)
        unmatched = np.append(best[1:], -np.inf) + GAP
        passed = passed + 1
        base = np.maximum(matched, unmatched)
        best = np.where(passed <= columns, np.maximum.accumulate(base - steps) + steps, -np.inf)
        moves[row] = np.where(best > base + 1e-9, PASS_OTHER, np.where(matched >= unmatched, MATCH, PASS_OWN))
    return _walked_back(moves, low, columns)


def _walked_back(moves: np.ndarray, low: int, columns: int) -> np.ndarray:
    """Return the indices that the best path has matched; -1 for no translation."""
    row = len(moves)
    indices = np.full(row, -1, np.int64)
    diagonal = columns - row - low
    while row:
        move = moves[row - 1, diagonal]
        if move == PASS_OTHER:
            diagonal -= 1
            continue
        row -= 1
        if move == PASS_OWN:
            diagonal += 1
        else:
            indices[row] = row + low + diagonal
    return indices


class _Likeness:
    """Likeness of the examples of two languages, by what translations have in common.

    Args:
        own: Examples in a language.
        other: Examples in another language.
    """

    def __init__(self, own: Sequence[Any], other: Sequence[Any]) -> None:
        self._own, self._other = [_anchors(e) for e in own], [_anchors(e) for e in other]
        self._ratios = [np.array([_ratio(example) for example in part]) for part in (own, other)]
        self._labels = [np.array([_label(example) for example in part]) for part in (own, other)]

    def of(self, row: int, columns: np.ndarray) -> np.ndarray:
        """Return the likeness, 0 to 3, of an example of `own` and examples of `other`; -inf outside.

        Anchors, ratios of lengths and labels each add 0 to 1.
        """
        found = np.full(len(columns), -np.inf)
        there = (columns >= 0) & (columns < len(self._other))
        columns = columns[there]
        mine = self._own[row]
        anchors = [_shared(mine, self._other[column]) for column in columns.tolist()]
        ratios = np.maximum(0.0, 1 - 4 * np.abs(self._ratios[0][row] - self._ratios[1][columns]))
        found[there] = np.array(anchors) + ratios + (self._labels[0][row] == self._labels[1][columns])
        return found


def _anchors(example: Any) -> frozenset[str]:
    """Return the numbers and names in both texts."""
    return frozenset(_ANCHOR.findall(" ".join(texts_of(example))))


def _ratio(example: Any) -> float:
    """Return the log of the ratio of both texts' lengths in characters."""
    first, second = texts_of(example)
    return float(np.log((1 + len(first)) / (1 + len(second))))


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of the anchors of two examples that both have."""
    both = len(one | other)
    return len(one & other) / both if both else 0.5

"""Which examples of two languages translate each other: those of like id, of like place, or in like order.

XNLI's languages hold the same pairs in the same order, XQuAD's questions have ids. PAWS-X has neither: each
language lacks some pairs of English, so its pairs are found among the English ones by their order, and by the
numbers and names, the length and the label that both have.
"""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import regex

from xlt.data.examples import Question, TextPair

_ANCHOR = regex.compile(r"\d+|\p{Lu}[\p{Latin}\p{M}]{2,}")
"""What often stays as it is in a translation: numbers, and names where the script stays."""

LABELS_AGREE = 0.98
"""Share of the pairs found by order whose labels must be the same."""


@singledispatch
def texts_of(example: Any) -> tuple[str, str]:
    """The two texts of an example.

    Raises:
        TypeError: Its shape has none.
    """
    raise TypeError(f"a {type(example).__name__} has no texts that could be mixed")


@texts_of.register
def _(example: TextPair) -> tuple[str, str]:
    return example.first, example.second


@texts_of.register
def _(example: Question) -> tuple[str, str]:
    return example.question, example.context


def joined(own: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of examples that translate each other.

    Args:
        own: Examples in one language.
        other: Examples in another; either may lack some, in order, that the other has.

    Raises:
        ValueError: It cannot be told which belong together.
    """
    if not own or not other:
        raise ValueError("one of them has no example with a label, so there is nothing to join")
    if all(example.id for example in (*own, *other)):
        by_id = {example.id: example for example in other}
        return [(example, by_id[example.id]) for example in own if example.id in by_id]
    if len(own) <= len(other):
        pairs = [(own[i], other[j]) for i, j in enumerate(_in_order(own, other))]
    else:
        pairs = [(own[j], other[i]) for i, j in enumerate(_in_order(other, own))]
    alike = float(np.mean([a.label == b.label for a, b in pairs]))
    if alike < LABELS_AGREE:
        raise ValueError(
            f"its {len(own):,} examples cannot be joined with the {len(other):,} of the other language: they "
            f"have no ids, and put in order {100 * alike:.0f} % of the labels agree"
        )
    return pairs


def _in_order(few: Sequence[Any], many: Sequence[Any]) -> list[int]:
    """The place among `many` of each of `few`, ascending, so that they are most alike in all.

    Dynamic programming over the number of those passed over, of which there are few.
    """
    spare = len(many) - len(few)
    if not spare:
        return list(range(len(few)))
    traits, theirs = [_traits(e) for e in few], [_traits(e) for e in many]
    total = np.zeros(spare + 1)
    came_from = np.zeros((len(few), spare + 1), int)
    for i, mine in enumerate(traits):
        best = np.maximum.accumulate(total)
        came_from[i] = np.maximum.accumulate(np.where(total == best, np.arange(spare + 1), 0))
        total = best + [_likeness(mine, theirs[i + passed]) for passed in range(spare + 1)]
    passed, places = int(total.argmax()), [0] * len(few)
    for i in reversed(range(len(few))):
        places[i] = i + passed
        passed = int(came_from[i, passed])
    return places


def _traits(example: Any) -> tuple[frozenset[str], float, Any]:
    """Numbers and names, the log of the ratio of both texts' lengths, and the label."""
    first, second = texts_of(example)
    ratio = float(np.log((1 + len(first)) / (1 + len(second))))
    return frozenset(_ANCHOR.findall(f"{first} {second}")), ratio, example.label


def _likeness(one: tuple[frozenset[str], float, Any], other: tuple[frozenset[str], float, Any]) -> float:
    """0 to 3: how many anchors both have, how alike the ratios are, and whether the labels are."""
    both = len(one[0] | other[0])
    anchors = len(one[0] & other[0]) / both if both else 0.5
    return anchors + max(0.0, 1 - 4 * abs(one[1] - other[1])) + (one[2] == other[2])

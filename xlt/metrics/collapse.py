"""Collapse: a model gives nearly always the same prediction, so its score says nothing about its input.

A prediction is a class, the number of a choice, a tag, a token, an answer's text, or a retrieved sentence.
Let c be the most frequent prediction. A model has collapsed on a split if both hold:

- c is more than half of all predictions;
- of the references other than c, less than 1 percent are found.

In multiple choice a model has also collapsed if the choices of more than half of the rows get equal scores:
`xlt.kinds.multiple_choice`.

Such a model scores no better than the constant prediction c: F1 of QQP is 0 if c is "not a duplicate". A few
other predictions that are all wrong do not hide the collapse. Scores alone cannot tell: a good model may
score close to the most frequent class of a skewed split, but it finds some of the other references.

A split can be judged if at least 10 references differ from the most frequent reference. A model that finds
half of them would miss all 10 with probability 1 / 1,024. Tiny splits, and splits with one class, cannot be
judged.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

COLLAPSED = "collapsed"
"""Key of the detail that is 1 for a collapsed model, else 0. Absent if the split cannot be judged."""

CONSTANT_SHARE = "constant_share"
"""Key of the detail that holds the share of the most frequent prediction, in percent."""

MIN_OTHERS = 10
"""Minimum number of references that differ from the most frequent one."""

MAX_FOUND = 0.01
"""A collapsed model finds less than this share of the references other than its constant prediction."""

UNKNOWN = "unknown"
"""Verdict on a score whose split cannot be judged, or that an older version of xlt wrote."""

VERDICTS = ("yes", "no", UNKNOWN)
"""Values of the column `collapsed` in tables of scores."""

MAX_NAMED = 12
"""Maximum number of names in a sentence."""


def collapse_details(
    predicted: Sequence[Hashable],
    references: Sequence[Hashable],
    is_found: Sequence[bool] | None = None,
) -> dict[str, float]:
    """Return the details of a score that tell a collapsed model.

    Args:
        predicted: Prediction of each row.
        references: Reference of each row, comparable with the predictions.
        is_found: True for each row whose prediction is right, at least in part. Defaults to the rows whose
            prediction equals the reference.

    Returns:
        `collapsed` (0 or 1) and `constant_share` (percent); nothing if the split cannot be judged.
    """
    numbers: dict[Hashable, int] = {}
    ours, gold = (
        np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
        for values in (predicted, references)
    )
    if not len(gold) or len(gold) - np.bincount(gold).max() < MIN_OTHERS:
        return {}
    constant = int(np.bincount(ours).argmax())
    share = float((ours == constant).mean())
    found = ours == gold if is_found is None else np.asarray(is_found, dtype=bool)
    has_collapsed = share > 0.5 and found[gold != constant].mean() < MAX_FOUND
    return {COLLAPSED: float(has_collapsed), CONSTANT_SHARE: 100 * share}


def is_collapsed(details: Mapping[str, float]) -> bool:
    """Return True for the details of a collapsed model."""
    return details.get(COLLAPSED, 0.0) > 0


def verdict_of(details: Mapping[str, float]) -> str:
    """Return `yes` for a collapsed model, else `no`; `unknown` for a split that cannot be judged."""
    return ("yes" if is_collapsed(details) else "no") if COLLAPSED in details else UNKNOWN


def collapse_note(names: Iterable[str]) -> str:
    """Return the number and the names of collapsed scores: `1 collapsed: qqp`. Empty without names."""
    found = list(names)
    if not found:
        return ""
    more = f" and {len(found) - MAX_NAMED:,} more" if len(found) > MAX_NAMED else ""
    return f"{len(found):,} collapsed: {', '.join(found[:MAX_NAMED])}{more}"

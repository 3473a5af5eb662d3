"""Outcome: the prediction for an example beside its gold answer, in values that a reader understands."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlt.batch.predictions import Outputs


@dataclass(frozen=True)
class Outcome:
    """Prediction for an example, and its gold answer if the example has a label.

    Args:
        prediction: Name of the class, index of the choice, text of the answer, or a list of tags.
        probability: Probability of the prediction, 0 to 1; for tags, a list with a value for each word.
        gold: Gold answer in the form of `prediction`, or a list of the right answers' texts. None without a
            label.
        gold_probability: Probability of the gold answer, 0 to 1. None if it is unknown.
        score: Score of the example in percent. None without a label.
        probabilities: Probability of each class by name; for tags, a list of such mappings. None if not kept.
        details: Further columns by name, such as the text of the choice.
    """

    prediction: Any
    probability: float | list[float] | None
    gold: Any = None
    gold_probability: Any = None
    score: float | None = None
    probabilities: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)


def outcome_of(
    outputs: Outputs,
    index: int,
    labels: Sequence[str],
    prediction: Any,
    gold: Any,
    score: float,
    **details: Any,
) -> Outcome:
    """Return the outcome of a row of a head that chooses among classes.

    Args:
        outputs: Outputs of all rows, with `probability` and, if they were kept, `gold_probability` and
            `probabilities`.
        index: Index of the row in the outputs.
        labels: Names of the classes.
        prediction: The prediction.
        gold: The gold answer. None without a label.
        score: Score of the prediction in percent, if there is a label.
        details: Further columns.
    """
    found = outputs.get("probabilities")
    return Outcome(
        prediction,
        _plain(outputs, "probability", index),
        gold,
        None if gold is None else _plain(outputs, "gold_probability", index),
        None if gold is None else score,
        None if found is None else _by_class(np.asarray(found[index]), labels),
        details,
    )


def _plain(outputs: Outputs, name: str, index: int) -> Any:
    """Return an output of a row as numbers of Python, with None for NaN; None if there is no such output."""
    if name not in outputs:
        return None
    value = np.asarray(outputs[name][index]).tolist()
    return [_known(v) for v in value] if isinstance(value, list) else _known(value)


def _known(value: float) -> float | None:
    """Return a number, or None for NaN."""
    return None if math.isnan(value) else value


def _by_class(values: np.ndarray, labels: Sequence[str]) -> Any:
    """Return the values of each class by name, or a list of these for each word."""
    if values.ndim > 1:
        return [_by_class(row, labels) for row in values]
    return dict(zip(labels, values.tolist(), strict=True))

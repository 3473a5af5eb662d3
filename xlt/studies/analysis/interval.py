"""An estimate with its interval, and Student's interval of a mean."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """An estimate and the limits of its interval; the limits are NaN if they cannot be known (one seed)."""

    estimate: float
    low: float
    high: float


def student_interval(values: Sequence[float]) -> Interval:
    """Return the mean of replicates and its 95 % interval by Student's t; NaN limits below two values.

    Source: Student (1908), https://doi.org/10.2307/2331554.
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half)

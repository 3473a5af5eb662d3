"""The power of a study: the smallest difference that its seeds can detect, and the SD over seeds."""

# pandas declares its return types too broadly.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

import math

import numpy as np
import pandas as pd
from scipy import optimize

from xlt.studies.analysis.robustness import clean, effects
from xlt.studies.analysis.statistics import paired_power


def smallest_difference(seeds: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest difference in points that a paired t-test detects; the inverse of `seeds_needed`.

    Args:
        seeds: Number of seeds, at least 2.
        sd: SD over seeds of the paired differences, in points.
        alpha: Significance level of both sides together. Defaults to 0.05.
        power: Probability to find the difference. Defaults to 0.8.

    Raises:
        ValueError: There are fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}: a paired t-test needs at least 2")

    def missing_power(size: float) -> float:
        """Return the wanted power minus the power for a difference of this size in SDs."""
        return power - paired_power(size, seeds, alpha)

    size = 1e-3
    while missing_power(2 * size) > 0:
        size *= 2
    return sd * float(np.asarray(optimize.brentq(missing_power, size, 2 * size)))


def paired_sds(scores: pd.DataFrame) -> dict[str, float]:
    """Return the SD over seeds of the effect on each target, in points, pooled over arms.

    Effects are means over languages. Targets without an arm that has two seeds are left out.

    Args:
        scores: The table of scores.

    Source: pooled variance, as in Cohen (1988), section 2.2.
    """
    unperturbed = clean(effects(scores))
    by_run = unperturbed.groupby(["target", "intermediate", "volume", "seed"])
    runs = by_run["effect"].agg(["mean", "size"]).reset_index()
    complete = runs[runs["size"] == runs.groupby("target")["size"].transform("max")]
    spreads = complete.groupby(["target", "intermediate", "volume"])["mean"].agg(["var", "size"]).dropna()
    freedom = spreads["size"] - 1
    pooled = (spreads["var"] * freedom).groupby("target").sum() / freedom.groupby("target").sum()
    return {str(target): math.sqrt(value) for target, value in pooled.items()}

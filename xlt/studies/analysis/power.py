"""How many seeds a wanted difference needs, and what those of a study can see."""

# pandas says what it returns too widely.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

import math

import numpy as np
import pandas as pd
from scipy import optimize

from xlt.studies.analysis.robustness import clean, effects
from xlt.studies.analysis.statistics import paired_power


def smallest_difference(seeds: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The difference in points that so many seeds see with this power; the other way round of `seeds_needed`.

    Raises:
        ValueError: There are fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"{seeds} seeds: a paired t-test needs 2 at least")

    def lack(size: float) -> float:
        """The power that a difference of so many SDs lacks."""
        return power - paired_power(size, seeds, alpha)

    size = 1e-3
    while lack(2 * size) > 0:
        size *= 2
    return sd * float(np.asarray(optimize.brentq(lack, size, 2 * size)))


def paired_sds(scores: pd.DataFrame) -> dict[str, float]:
    """SD over seeds of a task's effect on each target, in points: a mean over languages, pooled over arms.

    Targets without two seeds of any arm are left out.

    Source: pooled variance, as in Cohen (1988), section 2.2.
    """
    kept = clean(effects(scores))
    by_run = kept.groupby(["target", "intermediate", "volume", "seed"])
    runs = by_run["effect"].agg(["mean", "size"]).reset_index()
    complete = runs[runs["size"] == runs.groupby("target")["size"].transform("max")]
    spreads = complete.groupby(["target", "intermediate", "volume"])["mean"].agg(["var", "size"]).dropna()
    freedom = spreads["size"] - 1
    pooled = (spreads["var"] * freedom).groupby("target").sum() / freedom.groupby("target").sum()
    return {str(target): math.sqrt(value) for target, value in pooled.items()}

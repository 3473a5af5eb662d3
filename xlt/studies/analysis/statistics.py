"""Statistics of a study: intervals, tests, a mixed model and power over seeds, targets and test rows.

With three seeds a percentile interval of the bootstrap covers the true value at most 75 % of the time,
because it stays between the lowest and the highest seed. Intervals here use the bootstrap's variances,
corrected for few levels, and Student's t. D draws, S seeds.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.stats.power import TTestPower

from xlt.studies.analysis.interval import Interval
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, require_single
from xlt.studies.analysis.variance import containment, fit_components, fixed_terms, random_terms

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean effect with its variance.

    Args:
        value: The estimate, in points.
        parts: Variance and degrees of freedom of each source of variation (seeds, targets, rows). Empty if
            the variance cannot be known.
    """

    value: float
    parts: tuple[tuple[float, float], ...]

    def margin(self, level: float = 0.95) -> float:
        """Return half the width of the interval: the root of the summed squares of the parts' margins.

        Args:
            level: Probability that the interval contains the true value. Defaults to 0.95.

        Source: Zou and Donner (2008), Statistics in Medicine 27(10), 1693–1702. Satterthwaite's single t
        covers 92 % of the time if three seeds outweigh the rest; this margin covers 95 to 99 %, and is never
        smaller than the margin of one part.
        """
        squares = [variance * float(stats.t.ppf((1 + level) / 2, df)) ** 2 for variance, df in self.parts]
        return math.sqrt(sum(squares)) if squares else math.nan

    def interval(self, level: float = 0.95) -> Interval:
        """Return the interval that contains the true value with this probability."""
        margin = self.margin(level)
        return Interval(self.value, self.value - margin, self.value + margin)

    def p_above(self, threshold: float = 0.0) -> float:
        """Return the one-sided p-value for a true value above the threshold; NaN if unknown."""
        distance = self.value - threshold
        if not self.parts or not any(variance for variance, _ in self.parts):
            return float(distance <= 0) if self.parts else math.nan
        p = self._two_sided_p(abs(distance)) / 2
        return p if distance > 0 else 1 - p

    def p_below(self, threshold: float = 0.0) -> float:
        """Return the one-sided p-value for a true value below the threshold; NaN if unknown."""
        return Estimate(-self.value, self.parts).p_above(-threshold)

    def _two_sided_p(self, distance: float) -> float:
        """Return 1 minus the level of the interval that ends at this distance from the estimate."""
        lowest = 1e-12
        if self.margin(1 - lowest) <= distance:
            return lowest
        found = optimize.brentq(lambda p: self.margin(1 - p) - distance, lowest, 1.0)
        return float(np.asarray(found))


def from_draws(by_seed: np.ndarray, drawn: np.ndarray, key: Sequence[int]) -> Estimate:
    """Estimate a mean over seeds from draws of the seeds and of the test rows.

    Each draw takes its own seeds and its own rows; all seeds of a draw share their rows, because they are
    tested on the same rows. The variance of a mean of S drawn seeds is (S − 1)/S of the true variance; the
    difference is added.

    Args:
        by_seed: Effect of each seed on the original rows, shape (S,).
        drawn: Effect of each seed on the drawn rows, shape (D, S).
        key: Seed of the draws of seeds.

    Source: Efron and Tibshirani (1993), chapters 6 and 8; Owen (2007), https://arxiv.org/abs/0712.1111
    (resampling of crossed factors: the variance is not too small); Hesterberg (2015),
    https://arxiv.org/abs/1411.5279 (correction for few levels, and t instead of percentiles).
    """
    value, seeds = float(by_seed.mean()), len(by_seed)
    if seeds < 2:
        return Estimate(value, ())
    picks = np.random.default_rng([*key, 1]).integers(seeds, size=drawn.shape)
    means = np.take_along_axis(drawn, picks, 1).mean(1)
    between = float(by_seed.var(ddof=1)) / seeds
    rows = max(float(means.var(ddof=1)) - between * (seeds - 1) / seeds, 0.0)
    return Estimate(value, ((between, seeds - 1), (rows, math.inf)))


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjust the p-values of a family of tests by Holm's method.

    `multipletests` of statsmodels gives the same, but collects garbage at each call: half a second.

    Args:
        p_values: p-value of each test.

    Raises:
        ValueError: A p-value is not from 0 to 1.

    Source: Holm (1979), Scandinavian Journal of Statistics 6(2), 65–70.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(
                f"p-value of {name} is {value}: it must be from 0 to 1; leave out tests that were not made"
            )
    order = sorted(p_values, key=lambda name: p_values[name])
    raised = [p_values[name] * (len(order) - rank) for rank, name in enumerate(order)]
    adjusted = dict(zip(order, np.minimum(np.maximum.accumulate(raised), 1.0).tolist(), strict=True))
    return {name: adjusted[name] for name in p_values}


def mixed_model(scores: pd.DataFrame) -> pd.DataFrame:
    """Fit score ~ task * log2(volume) + (1|language) + (1|target) + (1|seed) on unperturbed rows.

    Scores of one run are alike, and a task does not help every target alike. The model therefore adds
    (task|target), (task:log2(volume)|target) and (1|run); without them each language would count as an
    independent run.

    Args:
        scores: The table of scores.

    Returns:
        One line for each term: the mean score without an intermediate task ("none"); for each task, the
            points gained at the mean log volume, and the points gained with each doubling of the volume
            ("TASK x log2(volume)"); then the random components ("SD of ..."), without interval. Columns:
            `estimate`, `low`, `high`, `p`, `converged`, `words` (remarks on the fit). t has (tasks) x
            (targets - 1) degrees of freedom, those of a task's effect over targets.

    Raises:
        ValueError: A score appears twice, or there are fewer lines than terms.

    Source: Baayen, Davidson and Bates (2008), Journal of Memory and Language 59(4); Barr et al. (2013), same
    journal, 68(3) (slopes as the design has them); degrees of freedom by containment: Pinheiro and Bates
    (2000), section 2.4.
    """
    unperturbed = clean(scores).reset_index(drop=True)
    require_single(unperturbed, [*KEY, "split"])
    fixed, doublings = fixed_terms(unperturbed)
    fitted = fit_components(unperturbed["score"].to_numpy(float), fixed, random_terms(unperturbed, doublings))
    df = containment(unperturbed, fixed.shape[1])
    z = fitted.estimates / fitted.errors
    margin = float(stats.t.ppf(0.975, df)) * fitted.errors
    terms = pd.DataFrame({"term": fixed.columns, "estimate": fitted.estimates.to_numpy()})
    low, high = (fitted.estimates - margin).to_numpy(), (fitted.estimates + margin).to_numpy()
    terms = terms.assign(low=low, high=high, p=2 * stats.t.sf(np.abs(z.to_numpy()), df))
    names = [f"SD of {name}" for name in fitted.variances]
    spreads = pd.DataFrame({"term": names, "estimate": np.sqrt(list(fitted.variances.values()))})
    return pd.concat([terms, spreads], ignore_index=True).assign(
        converged=fitted.converged, words=fitted.words
    )


MAX_TRIED_SEEDS = 10
"""Number of seeds up to which each number is tried: statsmodels finds no root among small numbers."""


UNEQUAL = 0.05
"""Level of the test for unequal variances."""


def has_unequal_variances(samples: Sequence[np.ndarray]) -> bool:
    """Return True if the samples differ in variance by Bartlett's test, or if some vary and others do not.

    Args:
        samples: At least two samples, each of at least two values.

    Source: Bartlett (1937), Proceedings of the Royal Society A 160, 268–282.
    """
    ranges = [float(np.ptp(sample)) for sample in samples]
    if min(ranges) == 0:
        return max(ranges) > 0
    return float(stats.bartlett(*samples).pvalue) < UNEQUAL


def paired_power(size: float, seeds: int, alpha: float = 0.05) -> float:
    """Return the power of a two-sided paired t-test, counting only differences with the correct sign.

    The chance to find a difference with the wrong sign is below 1e-4 if the power is above one half, and
    SciPy returns NaN for very small chances.

    Args:
        size: True difference in SDs of the paired differences.
        seeds: Number of seeds.
        alpha: Significance level of both sides together. Defaults to 0.05.
    """
    return float(TTestPower().power(abs(size), seeds, alpha / 2, alternative="larger"))


def seeds_needed(difference: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return the number of seeds, at least 2, with which a paired t-test finds a difference between two arms.

    Args:
        difference: True mean difference, in points.
        sd: SD over seeds of the paired differences, in points (not of one arm's scores).
        alpha: Significance level of both sides together. Defaults to 0.05.
        power: Probability to find the difference. Defaults to 0.8.

    Raises:
        ValueError: The difference is 0, or the SD is not above 0.

    Source: Cohen (1988), Statistical Power Analysis, chapter 2; Card et al. (2020),
    https://aclanthology.org/2020.emnlp-main.745.
    """
    if difference == 0 or not sd > 0:
        raise ValueError(
            f"difference is {difference} and sd is {sd}: difference must not be 0, and sd must be above 0"
        )
    size = difference / sd
    for seeds in range(2, MAX_TRIED_SEEDS + 1):
        if paired_power(size, seeds, alpha) >= power:
            return seeds
    found = TTestPower().solve_power(abs(size), alpha=alpha / 2, power=power, alternative="larger")
    return math.ceil(float(found) - 1e-9)

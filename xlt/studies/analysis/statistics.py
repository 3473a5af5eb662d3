"""Intervals, tests, a mixed model and power: what the seeds, targets and test rows of a study allow to say.

With three seeds a percentile interval of the bootstrap cannot hold more than 75 % of the time (it stays
within the lowest and the highest seed), so intervals here take the bootstrap's variances, corrected for few
levels, and Student's t. D draws, S seeds, U units (targets, or languages).
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from xlt.studies.analysis.example_scores import (
    check_example_scores,
    counts_by_language,
    drawn_scores,
    score_of,
)
from xlt.studies.analysis.interval import Interval
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, require_single
from xlt.studies.analysis.variance import containment, fit_components, fixed_terms, random_terms

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean effect and how sure it is.

    Args:
        value: The estimate, in points.
        parts: Its variance by where it comes from (seeds, targets, rows), each with the degrees of freedom
            that it is estimated from; empty where it cannot be known.
    """

    value: float
    parts: tuple[tuple[float, float], ...]

    def margin(self, level: float = 0.95) -> float:
        """Half the width of the interval: the root of the sum of squares of the parts' own margins.

        Source: Zou and Donner (2008), Statistics in Medicine 27(10), 1693–1702. Satterthwaite's single t
        holds
        92 % of the time where three seeds outweigh the rest; this holds 95 to 99 %, and is never within a
        part's own.
        """
        squares = [variance * float(stats.t.ppf((1 + level) / 2, df)) ** 2 for variance, df in self.parts]
        return math.sqrt(sum(squares)) if squares else math.nan

    def interval(self, level: float = 0.95) -> Interval:
        """The interval that holds the true value with this probability."""
        margin = self.margin(level)
        return Interval(self.value, self.value - margin, self.value + margin)

    def p_above(self, threshold: float = 0.0) -> float:
        """Chance of so high an estimate where the true value is the threshold (one side); NaN if unknown."""
        distance = self.value - threshold
        if not self.parts or not any(variance for variance, _ in self.parts):
            return float(distance <= 0) if self.parts else math.nan
        outside = self._outside(abs(distance)) / 2
        return outside if distance > 0 else 1 - outside

    def p_below(self, threshold: float = 0.0) -> float:
        """Chance of so low an estimate where the true value is the threshold (one side); NaN if unknown."""
        return Estimate(-self.value, self.parts).p_above(-threshold)

    def _outside(self, distance: float) -> float:
        """One less the level whose interval ends at this distance from the estimate."""
        lowest = 1e-12
        if self.margin(1 - lowest) <= distance:
            return lowest
        found = optimize.brentq(lambda p: self.margin(1 - p) - distance, lowest, 1.0)
        return float(np.asarray(found))


def from_draws(by_seed: np.ndarray, drawn: np.ndarray, key: Sequence[int]) -> Estimate:
    """A mean over seeds, from draws of the example scores.

    Seeds are drawn, then each draw takes its example scores.

    All seeds of a draw have the same example scores, for they are tested on the same rows. The variance of a
    mean of S drawn seeds is (S − 1)/S of what it should be; what lacks is added.

    Args:
        by_seed: The effect by seed on the example scores as they are, shape (S,).
        drawn: The same with drawn example scores, shape (D, S).
        key: Of the draws of seeds.

    Source: Efron and Tibshirani (1993), chapters 6 and 8; Owen (2007), https://arxiv.org/abs/0712.1111
    (resampling
    crossed factors: the variance is not too small); Hesterberg (2015), https://arxiv.org/abs/1411.5279 (the
    correction for few, and t in place of percentiles).
    """
    value, seeds = float(by_seed.mean()), len(by_seed)
    if seeds < 2:
        return Estimate(value, ())
    picks = np.random.default_rng([*key, 1]).integers(seeds, size=drawn.shape)
    means = np.take_along_axis(drawn, picks, 1).mean(1)
    between = float(by_seed.var(ddof=1)) / seeds
    example_scores = max(float(means.var(ddof=1)) - between * (seeds - 1) / seeds, 0.0)
    return Estimate(value, ((between, seeds - 1), (example_scores, math.inf)))


def hierarchical_bootstrap(
    treated: Mapping[str, np.ndarray],
    control: Mapping[str, np.ndarray],
    *,
    parallel: bool,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean effect over languages of one arm against another, with an interval over seeds and test rows.

    The languages are the study's own: nothing is said of others.

    Args:
        treated: Items by language, shape (S, R) or (S, R, 3); seeds in the same order in both arms.
        control: The other arm's, of the same shapes.
        parallel: Whether a row is the same example in every language, and is drawn in all of them together.
        draws: How many.
        seed: Of the draws: the same gives the same interval.
        level: Probability that the interval holds the true mean.

    Raises:
        ValueError: The arms differ in languages or shapes, an item is not finite, or the rows of a parallel
        set
            are not as many in each language.

    Source: see `from_draws`; Dror et al. (2018), https://aclanthology.org/P18-1128, on pairing by example.
    """
    _require_alike(treated, control)
    rows = {language: example_scores.shape[1] for language, example_scores in treated.items()}
    counts = counts_by_language(rows, draws, seed, parallel)
    drawn = [
        drawn_scores(treated[name], counts[name]) - drawn_scores(control[name], counts[name]) for name in rows
    ]
    plain = [score_of(treated[name]) - score_of(control[name]) for name in rows]
    return from_draws(np.mean(plain, 0), np.mean(drawn, 0), (seed,)).interval(level)


def _require_alike(treated: Mapping[str, np.ndarray], control: Mapping[str, np.ndarray]) -> None:
    """Refuse arms that cannot be paired."""
    if not treated or set(treated) != set(control):
        names = ", ".join(sorted(set(treated) ^ set(control))) or "none at all"
        raise ValueError(f"both arms must have the same languages; one alone has: {names}")
    for language, example_scores in treated.items():
        if example_scores.shape != control[language].shape:
            raise ValueError(
                f"{language}: example_scores of shape {example_scores.shape} against "
                f"{control[language].shape}"
            )
        check_example_scores(example_scores, language)
        check_example_scores(control[language], language)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """The p-values of a family of tests, each raised so that one error in all of them is as rare as said.

    Raises:
        ValueError: A p-value is none.

    Source: Holm (1979), Scandinavian Journal of Statistics 6(2), 65–70.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(
                f"p-value of {name} is {value}: leave tests that were not made out of the family"
            )
    if not p_values:
        return {}
    raised = np.asarray(multipletests(list(p_values.values()), method="holm")[1])
    return {name: float(value) for name, value in zip(p_values, raised, strict=True)}


def mixed_model(scores: pd.DataFrame) -> pd.DataFrame:
    """Fit score ~ task * log2(volume) + (1|language) + (1|target) + (1|seed), so that its intervals hold.

    Lines of one run are alike, and a task does not help every target alike; without intercepts for that each
    language would count as a run of its own. So (task|target), (task:log2(volume)|target) and (1|run) stand
    beside the three. Rows as they are only.

    Returns:
        A line a term. The mean score without an intermediate task ("none"); by task, points gained over it at
        the mean log volume, and points by doubling of the volume ("TASK x log2(volume)"); then "SD of ..."
        the random components, without interval. `estimate`, `low`, `high`, `p`, `converged`, `words` (what is
        to be said of the fit). t has (tasks) x (targets - 1) degrees of freedom, those of a task's effect
        over targets.

    Raises:
        ValueError: A score stands twice, or there are fewer lines than terms.

    Source: Baayen, Davidson and Bates (2008), Journal of Memory and Language 59(4); Barr et al. (2013), the
    same,
    68(3) (slopes as the design has them); degrees of freedom by containment: Pinheiro and Bates (2000),
    section 2.4.
    """
    kept = clean(scores).reset_index(drop=True)
    require_single(kept, [*KEY, "split"])
    fixed, doublings = fixed_terms(kept)
    fitted = fit_components(kept["score"].to_numpy(float), fixed, random_terms(kept, doublings))
    df = containment(kept, fixed.shape[1])
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


FEW = 10
"""Seeds up to which each number is tried: statsmodels finds no root among the smallest."""


def paired_power(size: float, seeds: int, alpha: float = 0.05) -> float:
    """Chance that a paired t-test sees a difference of so many SDs, on its own side of the two.

    Left out is the chance to see it on the wrong side, below 1e-4 where this is above one half: SciPy does
    not know it (NaN) where it is smallest.
    """
    return float(TTestPower().power(abs(size), seeds, alpha / 2, alternative="larger"))


def seeds_needed(difference: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Seeds for a difference between two arms to be seen by a paired t-test, at least 2.

    Args:
        difference: The true mean difference, in points.
        sd: SD over seeds of the paired differences, in points (not of one arm's scores).
        alpha: Chance to see one where there is none, both sides together.
        power: Chance to see it.

    Raises:
        ValueError: The difference is 0, or the SD is not above 0.

    Source: Cohen (1988), Statistical Power Analysis, chapter 2; Card et al. (2020),
    https://aclanthology.org/2020.emnlp-main.745.
    """
    if difference == 0 or not sd > 0:
        raise ValueError(
            f"difference {difference}, sd {sd}: the difference must not be 0, and the SD must be above 0"
        )
    size = difference / sd
    for seeds in range(2, FEW + 1):
        if paired_power(size, seeds, alpha) >= power:
            return seeds
    found = TTestPower().solve_power(abs(size), alpha=alpha / 2, power=power, alternative="larger")
    return math.ceil(float(found) - 1e-9)

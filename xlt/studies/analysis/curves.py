"""Curves of a score against the volume of intermediate training: power law, logarithm, or constant.

The power law is s(n) = s_inf − a (n + n0)^−b. It starts at the score without intermediate training (n = 0)
and levels off at s_inf. Few volumes and seeds do not determine its exponent; each curve states if they do. S
seeds, V volumes.

Source of the form: pow4 of Domhan et al. (2015), https://www.ijcai.org/Proceedings/15/Papers/487.pdf, over
volumes as in Rosenfeld et al. (2020), https://arxiv.org/abs/1909.12673.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xlt.studies.analysis.power_law import (
    EXPONENTS,
    Coefficients,
    PowerLaws,
    fit_laws,
    fit_linear,
    make_grid,
    refine,
)

PARAMETERS = {"constant": 2, "log-linear": 3, "power": 5}
"""Number of parameters of each curve, including the residual variance."""

MAX_RATIO = 4.0
"""An exponent is identifiable if the highest that fits is less than this many times the lowest."""


@dataclass(frozen=True)
class Curve:
    """A fitted curve.

    Args:
        best: Form with the lowest AICc: "constant", "log-linear" or "power".
        aicc: AICc of each form; infinite if there are too few scores for it.
        s_inf: Asymptote of the power law, in points.
        a: Scale of the power law, in points × examples^b.
        n0: Offset of the power law, in examples.
        b: Exponent of the power law.
        b_low: Lowest exponent that fits equally well at 95 % (profile of the likelihood).
        b_high: Highest exponent that fits equally well at 95 %.
        identifiable: True if the scores determine the exponent. If False, s_inf, a, n0 and b are one choice
            of many.
        reason: Reason for `identifiable`, in words.
        volumes: Volumes that have scores.
        seeds: Number of seeds.
        missing: Number of missing pairs of seed and volume.
        point: The best curve.
    """

    best: str
    aicc: Mapping[str, float]
    s_inf: float
    a: float
    n0: float
    b: float
    b_low: float
    b_high: float
    identifiable: bool
    reason: str
    volumes: tuple[int, ...]
    seeds: int
    missing: int
    point: Coefficients

    def predict(self, n: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the scores of the best curve at these volumes, in points."""
        return self.point.at(np.atleast_1d(np.asarray(n, float)))[0]


class Sample(NamedTuple):
    """Scores summarised by volume for least squares."""

    values: np.ndarray
    """Means, shape (V,)."""
    weights: np.ndarray
    """Number of scores behind each mean, shape (V,)."""
    within: float
    """Sum of squares around the means."""


def fit(
    volumes: Sequence[int] | np.ndarray,
    scores: Sequence[Sequence[float]] | np.ndarray,
) -> Curve:
    """Fit the three curves, choose one by AICc, and determine if the exponent is identifiable.

    Args:
        volumes: Numbers of examples, 0 for none, without repeats, shape (V,).
        scores: One line for each seed, shape (S, V), NaN if a score is missing; or the scores of one seed,
            shape (V,).

    Raises:
        ValueError: The shapes do not match, a volume is repeated, or fewer than two volumes have scores.

    Source: Burnham and Anderson (2002), Model Selection and Multimodel Inference, section 2.4 (AICc).
    """
    points, table = _check_input(volumes, scores)
    sample, grid = _summarise(table), make_grid(points)
    values, weights = sample.values[None], sample.weights[None]
    law = fit_laws(values, weights, np.array([sample.within]), grid)
    power, misfit = refine(law, values, weights, grid)
    linear = {name: fit_linear(name, points, values, weights) for name in ("constant", "log-linear")}
    misfits = {
        name: float((weights * (curve.at(points) - values) ** 2).sum()) for name, curve in linear.items()
    }
    aicc = aicc_by_form(misfits | {"power": misfit}, sample.within, int(weights.sum()))
    best = min(aicc, key=lambda name: aicc[name])
    identifiable, reason = is_identifiable(law, aicc, int(weights.sum()), len(points))
    return Curve(
        best=best,
        aicc=aicc,
        s_inf=float(power.level[0]),
        a=float(power.slope[0] * power.unit ** power.b[0]),
        n0=float(power.n0[0] * power.unit),
        b=float(power.b[0]),
        b_low=float(law.b_low[0]),
        b_high=float(law.b_high[0]),
        identifiable=identifiable,
        reason=reason,
        volumes=tuple(int(n) for n in points),
        seeds=len(table),
        missing=int(np.isnan(table).sum()),
        point=(linear | {"power": power})[best],
    )


def _check_input(
    volumes: Sequence[int] | np.ndarray, scores: Sequence[Sequence[float]] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the volumes that have scores, in ascending order, and their scores by seed."""
    points, table = np.asarray(volumes, float), np.atleast_2d(np.asarray(scores, float))
    if points.ndim != 1 or table.shape[1:] != points.shape or len(set(points.tolist())) < len(points):
        raise ValueError(
            f"volumes have shape {points.shape} and scores have shape {table.shape}: give each volume once, "
            "and one line of scores for each seed, with NaN for a missing score"
        )
    order = np.argsort(points)
    points, table = points[order], table[:, order]
    table = table[np.isfinite(table).any(1)]
    has = np.isfinite(table).any(0)
    if has.sum() < 2 or points[has].max() <= 0 or points.min() < 0:
        raise ValueError(
            f"only the volumes {points[has].tolist()} have scores: a curve needs two volumes, none below 0"
        )
    return points[has], np.where(np.isfinite(table), table, np.nan)[:, has]


def _summarise(table: np.ndarray) -> Sample:
    """Return the means, counts and sum of squares of a table of scores."""
    has = np.isfinite(table)
    means = np.nanmean(table, axis=0)
    return Sample(means, has.sum(0).astype(float), float(np.nansum((table - means) ** 2)))


def aicc_by_form(misfits: Mapping[str, float], within: float, count: int) -> dict[str, float]:
    """Return each curve's AICc from its sum of squares around the means."""
    return {name: _aicc(misfits[name] + within, count, size) for name, size in PARAMETERS.items()}


def _aicc(squares: float, count: int, parameters: int) -> float:
    """Return Akaike's criterion of a least-squares fit, corrected for few scores.

    Source: Hurvich and Tsai (1989), Biometrika 76(2), 297–307.
    """
    if count - parameters - 1 <= 0:
        return math.inf
    correction = 2 * parameters * (parameters + 1) / (count - parameters - 1)
    return count * math.log(max(squares / count, 1e-12)) + 2 * parameters + correction


def is_identifiable(law: PowerLaws, aicc: Mapping[str, float], count: int, volumes: int) -> tuple[bool, str]:
    """Return True if the exponent is identifiable, and the reason."""
    low, high = float(law.b_low[0]), float(law.b_high[0])
    best = min(aicc, key=lambda name: aicc[name])
    between = f"exponents from {low:.2g} to {high:.2g} fit"
    if not math.isfinite(aicc["power"]):
        return False, f"{count} scores are too few for the power law's four parameters"
    if best != "power":
        margin = aicc["power"] - aicc[best]
        return (
            False,
            f"a {best} curve fits at least as well (AICc lower by {margin:.1f}), so the exponent is not used",
        )
    ends = [("an unbounded logarithm", low <= EXPONENTS[0]), ("a jump to a plateau", high >= EXPONENTS[-1])]
    if any(is_open for _, is_open in ends):
        names = " and ".join(name for name, is_open in ends if is_open)
        return False, f"{between} as well: {names} cannot be excluded"
    if high >= MAX_RATIO * low:
        return False, f"{between} as well: it is only known to a factor of {high / low:.0f}"
    return True, f"{between} at 95 %, from {count} scores at {volumes} volumes"

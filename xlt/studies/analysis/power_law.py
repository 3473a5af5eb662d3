"""s(n) = s_inf − a (n + n0)^−b fitted on a grid of (n0, b), many samples at once.

Where n0 and b are given, s_inf and a follow by least squares; so the whole curve is found by trying a grid of
the two, which also shows every b that fits as well (the profile of the likelihood). B samples, V volumes, G
points of the grid.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

EXPONENTS = np.geomspace(0.02, 5, 96)
"""Tried values of b. Next to the lowest the curve is a logarithm, at the highest a step."""

OFFSETS = 48
"""How many values of n0 are tried."""


@dataclass(frozen=True)
class Grid:
    """Tried shapes at the volumes of a study.

    Args:
        volumes: Ascending, shape (V,).
        n0: Shape (G,).
        b: Shape (G,).
        shapes: Each shape at the volumes less its mean, over its norm, shape (G, V).
        means: What was taken off, shape (G,).
        norms: What it was divided by, shape (G,).
    """

    volumes: np.ndarray
    n0: np.ndarray
    b: np.ndarray
    shapes: np.ndarray
    means: np.ndarray
    norms: np.ndarray


def unit(volumes: np.ndarray) -> float:
    """The smallest volume above 0, in which n and n0 are counted while fitting."""
    return float(np.min(volumes[volumes > 0]))


def make_grid(volumes: np.ndarray) -> Grid:
    """The grid for these volumes; n0 from a hundredth of the smallest volume to ten times the largest."""
    scale = unit(volumes)
    offsets = np.geomspace(0.01, 10 * float(volumes.max()) / scale, OFFSETS)
    n0, b = (part.ravel() for part in np.meshgrid(offsets, EXPONENTS, indexing="ij"))
    raw = -((volumes / scale + n0[:, None]) ** -b[:, None])
    means = raw.mean(1)
    norms = np.linalg.norm(raw - means[:, None], axis=1)
    is_flat = norms < 1e-9 * np.abs(raw).max(1)
    norms = np.where(is_flat, np.inf, norms)
    return Grid(volumes, n0, b, (raw - means[:, None]) / norms[:, None], means, norms)


class Line(NamedTuple):
    """A least-squares line of each sample on each of G features: level + slope × feature."""

    level: np.ndarray
    """Shape (B, G)."""
    slope: np.ndarray
    """Shape (B, G)."""
    misfit: np.ndarray
    """Weighted sum of squares, shape (B, G)."""


def lines(values: np.ndarray, weights: np.ndarray, features: np.ndarray) -> Line:
    """Weighted least squares on one feature, for all samples and features.

    Args:
        values: Mean scores, shape (B, V); any number where the weight is 0.
        weights: Scores behind each, shape (B, V).
        features: Shape (G, V).
    """
    total = weights.sum(1, keepdims=True)
    mean = (weights * values).sum(1, keepdims=True) / total
    rest = weights * (values - mean)
    feature_mean = weights @ features.T / total
    square = np.maximum(weights @ (features**2).T - total * feature_mean**2, 0)
    product = rest @ features.T
    slope = product / np.where(square > 1e-12, square, np.inf)
    whole = (rest * (values - mean)).sum(1, keepdims=True)
    return Line(mean - slope * feature_mean, slope, np.maximum(whole - slope * product, 0))


class Law(NamedTuple):
    """The best power law of each sample."""

    place: np.ndarray
    """Its number on the grid, shape (B,)."""
    s_inf: np.ndarray
    a: np.ndarray
    """In points, for volumes counted in `unit`s."""
    misfit: np.ndarray
    b_low: np.ndarray
    """The lowest b that fits as well, at 95 %; that of the grid where none is too low."""
    b_high: np.ndarray


def fit_laws(values: np.ndarray, weights: np.ndarray, within: np.ndarray, grid: Grid) -> Law:
    """The best point of the grid for each sample, and the range of b that cannot be told from it.

    Args:
        values: Mean scores by volume, shape (B, V).
        weights: Scores behind each, shape (B, V).
        within: Sum of squares of the scores about these means, shape (B,).
        grid: Shapes to try.

    Source: Golub and Pereyra (1973), SIAM Journal on Numerical Analysis 10(2) (variable projection); Raue et
    al.
    (2009), Bioinformatics 25(15) (identifiable where the profile is bounded); F: Bates and Watts (1988),
    chapter 6.
    """
    found = lines(values, weights, grid.shapes)
    place = found.misfit.argmin(1)
    rows = np.arange(len(values))
    slope = found.slope[rows, place] / grid.norms[place]
    s_inf = found.level[rows, place] - slope * grid.means[place]
    profile = found.misfit.reshape(len(values), OFFSETS, len(EXPONENTS)).min(1) + within[:, None]
    best, freedom = profile.min(1), weights.sum(1) - 4
    with np.errstate(invalid="ignore", divide="ignore"):
        limit = best * (1 + stats.f.ppf(0.95, 1, np.maximum(freedom, 1)) / np.maximum(freedom, 1))
    fits = profile <= np.where(freedom >= 1, limit, np.inf)[:, None] + 1e-9
    # A step of the grid more on either side: the limits lie between its points.
    low = EXPONENTS[np.maximum(fits.argmax(1) - 1, 0)]
    high = EXPONENTS[::-1][np.maximum(fits[:, ::-1].argmax(1) - 1, 0)]
    return Law(place, s_inf, slope, found.misfit[rows, place], low, high)


class Coefficients(NamedTuple):
    """A curve, or those of many draws: level + slope × shape(n), arrays of shape (B,)."""

    name: str
    unit: float
    level: np.ndarray
    slope: np.ndarray
    n0: np.ndarray
    b: np.ndarray

    def at(self, volumes: np.ndarray) -> np.ndarray:
        """Scores at these volumes, shape (B, number of volumes)."""
        n = np.asarray(volumes, float)[None] / self.unit
        if self.name == "constant":
            return np.repeat(self.level[:, None], n.shape[1], axis=1)
        if self.name == "log-linear":
            return self.level[:, None] + self.slope[:, None] * np.log1p(n)
        return self.level[:, None] - self.slope[:, None] * (n + self.n0[:, None]) ** -self.b[:, None]


def refine(law: Law, values: np.ndarray, weights: np.ndarray, grid: Grid) -> tuple[Coefficients, float]:
    """The power law of one sample between the points of the grid, and its misfit."""
    volumes = grid.volumes / unit(grid.volumes)

    def solve(logs: np.ndarray) -> Line:
        """The line for one n0 and b; its feature is counted from the last volume's: steadier."""
        feature = -((volumes + math.exp(logs[0])) ** -math.exp(logs[1]))
        line = lines(values, weights, (feature - feature[-1])[None])
        return line._replace(level=line.level - line.slope * feature[-1])

    place = int(law.place[0])
    edges = [
        (math.log(grid.n0.min()), math.log(grid.n0.max())),
        (math.log(EXPONENTS[0]), math.log(EXPONENTS[-1])),
    ]
    found = optimize.minimize(
        lambda logs: float(solve(logs).misfit[0, 0]),
        np.log([grid.n0[place], grid.b[place]]),
        method="Nelder-Mead",
        bounds=edges,
        options={"xatol": 1e-4, "fatol": 1e-10, "maxiter": 300},
    )
    line, (n0, b) = solve(found.x), np.exp(found.x)
    level, slope, misfit = (float(part[0, 0]) for part in line)
    parts = (np.array([value]) for value in (level, slope, n0, b))
    return Coefficients("power", unit(grid.volumes), *parts), misfit


def log_feature(volumes: np.ndarray, scale: float) -> np.ndarray:
    """What the log-linear curve is linear in, log(1 + n / unit): 0 without intermediate training."""
    return np.log1p(volumes / scale)


def fit_linear(name: str, volumes: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Coefficients:
    """A constant or log-linear curve of each sample."""
    scale = unit(volumes)
    feature = log_feature(volumes, scale) if name == "log-linear" else np.zeros(len(volumes))
    line = lines(values, weights, feature[None])
    none = np.zeros(len(values))
    return Coefficients(name, scale, line.level[:, 0], line.slope[:, 0], none, none)


def fit_drawn(name: str, table: np.ndarray, grid: Grid, draws: int, seed: int) -> Coefficients:
    """The curve of each of many draws of the seeds; a draw without two volumes is left out.

    Few seeds can be drawn in few ways, each of which is fitted once.
    """
    seeds = len(table)
    every = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    picked, places = np.unique(every, axis=0, return_inverse=True)
    weights = picked @ np.isfinite(table).astype(float)
    values = picked @ np.nan_to_num(table) / np.where(weights > 0, weights, 1)
    places = places[(weights[places] > 0).sum(1) >= 2]
    if name != "power":
        found = fit_linear(name, grid.volumes, values, weights)
    else:
        law = fit_laws(values, weights, np.zeros(len(values)), grid)
        found = Coefficients(
            name, unit(grid.volumes), law.s_inf, law.a, grid.n0[law.place], grid.b[law.place]
        )
    return Coefficients(name, found.unit, *(part[places] for part in found[2:]))

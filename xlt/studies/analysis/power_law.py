"""The power law s(n) = s_inf − a (n + n0)^−b, fitted on a grid of (n0, b) for many samples at once.

For given n0 and b, s_inf and a follow by least squares. The curve is therefore found by trying a grid of n0
and b, which also shows every b that fits equally well (the profile of the likelihood). B samples, V volumes,
G points of the grid.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

EXPONENTS = np.geomspace(0.02, 5, 96)
"""Tried values of b: near the lowest the curve is a logarithm, at the highest a step."""

NUM_OFFSETS = 48
"""Number of tried values of n0."""


@dataclass(frozen=True)
class Grid:
    """Tried shapes at the volumes of a study.

    Args:
        volumes: Volumes in ascending order, shape (V,).
        n0: Offsets, shape (G,).
        b: Exponents, shape (G,).
        shapes: Each shape at the volumes, centred and divided by its norm, shape (G, V).
    """

    volumes: np.ndarray
    n0: np.ndarray
    b: np.ndarray
    shapes: np.ndarray


def unit_of(volumes: np.ndarray) -> float:
    """Return the smallest volume above 0: the unit of n and n0 during the fit."""
    return float(np.min(volumes[volumes > 0]))


def make_grid(volumes: np.ndarray) -> Grid:
    """Return the grid for these volumes; n0 from 1/100 of the smallest volume to 10 times the largest."""
    scale = unit_of(volumes)
    offsets = np.geomspace(0.01, 10 * float(volumes.max()) / scale, NUM_OFFSETS)
    n0, b = (part.ravel() for part in np.meshgrid(offsets, EXPONENTS, indexing="ij"))
    raw = -((volumes / scale + n0[:, None]) ** -b[:, None])
    centred = raw - raw.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    is_flat = norms < 1e-9 * np.abs(raw).max(1)
    return Grid(volumes, n0, b, centred / np.where(is_flat, np.inf, norms)[:, None])


class Line(NamedTuple):
    """A least-squares line of each sample on each of G features: level + slope × feature."""

    level: np.ndarray
    """Shape (B, G)."""
    slope: np.ndarray
    """Shape (B, G)."""
    misfit: np.ndarray
    """Weighted sum of squares, shape (B, G)."""


def lines(values: np.ndarray, weights: np.ndarray, features: np.ndarray) -> Line:
    """Fit a weighted least-squares line on one feature, for all samples and features.

    Args:
        values: Mean scores, shape (B, V). Values with weight 0 are ignored.
        weights: Number of scores behind each mean, shape (B, V).
        features: Features, shape (G, V).
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


class PowerLaws(NamedTuple):
    """The best power law of each sample."""

    index: np.ndarray
    """Index of the grid point, shape (B,)."""
    b_low: np.ndarray
    """Lowest b that fits equally well at 95 %, or the lowest of the grid."""
    b_high: np.ndarray


def fit_laws(values: np.ndarray, weights: np.ndarray, within: np.ndarray, grid: Grid) -> PowerLaws:
    """Return the best grid point for each sample, and the range of b that fits equally well.

    Args:
        values: Mean scores by volume, shape (B, V).
        weights: Number of scores behind each mean, shape (B, V).
        within: Sum of squares of the scores around these means, shape (B,).
        grid: Shapes to try.

    Source: Golub and Pereyra (1973), SIAM Journal on Numerical Analysis 10(2) (variable projection); Raue et
    al. (2009), Bioinformatics 25(15) (identifiable if the profile is bounded); F: Bates and Watts (1988),
    chapter 6.
    """
    found = lines(values, weights, grid.shapes)
    profile = found.misfit.reshape(len(values), NUM_OFFSETS, len(EXPONENTS)).min(1) + within[:, None]
    best, freedom = profile.min(1), weights.sum(1) - 4
    with np.errstate(invalid="ignore", divide="ignore"):
        limit = best * (1 + stats.f.ppf(0.95, 1, np.maximum(freedom, 1)) / np.maximum(freedom, 1))
    is_within = profile <= np.where(freedom >= 1, limit, np.inf)[:, None] + 1e-9
    # One grid step more on either side, because the limits lie between the points of the grid.
    low = EXPONENTS[np.maximum(is_within.argmax(1) - 1, 0)]
    high = EXPONENTS[::-1][np.maximum(is_within[:, ::-1].argmax(1) - 1, 0)]
    return PowerLaws(found.misfit.argmin(1), low, high)


class Coefficients(NamedTuple):
    """The curve of each sample: level + slope × shape(n), arrays of shape (B,)."""

    name: str
    unit: float
    level: np.ndarray
    slope: np.ndarray
    n0: np.ndarray
    b: np.ndarray

    def at(self, volumes: np.ndarray) -> np.ndarray:
        """Return the scores at these volumes, shape (B, number of volumes)."""
        n = np.asarray(volumes, float)[None] / self.unit
        if self.name == "constant":
            return np.repeat(self.level[:, None], n.shape[1], axis=1)
        if self.name == "log-linear":
            return self.level[:, None] + self.slope[:, None] * np.log1p(n)
        return self.level[:, None] - self.slope[:, None] * (n + self.n0[:, None]) ** -self.b[:, None]


def refine(law: PowerLaws, values: np.ndarray, weights: np.ndarray, grid: Grid) -> tuple[Coefficients, float]:
    """Refine the power law of one sample between the grid points; return it with its misfit."""
    volumes = grid.volumes / unit_of(grid.volumes)

    def solve(logs: np.ndarray) -> Line:
        """Return the line for one n0 and b; subtracting the last volume's feature is numerically stable."""
        feature = -((volumes + math.exp(logs[0])) ** -math.exp(logs[1]))
        line = lines(values, weights, (feature - feature[-1])[None])
        return line._replace(level=line.level - line.slope * feature[-1])

    index = int(law.index[0])
    edges = [
        (math.log(grid.n0.min()), math.log(grid.n0.max())),
        (math.log(EXPONENTS[0]), math.log(EXPONENTS[-1])),
    ]
    found = optimize.minimize(
        lambda logs: float(solve(logs).misfit[0, 0]),
        np.log([grid.n0[index], grid.b[index]]),
        method="Nelder-Mead",
        bounds=edges,
        options={"xatol": 1e-4, "fatol": 1e-10, "maxiter": 300},
    )
    line, (n0, b) = solve(found.x), np.exp(found.x)
    level, slope, misfit = (float(part[0, 0]) for part in line)
    parts = (np.array([value]) for value in (level, slope, n0, b))
    return Coefficients("power", unit_of(grid.volumes), *parts), misfit


def log_feature(volumes: np.ndarray, scale: float) -> np.ndarray:
    """Return log(1 + n / unit), the feature of the log-linear curve; 0 without intermediate training."""
    return np.log1p(volumes / scale)


def fit_linear(name: str, volumes: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Coefficients:
    """Fit a constant or log-linear curve to each sample."""
    scale = unit_of(volumes)
    feature = log_feature(volumes, scale) if name == "log-linear" else np.zeros(len(volumes))
    line = lines(values, weights, feature[None])
    none = np.zeros(len(values))
    return Coefficients(name, scale, line.level[:, 0], line.slope[:, 0], none, none)

"""Simulated studies of a known curve, which show how often a design identifies the exponent."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xlt.studies.analysis.curves import PARAMETERS, aicc_by_form, is_identifiable
from xlt.studies.analysis.power_law import fit_laws, lines, log_feature, make_grid, unit_of


class Truth(NamedTuple):
    """A power law to simulate: s_inf and a in points (a × examples^b), n0 in examples."""

    s_inf: float = 70.0
    a: float = 400.0
    n0: float = 500.0
    b: float = 0.5

    def at(self, volumes: np.ndarray) -> np.ndarray:
        """Return the true scores at these volumes."""
        return self.s_inf - self.a * (volumes + self.n0) ** -self.b


TRUTH = Truth()


class Simulation(NamedTuple):
    """Results of simulated studies of one size with a known exponent."""

    share_identifiable: float
    """Share of the studies, 0 to 1, whose exponent is identifiable."""
    b_low: float
    """Lower limit of 95 % of the exponents found."""
    b_high: float
    """Upper limit of 95 % of the exponents found."""
    words: str


def simulate(
    sd: float = 1.0,
    volumes: Sequence[int] = (1000, 4000, 16000, 64000),
    seeds: int = 3,
    truth: Truth = TRUTH,
    repeats: int = 400,
    seed: int = 0,
) -> Simulation:
    """Simulate studies of a known curve, and count those whose exponent is identifiable.

    Args:
        sd: SD over seeds of a score, in points. Defaults to 1.
        volumes: Volumes of the study. Defaults to 1,000, 4,000, 16,000 and 64,000.
        seeds: Number of seeds at each volume. Defaults to 3.
        truth: The true curve. Defaults to a gain of 9 points from 1,000 to 64,000 examples.
        repeats: Number of simulated studies. Defaults to 400.
        seed: Seed of the noise. Defaults to 0.
    """
    points = np.asarray(sorted(volumes), float)
    noise = np.random.default_rng(seed).normal(0, sd, (repeats, seeds, len(points)))
    means, within = (
        truth.at(points) + noise.mean(1),
        ((noise - noise.mean(1, keepdims=True)) ** 2).sum((1, 2)),
    )
    weights, grid = np.full_like(means, seeds), make_grid(points)
    law, count = fit_laws(means, weights, within, grid), seeds * len(points)
    features = np.stack([np.zeros(len(points)), log_feature(points, unit_of(points))])
    misfits = np.column_stack([lines(means, weights, features).misfit, law.misfit]) + within[:, None]
    num_identifiable = 0
    for number, squares in enumerate(misfits):
        aicc = aicc_by_form(dict(zip(PARAMETERS, squares.tolist(), strict=True)), 0.0, count)
        one = law._replace(b_low=law.b_low[number : number + 1], b_high=law.b_high[number : number + 1])
        num_identifiable += is_identifiable(one, aicc, count, len(points))[0]
    low, high = (float(value) for value in np.quantile(grid.b[law.index], (0.025, 0.975)))
    share = num_identifiable / repeats
    points_of_sd = f"{sd:g} point" + ("" if sd == 1 else "s")
    words = (
        f"With an SD of {points_of_sd} over {seeds} seeds and {len(points)} volumes, {repeats} simulated "
        f"studies of a curve with the exponent {truth.b:g} find exponents from {low:.2g} to {high:.2g}; "
        f"{100 * share:.0f} % of them could identify it."
    )
    return Simulation(share, low, high, words)

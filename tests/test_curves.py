"""Curves on data made from known ones: what can be told is told, what cannot is said."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from study_rows import LANGUAGES, everywhere, make_scores

from xlt.studies.analysis import curves, volumes
from xlt.studies.analysis.power_law import fit_laws, lines, make_grid


class Truth(NamedTuple):
    """A power law: s_inf and a in points (a × examples^b), n0 in examples."""

    s_inf: float = 70.0
    a: float = 400.0
    n0: float = 500.0
    b: float = 0.5

    def at(self, volumes: np.ndarray) -> np.ndarray:
        """Return the true scores at these volumes."""
        return self.s_inf - self.a * (volumes + self.n0) ** -self.b


VOLUMES = [0, 1000, 4000, 16000, 64000]
TRUTH = Truth()


def table(sd: float, seeds: int = 3, random: int = 0) -> np.ndarray:
    """Scores of the true power law with noise, a line a seed."""
    return TRUTH.at(np.array(VOLUMES, float)) + np.random.default_rng(random).normal(
        0, sd, (seeds, len(VOLUMES))
    )


def test_least_squares_lines_are_those_of_numpy():
    draw = np.random.default_rng(0)
    values, weights, feature = draw.normal(size=6), draw.integers(0, 4, 6).astype(float), draw.normal(size=6)
    found = lines(values[None], weights[None], feature[None])
    slope, level = np.polyfit(feature, values, 1, w=np.sqrt(weights))
    assert [found.slope.item(), found.level.item()] == pytest.approx([slope, level])
    assert found.misfit.item() == pytest.approx((weights * (values - level - slope * feature) ** 2).sum())


def test_an_exact_power_law_is_found():
    curve = curves.fit(VOLUMES, table(0.0))
    assert curve.best == "power"
    assert curve.identifiable
    found = [curve.s_inf, curve.a, curve.n0, curve.b]
    assert found == pytest.approx([70, 400, 500, 0.5], rel=1e-3)
    assert curve.predict([2000, 10**9]) == pytest.approx(TRUTH.at(np.array([2000.0, 1e9])), abs=0.01)
    assert curve.b_low < 0.5 < curve.b_high


def test_the_fit_is_that_of_scipy():
    scores = table(0.3)
    curve = curves.fit(VOLUMES, scores)
    flat = np.tile(VOLUMES, 3).astype(float)
    own, _ = optimize.curve_fit(
        lambda n, s, a, n0, b: s - a * (n + n0) ** -b,
        flat,
        scores.ravel(),
        (70, 400, 500, 0.5),
        maxfev=20_000,
    )
    theirs = Truth(*own).at(flat)
    residual = [
        ((scores.ravel() - found) ** 2).sum() for found in (np.tile(curve.predict(VOLUMES), 3), theirs)
    ]
    assert residual[0] == pytest.approx(residual[1], rel=1e-4)
    assert curve.b == pytest.approx(own[3], rel=0.02)


def test_aicc_is_as_worked_out_by_hand():
    """Constant on 1, 2, 3, 4: mean 2.5, squares 5, two parameters, four scores."""
    curve = curves.fit([0, 1000], [[1.0, 3.0], [2.0, 4.0]])
    assert curve.aicc["constant"] == pytest.approx(4 * math.log(5 / 4) + 4 + 12)
    assert math.isinf(curve.aicc["power"])
    assert curve.reason == "4 scores are too few for the power law's four parameters"
    assert not curve.identifiable


def test_a_flat_and_a_logarithmic_truth_are_told():
    noise = np.random.default_rng(0).normal(0, 0.5, (3, 5))
    flat = curves.fit(VOLUMES, 50 + noise)
    assert flat.best == "constant"
    assert not flat.identifiable
    assert "constant curve fits at least as well" in flat.reason
    growing = curves.fit(VOLUMES, 50 + 2 * np.log1p(np.array(VOLUMES) / 1000) + noise)
    assert growing.best == "log-linear"
    assert growing.predict(8000) == pytest.approx(50 + 2 * math.log(9), abs=0.7)


@pytest.mark.parametrize(("sd", "least", "most"), [(1.0, 0, 0), (0.1, 15, 20)])
def test_the_exponent_can_be_told_with_little_noise_and_not_with_a_seed_sd_of_one_point(sd, least, most):
    found = [curves.fit(VOLUMES[1:], table(sd, random=number)[:, 1:]) for number in range(20)]
    assert least <= sum(curve.identifiable for curve in found) <= most


def test_the_range_of_exponents_holds_the_true_one():
    """At 95 %, over 300 studies; fewer than 275 come to pass once in 100 times."""
    draw, points = np.random.default_rng(0), np.array(VOLUMES, float)
    noise = draw.normal(0, 0.5, (300, 3, len(points)))
    within = ((noise - noise.mean(1, keepdims=True)) ** 2).sum((1, 2))
    means = TRUTH.at(points) + noise.mean(1)
    law = fit_laws(means, np.full_like(means, 3), within, make_grid(points))
    assert ((law.b_low <= 0.5) & (law.b_high >= 0.5)).sum() >= 275


def test_one_seed_has_a_curve():
    curve = curves.fit(VOLUMES, table(0.0)[0])
    assert curve.seeds == 1
    assert np.isfinite(curve.predict([1000])).all()


def test_missing_scores_are_counted_and_left_out():
    scores = table(0.0)
    scores[1, 2], scores[2, 4] = np.nan, np.nan
    curve = curves.fit(VOLUMES, scores)
    assert curve.missing == 2
    assert curve.b == pytest.approx(0.5, rel=1e-3)


def test_the_order_of_volumes_does_not_matter():
    scores = table(0.5)
    forward, backward = curves.fit(VOLUMES, scores), curves.fit(VOLUMES[::-1], scores[:, ::-1])
    assert forward.b == pytest.approx(backward.b)


@pytest.mark.parametrize(
    ("points", "scores", "words"),
    [
        ([0, 1000], [[1.0, 2.0, 3.0]], "give each volume once"),
        ([1000, 1000], [[1.0, 2.0]], "give each volume once"),
        ([0, 1000], [[1.0, math.nan]], "a curve needs two"),
    ],
)
def test_what_is_no_curve_is_refused(points, scores, words):
    with pytest.raises(ValueError, match=words):
        curves.fit(points, scores)


def shaped(volume: int) -> float:
    """A saturating gain."""
    return 1 - (1 + volume / 1000) ** -0.5


def test_all_fine_tuning_runs_count_beside_a_target_without_training():
    targets = {"xnli": ("en", "de"), "tatoeba": ("de", "fi")}
    scores = make_scores({"mnli": 8.0}, (1000,), targets=targets)
    tuned = scores[scores["target"] == "xnli"]
    again = tuned.assign(target_seed=tuned["target_seed"] + 1000, score=tuned["score"] + 4.0)
    points = volumes.points_of(pd.concat([scores, again]), "mnli")
    np.testing.assert_allclose(points.scores, volumes.points_of(scores, "mnli").scores + 1.0)


def test_points_of_a_table_are_means_over_the_common_languages():
    scores = make_scores({"mnli": 8.0}, (1000, 4000), shape=everywhere)
    gone = (scores["volume"] == 4000) & (scores["seed"] == 2) & (scores["language"] == "de")
    points = volumes.points_of(scores[~gone], "mnli", "xnli")
    assert points.languages == ("ar", "bg", "en")
    assert points.wanted == 4
    assert points.volumes.tolist() == [0, 1000, 4000]
    np.testing.assert_allclose(points.scores, [[59, 67, 67]] * 3)


def test_a_run_that_lacks_most_languages_is_missing():
    scores = make_scores({"mnli": 8.0}, (1000, 4000))
    gone = (scores["volume"] == 4000) & (scores["seed"] == 2) & (scores["language"] != "de")
    points = volumes.points_of(scores[~gone], "mnli", "xnli")
    assert len(points.languages) == 4
    assert np.isnan(points.scores).sum() == 1
    both = volumes.points_of(scores[~(gone & (scores["target"] == "xnli"))], "mnli")
    assert np.isnan(both.scores).tolist() == [[False] * 3, [False] * 3, [False, False, True]]
    with pytest.raises(ValueError, match="no score of mnli on tatoeba"):
        volumes.points_of(scores, "mnli", "tatoeba")


def test_the_curves_of_a_study_say_over_what_they_are_pooled():
    targets = {"xnli": LANGUAGES[:6], "udpos": LANGUAGES[:6]}
    scores = make_scores(
        {"mnli": 10.0}, (1000, 4000, 16000, 64000), targets=targets, noise_sd=0.3, shape=shaped
    )
    found = volumes.curves(scores)
    assert found["target"].tolist() == ["", "udpos", "xnli"]
    pooled = found[(found["target"] == "")].iloc[0]
    assert pooled["identifiable"]
    assert pooled["b_low"] < 0.5 < pooled["b_high"]
    assert (found.loc[~found["identifiable"], "b"].isna()).all()
    words = volumes.describe_identifiable(found)
    assert "1 of 1 curves pooled over all targets and languages" in words
    assert "of 2 curves by target (pooled over languages)" in words
    few = volumes.curves(scores[scores["volume"] == 1000])
    assert (few["best"] == "").all()
    assert few["reason"].str.contains("a curve needs 2 volumes").all()

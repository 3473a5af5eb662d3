"""No effect larger than a margin: a verdict that is rarely wrong, and that more seeds make more frequent."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel
from statsmodels.stats.weightstats import ttost_paired
from study_rows import FIVE_TARGETS, make_scores

from xlt.studies.analysis.claims import judge
from xlt.studies.analysis.contrasts import compare, crossed_bootstrap
from xlt.studies.analysis.equivalence import (
    COLUMNS,
    VOLUME_COLUMNS,
    effect_verdicts,
    equivalence_p,
    holm_of_known,
    in_words,
    two_sided_p,
    volume_verdicts,
)
from xlt.studies.analysis.statistics import Estimate
from xlt.studies.design.limits import MARGIN
from xlt.studies.design.plan import Study

FIVE = {name: languages[:3] for name, languages in FIVE_TARGETS.items()}


def test_two_one_sided_tests_on_a_worked_example():
    """The estimate is 0.5 with a standard error of 0.5 and 4 degrees of freedom; the margin is 2.

    t is (0.5 + 2) / 0.5 = 5 above the lower limit and (2 - 0.5) / 0.5 = 3 below the upper one. The weaker
    test counts: tables of t with 4 degrees of freedom give 2.999 for 2 % above.
    """
    estimate = Estimate(0.5, ((0.25, 4.0),))
    assert equivalence_p(estimate, 2.0) == pytest.approx(0.02, abs=5e-5)
    assert equivalence_p(Estimate(-0.5, estimate.parts), 2.0) == pytest.approx(0.02, abs=5e-5)
    assert equivalence_p(estimate, 0.4) > 0.5
    assert math.isnan(equivalence_p(Estimate(0.5, ()), 2.0))


def test_the_90_percent_interval_ends_at_the_margin_where_p_is_5_percent():
    estimate = Estimate(0.7, ((0.2, 3.0), (0.1, 4.0)))
    assert equivalence_p(estimate, estimate.interval(0.90).high) == pytest.approx(0.05, abs=1e-6)


def test_with_two_arms_and_one_cell_the_tests_are_those_of_statsmodels():
    scores = make_scores({"mnli": 0.5}, (1000,), range(6), {"xnli": ("en",)}, seed_sd=1.0, random=4)
    arms = [
        scores[scores["intermediate"] == arm].sort_values("seed")["score"].to_numpy()
        for arm in ("mnli", "none")
    ]
    found = compare(scores, ["mnli"], ["none"], 1000).estimate
    assert equivalence_p(found, 2.0) == pytest.approx(ttost_paired(*arms, -2.0, 2.0)[0], abs=1e-6)


def shares(effect, seeds, units, studies=1000, margin=2.0):
    """Return the share of simulated studies whose effect is found to lie inside the margin."""
    draw, found = np.random.default_rng(seeds * 100 + units), 0
    for _ in range(studies):
        values = effect + draw.normal(0, 0.8, (seeds, 1)) + draw.normal(0, 0.2, (seeds, units))
        values = values + (draw.normal(0, 0.5, (1, units)) if units > 1 else 0.0)
        variance = float(values.mean(1).var(ddof=1)) / seeds
        estimate = crossed_bootstrap(values, (variance, seeds - 1), draws=200)
        interval = estimate.interval(0.90)  # inside the margin where p is below 5 %, see above
        found += -margin < interval.low and interval.high < margin
    return found / studies


@pytest.mark.parametrize(("effect", "seeds", "units"), [(2.0, 3, 1), (2.0, 3, 5), (-2.0, 6, 5)])
def test_an_effect_at_the_margin_is_called_small_at_most_5_percent_of_the_time(effect, seeds, units):
    # More than 66 of 1,000 come to pass once in 100 times.
    assert shares(effect, seeds, units) <= 0.066


def test_with_one_unit_the_error_at_the_margin_is_5_percent():
    # 5 % of 1,000 are 50; fewer than 34 come to pass once in 100 times. The lower limit of three seeds is
    # never in doubt if the margin is wide.
    assert 0.034 <= shares(8.0, 3, 1, margin=8.0) <= 0.066


def test_power_grows_with_the_seeds():
    found = [shares(0.0, seeds, 5, studies=300) for seeds in (3, 5, 10)]
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.9


def verdicts(scores, **keys):
    found = effect_verdicts(scores, **keys)
    return {
        (line.target, line.intermediate): line.verdict for line in found.itertuples() if line.volume == 4000
    }


def test_gains_losses_and_small_effects_are_told_apart():
    effects = {"squad_v1": 6.0, "mnli": -6.0, "hellaswag": 0.2}
    scores = make_scores(effects, (1000, 4000), range(5), FIVE, seed_sd=0.2, noise_sd=0.2)
    found = effect_verdicts(scores)
    assert list(found.columns) == COLUMNS
    assert len(found) == 3 * 2 * (1 + len(FIVE))
    expected = {"squad_v1": {"gain"}, "mnli": {"loss"}, "hellaswag": {"equivalent"}}
    assert {arm: set(part["verdict"]) for arm, part in found.groupby("intermediate")} == expected
    assert verdicts(scores, margin=0.1)["all", "hellaswag"] in ("gain", "undecided")


def test_noise_leaves_effects_undecided():
    scores = make_scores({"mnli": 0.0}, (4000,), range(3), FIVE, seed_sd=3.0, noise_sd=1.0)
    assert set(verdicts(scores).values()) == {"undecided"}


def test_all_targets_and_single_targets_are_families_of_their_own():
    scores = make_scores({"mnli": 1.0, "squad_v1": 0.0}, (4000,), range(4), FIVE, seed_sd=0.7, noise_sd=0.3)
    found = effect_verdicts(scores).set_index(["target", "intermediate"])
    plain = {arm: compare(scores, [arm], ["none"], 4000).estimate for arm in ("mnli", "squad_v1")}
    for column, p_of in (("p", two_sided_p), ("p_equivalent", lambda one: equivalence_p(one, 2.0))):
        first, second = sorted(p_of(estimate) for estimate in plain.values())
        raised = sorted(found.loc["all"][column])
        assert raised == pytest.approx([2 * first, max(2 * first, second)])
    smallest = min(
        two_sided_p(compare(scores, [arm], ["none"], 4000, t).estimate) for arm in plain for t in FIVE
    )
    assert found.drop(index="all")["p"].min() == pytest.approx(min(1.0, 10 * smallest))


def test_further_volumes_do_not_weaken_the_verdicts_at_the_largest():
    effects = {"mnli": 1.0, "squad_v1": 0.0}
    several = make_scores(effects, (1000, 2000, 4000), range(4), FIVE, seed_sd=0.7, noise_sd=0.3)
    one = several[(several["volume"] == 4000) | (several["intermediate"] == "none")]
    found = effect_verdicts(several)
    largest = found[found["volume"] == 4000].reset_index(drop=True)
    pd.testing.assert_frame_equal(largest, effect_verdicts(one))
    # The smaller volumes are a family: four means over all targets.
    rest = found[(found["volume"] < 4000) & (found["target"] == "all")]
    pairs = [(arm, volume) for arm in effects for volume in (1000, 2000)]
    smallest = min(two_sided_p(compare(several, [arm], ["none"], volume).estimate) for arm, volume in pairs)
    assert rest["p"].min() == pytest.approx(min(1.0, 4 * smallest))


def test_more_examples_are_judged_by_the_largest_volume_against_the_smallest():
    scores = make_scores(
        {"mnli": 6.0, "squad_v1": 0.0}, (1000, 2000, 4000), range(5), FIVE, seed_sd=0.2, noise_sd=0.2,
        shape=lambda volume: 1.0 if volume > 1000 else 0.0,
    )  # fmt: skip
    found = volume_verdicts(scores)
    assert list(found.columns) == VOLUME_COLUMNS
    assert found["target"].tolist() == ["all"] * 2 + [name for name in sorted(FIVE) for _ in range(2)]
    assert set(zip(found["smallest"], found["volume"], strict=True)) == {(1000, 4000)}
    expected = {"mnli": {"gain"}, "squad_v1": {"equivalent"}}
    assert {arm: set(part["verdict"]) for arm, part in found.groupby("intermediate")} == expected
    assert volume_verdicts(scores[scores["volume"] != 1000])["verdict"].eq("equivalent").all()
    assert volume_verdicts(make_scores(volumes=(1000,))).empty


def test_in_one_cell_the_verdict_on_more_examples_is_a_paired_t_test():
    scores = make_scores({"mnli": 0.5}, (1000, 4000), range(6), {"xnli": ("en",)}, seed_sd=1.0, random=4)
    few, many = (
        scores[scores["volume"] == volume].sort_values("seed")["score"].to_numpy() for volume in (1000, 4000)
    )
    (line,) = volume_verdicts(scores).itertuples()
    assert line.effect == pytest.approx((many - few).mean())
    assert line.p == pytest.approx(ttest_rel(many, few).pvalue)
    assert line.p_equivalent == pytest.approx(ttost_paired(many, few, -2.0, 2.0)[0])
    ends = ttest_rel(many, few).confidence_interval(0.95)
    assert (line.low, line.high) == pytest.approx((ends.low, ends.high))


def test_a_study_at_the_margin_seldom_has_a_wrong_verdict():
    """All six effects are 2 points: one study of 20 may err; 3 of 6 do twice in 1,000 times."""
    wrong = 0
    for random in range(6):
        scores = make_scores(
            {"mnli": 2.0, "squad_v1": 2.0}, (4000,), range(4), dict(list(FIVE.items())[:3]),
            seed_sd=0.5, noise_sd=0.3, random=random,
        )  # fmt: skip
        found = effect_verdicts(scores)
        wrong += bool((found[found["target"] != "all"]["verdict"] == "equivalent").any())
    assert wrong < 3


def test_one_seed_decides_nothing_and_one_target_has_no_mean_of_targets():
    found = effect_verdicts(make_scores({"mnli": 0.0}, (4000,), (0,), {"xnli": ("en", "de")}))
    assert list(found["target"]) == ["xnli"]
    assert list(found["verdict"]) == ["undecided"]
    assert found[["p", "p_equivalent", "low"]].isna().all(axis=None)
    without = make_scores({"mnli": 0.0}, (4000,))
    assert effect_verdicts(without[without["intermediate"] != "none"]).empty
    assert holm_of_known({0: 0.04, 1: math.nan}) == pytest.approx({0: 0.04, 1: math.nan}, nan_ok=True)


def test_verdicts_in_words():
    assert in_words("equivalent", 2.0) == "no effect larger than 2 points"
    assert in_words("equivalent", 0.5) == "no effect larger than 0.5 points"
    assert in_words("undecided", 2.0) == "undecided"


def test_a_study_and_the_analysis_have_the_same_default_margin():
    assert Study.margin == MARGIN


# The claims


def of_claims(scores: pd.DataFrame, **keys):
    return {judged.claim.name: judged for judged in judge(scores, **keys)}


def test_claims_without_an_effect_are_told_from_undecided_ones():
    effects = dict.fromkeys(("squad_v1", "mnli", "hellaswag", "mixture"), 0.0)
    scores = make_scores(effects, (1000,), range(5), FIVE, seed_sd=0.4, noise_sd=0.2, heterogeneity_sd=0.3)
    found = of_claims(scores)
    assert {found[name].verdict for name in ("squad", "mnli", "hellaswag", "mixture", "best")} == {
        "equivalent"
    }
    words = found["mnli"].words
    assert words.startswith("No effect larger than 2 points: ")
    assert f"p {found['mnli'].p_equivalent:.3f} after Holm for no effect larger than 2 points" in words
    small = of_claims(scores, margin=0.05)
    assert small["mnli"].verdict == "undecided"
    assert small["mnli"].p == found["mnli"].p


def test_the_mixture_is_like_the_best_single_task_if_none_is_better_and_one_is_as_good():
    effects = {"squad_v1": 5.0, "mnli": 0.0, "mixture": 5.0}
    scores = make_scores(effects, (1000,), range(6), FIVE, seed_sd=0.3, noise_sd=0.2)
    assert of_claims(scores)["best"].verdict == "equivalent"
    better = make_scores(effects | {"mixture": 9.0}, (1000,), range(6), FIVE, seed_sd=0.3, noise_sd=0.2)
    assert of_claims(better)["best"].verdict == "supported"
    assert of_claims(better)["best"].p_equivalent > 0.5

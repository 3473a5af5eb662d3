"""Verdicts on studies whose truth is known."""

import math

import numpy as np
import pytest
from study_rows import FIVE_TARGETS, LANGUAGES, TARGETS, make_scores

from xlt.studies.analysis.claims import CLAIMS, judge
from xlt.studies.analysis.contrasts import compare
from xlt.studies.analysis.points import common_volume

CLEAR = {"squad_v1": 8.0, "mnli": 7.0, "hellaswag": 6.0, "mixture": 10.0}
FIVE = {name: languages[:4] for name, languages in FIVE_TARGETS.items()}


def verdicts(scores):
    return {judged.claim.name: judged.verdict for judged in judge(scores)}


def test_a_study_that_agrees_with_the_paper_supports_it():
    effects = CLEAR | {"mnli_mlm": 7.0, "mnli_translated": 7.0}
    scores = make_scores(effects, (1000, 4000), seeds=range(5), targets=FIVE, seed_sd=0.2, noise_sd=0.2)
    on_xnli = (scores["target"] == "xnli") & (scores["volume"] > 0)
    found = verdicts(scores)
    assert found.pop("xnli") == "contradicted"
    assert set(found.values()) == {"supported"}
    scores.loc[on_xnli, "score"] -= scores.loc[on_xnli, "intermediate"].map(effects)
    assert verdicts(scores)["xnli"] == "supported"


def test_a_study_that_does_not_contradicts_it():
    effects = {"squad_v1": 2.0, "mnli": 2.0, "mixture": -1.0, "mnli_mlm": 4.0, "mnli_translated": 4.0}
    found = verdicts(make_scores(effects, (1000,), seeds=range(5), targets=FIVE, seed_sd=0.2, noise_sd=0.2))
    assert {found[name] for name in ("best", "mlm", "translated", "xnli", "mixture")} == {"contradicted"}
    assert found["squad"] == "supported"


def test_tasks_that_hurt_everywhere_contradict_that_they_help():
    effects = dict.fromkeys(("squad_v1", "mnli", "hellaswag", "mixture"), -5.0)
    found = verdicts(make_scores(effects, (1000,), seeds=range(5), targets=FIVE, seed_sd=0.2, noise_sd=0.2))
    assert {found[name] for name in ("squad", "mnli", "hellaswag", "mixture")} == {"contradicted"}
    assert found["xnli"] == "supported"


def test_noise_leaves_claims_undecided():
    effects = dict.fromkeys(CLEAR, 0.0)
    found = verdicts(make_scores(effects, (1000,), targets=FIVE, seed_sd=2.0, noise_sd=1.0))
    assert set(found.values()) == {"undecided", "not run"}


def test_what_was_not_run_is_said():
    found = {judged.claim.name: judged for judged in judge(make_scores({"mnli": 5.0}, (1000,)))}
    assert [name for name, judged in found.items() if judged.verdict == "not run"] == [
        "squad", "hellaswag", "mixture", "best", "mlm", "translated",
    ]  # fmt: skip
    assert found["squad"].estimate is None
    assert found["squad"].words == "Not run: the study needs squad_v1 and none."
    assert "a task with additional continued MLM (named TASK_mlm)" in found["mlm"].words
    other = judge(make_scores({"mnli": 5.0}, (1000,), targets={"udpos": ("en",)}))
    assert "the study has no target xnli" in next(j.words for j in other if j.claim.name == "xnli")
    assert [judged.claim for judged in judge(make_scores())] == list(CLAIMS)


def test_one_seed_decides_nothing():
    for judged in judge(make_scores(CLEAR, (1000,), (0,), FIVE, noise_sd=0.1)):
        assert judged.verdict in ("undecided", "not run")
        if judged.estimate:
            assert math.isnan(judged.estimate.low)
            assert math.isnan(judged.p)
            assert "one seed gives no interval" in judged.words


def test_the_estimate_is_the_mean_over_targets_of_means_over_languages():
    targets = {"xnli": LANGUAGES[:2], "udpos": LANGUAGES[:6]}
    scores = make_scores({"mnli": 2.0}, (1000,), targets=targets, by_target={"udpos": 4.0})
    found = {judged.claim.name: judged for judged in judge(scores)}["mnli"]
    assert found.estimate.estimate == pytest.approx((2 + 6) / 2)
    assert found.seeds_only.estimate == found.estimate.estimate
    assert "3 seeds, 2 of 2 targets, 24 of 24 pairs of scores" in found.words
    assert "over seeds and targets" in found.words


def test_rows_with_noise_are_no_evidence():
    scores = make_scores(CLEAR, (1000,), targets=FIVE, perturbations=("", "noise-20"), seed_sd=0.2)
    clean = scores[scores["perturbation"] == ""]
    assert [j.words for j in judge(scores)] == [j.words for j in judge(clean)]


def test_the_volume_is_the_largest_that_all_tasks_have():
    scores = make_scores({"mnli": 2.0, "squad_v1": 2.0}, (1000, 4000))
    unfinished = scores[~((scores["intermediate"] == "mnli") & (scores["volume"] == 4000))]
    assert common_volume(scores) == 4000
    assert common_volume(unfinished) == 1000
    is_mnli = scores["intermediate"] == "mnli"
    apart = scores[(scores["volume"] == 0) | ((scores["volume"] == 1000) == is_mnli)]
    assert common_volume(apart) is None
    assert common_volume(apart, ["squad_v1", "none"]) == 4000
    assert common_volume(apart, ["squad_v1", "mnli"]) is None


def test_missing_cells_cost_their_language_alone_and_are_counted():
    scores = make_scores({"mnli": 2.0}, (1000,))
    gone = (scores["intermediate"] == "none") & (scores["seed"] == 0) & (scores["language"] == "de")
    found = compare(scores[~gone], ["mnli"], ["none"], 1000)
    assert found.estimate.value == pytest.approx(2)
    assert found.counts == "3 seeds, 2 of 2 targets, 18 of 24 pairs of scores"
    whole = (scores["intermediate"] == "mnli") & (scores["seed"] == 0) & (scores["target"] == "xnli")
    found = compare(scores[~whole], ["mnli"], ["none"], 1000)
    assert found.counts == "3 seeds, 2 of 2 targets, 20 of 24 pairs of scores"
    assert found.estimate.value == pytest.approx(2)
    assert compare(scores[scores["seed"] > 5], ["mnli"], ["none"], 1000) is None


def test_intervals_hold_over_studies():
    """Seeds and targets drawn anew in 60 studies; fewer than 53 come to pass once in 100 times."""
    held = 0
    for random in range(60):
        scores = make_scores(
            {"mnli": 2.0, "squad_v1": 0.0}, (1000,), targets=TARGETS | {"xquad": LANGUAGES[:2]},
            seed_sd=1.0, heterogeneity_sd=0.7, noise_sd=0.5, random=random,
        )  # fmt: skip
        interval = compare(scores, ["mnli"], ["none"], 1000).estimate.interval()
        held += interval.low <= 2.0 <= interval.high
    assert held >= 53


def test_false_verdicts_are_rare():
    """No task does anything: one study in twenty may decide, three of six do twice in 1,000 times."""
    wrong = 0
    for random in range(6):
        effects = dict.fromkeys(("squad_v1", "mnli", "hellaswag"), 0.0)
        scores = make_scores(effects, (1000,), targets=TARGETS, seed_sd=1.0, noise_sd=0.5, random=random)
        found = verdicts(scores)
        wrong += any(found[name] in ("supported", "contradicted") for name in ("squad", "mnli", "hellaswag"))
    assert wrong < 3


def test_holm_raises_the_p_values_of_the_claims_that_were_run():
    scores = make_scores({"mnli": 4.0, "squad_v1": 4.0}, (1000,), targets=FIVE, seed_sd=0.5, noise_sd=0.3)
    found = {judged.claim.name: judged for judged in judge(scores) if judged.verdict != "not run"}
    alone = compare(scores, ["mnli"], ["none"], 1000).estimate
    ps = [min(2 * alone.p_above(), 1)]
    assert found["mnli"].p >= ps[0]
    assert len(found) == 3
    assert all(np.isfinite(judged.p) for judged in found.values())

"""Measures of robustness on worked examples: each number is found by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from study_rows import make_scores
from synthetic_study import study_of

from xlt.studies.analysis import robustness
from xlt.studies.analysis.findings import Findings

BY_LANGUAGE = {"en": 80.0, "de": 70.0, "sw": 40.0, "th": 50.0, "ur": 60.0}


def test_worst_quarter():
    assert robustness.worst_quarter(BY_LANGUAGE) == 45.0  # two of five: a quarter rounded up
    assert robustness.worst_quarter({"en": 3.0, "de": 1.0, "sw": 2.0, "th": 9.0}) == 1.0
    with pytest.raises(ValueError, match="at least one"):
        robustness.worst_quarter({})


def test_effects_are_paired_by_seed():
    scores = make_scores({"mnli": 2.0}, (1000,), seed_sd=5.0)
    found = robustness.effects(scores)
    assert len(found) == 3 * 2 * 4
    line = found.iloc[0]
    keys = ["seed", "target", "language"]
    same = scores[(scores[keys] == line[keys]).all(axis=1)].set_index("intermediate")["score"]
    assert line["effect"] == same["mnli"] - same["none"]


def test_an_effect_without_its_pair_is_left_out():
    scores = make_scores({"mnli": 2.0}, (1000,))
    gone = (scores["intermediate"] == "none") & (scores["seed"] == 1) & (scores["language"] == "de")
    assert len(robustness.effects(scores[~gone])) == 24 - 2
    paired = robustness.effects(scores[~gone])
    assert not ((paired["seed"] == 1) & (paired["language"] == "de")).any()
    np.testing.assert_allclose(robustness.effects(scores[~gone])["effect"], 2.0)


def test_splits_are_never_mixed():
    scores = make_scores({"mnli": 2.0}, (1000,))
    scores.loc[scores["intermediate"] == "none", "split"] = "test"
    assert robustness.effects(scores).empty


def test_a_score_that_stands_twice_is_refused():
    scores = make_scores({"mnli": 2.0}, (1000,))
    with pytest.raises(ValueError, match="two scores for intermediate 'none'"):
        robustness.effects(pd.concat([scores, scores.head(1)]))


def hurt_table() -> pd.DataFrame:
    """One arm on one target: ar is hurt in every seed, bg in the mean alone, de gains, en lacks a seed."""
    by_language = {"ar": (-1, -1, -1), "bg": (-3, 1, 1), "de": (1, 1, 1), "en": (-5, -5)}
    lines = [
        ("mnli", 1000, seed, seed, "xnli", language, "", "test", float(effect))
        for language, effects in by_language.items()
        for seed, effect in enumerate(effects)
    ]
    return pd.DataFrame(lines, columns=[*robustness.KEY, "split", "effect"])


def test_share_hurt_counts_complete_languages_alone():
    line = robustness.share_hurt(hurt_table()).iloc[0]
    assert line[["languages", "incomplete"]].tolist() == [3, 1]
    assert line["share"] == pytest.approx(2 / 3)


def test_share_hurt_leaves_out_noisy_rows():
    table = hurt_table().assign(perturbation="noise-5")
    assert robustness.share_hurt(table).empty


def test_a_row_with_few_cells_does_not_cost_the_others_their_columns():
    nan = math.nan
    table = pd.DataFrame([[1, 2, 3], [4, 5, 6], [7, nan, nan]], index=[0, 1, 2], columns=["a", "b", "c"])
    block = robustness.complete_block(table)
    assert block.index.tolist() == [0, 1]
    assert block.columns.tolist() == ["a", "b", "c"]
    table.loc[0, "b"] = nan
    assert robustness.complete_block(table).columns.tolist() == ["a", "c"]
    assert robustness.complete_block(table.iloc[:0]).empty


def selection_table() -> pd.DataFrame:
    """English development rows like step 20 best, Swahili ones step 10."""
    validation = {("en", 10): 70, ("en", 20): 80, ("sw", 10): 50, ("sw", 20): 40}
    test = {("en", 10): 71, ("en", 20): 79, ("sw", 10): 48, ("sw", 20): 45}
    lines = [
        ("mnli", 1000, 0, 0, "xnli", language, "", step, split, float(score))
        for split, scores in (("validation", validation), ("test", test))
        for (language, step), score in scores.items()
    ]
    return pd.DataFrame(lines, columns=[*robustness.KEY, "checkpoint", "split", "score"])


def test_selection_gap_is_what_english_costs():
    found = robustness.selection_gap(selection_table()).set_index("language")
    assert found["gap"].to_dict() == {"en": 0, "sw": 3}  # in Swahili step 10 has 48, step 20 has 45


def test_a_study_of_checkpoints_has_the_gap_among_its_measures():
    assert "selection_gap" not in [measure.name for measure in Findings(study_of()).measures]
    findings = Findings(study_of(checkpoints=selection_table()))
    (measure,) = [measure for measure in findings.measures if measure.name == "selection_gap"]
    assert measure.by_target[["target", "mean"]].values.tolist() == [["xnli", 1.5]]


def test_selection_gap_is_unknown_where_a_split_is_missing():
    table = selection_table()
    found = robustness.selection_gap(table[table["split"] == "validation"])
    assert found["gap"].isna().tolist() == [True, True]


def test_selection_takes_only_checkpoints_with_all_three_scores():
    table = selection_table()
    gone = (table["language"] == "sw") & (table["checkpoint"] == 20) & (table["split"] == "test")
    found = robustness.selection_gap(table[~gone]).set_index("language")
    assert found["gap"].to_dict() == {"en": 0, "sw": 0}  # step 10 is the only one in Swahili


def test_noise_ratio_by_level():
    scores = make_scores({"mnli": 2.0}, (1000,), (0,), {"xnli": ("en", "ar")}, ("", "noise-5", "noise-20"))
    found = robustness.noise_ratio(scores)
    assert len(found) == 2 * 2 * 2
    plain = found[found["intermediate"] == "none"].set_index(["language", "level"])
    assert plain.loc[("en", 20), "ratio"] == pytest.approx(58 / 60)
    assert plain.loc[("ar", 5), "ratio"] == pytest.approx(58.5 / 59)


def test_noise_ratio_is_unknown_without_the_clean_score():
    scores = make_scores({"mnli": 2.0}, (1000,), (0,), {"xnli": ("en", "ar")}, ("", "noise-5"))
    gone = (scores["language"] == "ar") & (scores["perturbation"] == "")
    found = robustness.noise_ratio(scores[~gone]).set_index("language")["ratio"]
    assert found.loc["ar"].isna().all()
    assert found.loc["en"].notna().all()


def test_worst_mix_is_the_lowest_of_the_mixes_and_tells_when_there_are_fewer():
    names = ("", "mix-30-0", "mix-30-1", "mix-30-2")
    scores = make_scores({"mnli": 2.0}, (1000,), (0,), {"xnli": ("en", "ar")}, names)
    gone = (scores["language"] == "ar") & (scores["perturbation"] == "mix-30-2")
    found = robustness.worst_mix(scores[~gone])
    plain = found[found["intermediate"] == "none"].set_index("language")
    figures = ["level", "clean", "worst", "num_mixes", "is_complete"]
    assert plain.loc["en", figures].tolist() == [30, 60, 55, 3, True]
    assert plain.loc["ar", figures].tolist() == [30, 59, 55, 2, False]


def test_a_table_read_from_a_file_is_the_same(tmp_path):
    scores = make_scores({"mnli": 2.0}, (1000,), perturbations=("", "noise-5"))
    scores.to_csv(tmp_path / "scores.csv", index=False)
    again = pd.read_csv(tmp_path / "scores.csv")
    np.testing.assert_allclose(robustness.effects(again)["effect"], 2.0)
    assert len(robustness.noise_ratio(again)) == len(robustness.noise_ratio(scores))
    assert robustness.noise_ratio(again)["ratio"].notna().all()

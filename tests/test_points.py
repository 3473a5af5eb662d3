"""Means over languages, targets and seeds: worked by hand, and never over what others lack."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_study import scores_of

from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.interval import student_interval
from xlt.studies.analysis.points import (
    at_common_volume,
    average_over_seeds,
    average_over_targets,
    common_volume,
    drop_incomplete,
    reduce_over,
)
from xlt.studies.analysis.results import StudyResults
from xlt.studies.report.drawing import COLOURS, DARK, spread_out
from xlt.system.tables import counted, number


def table(lines: list[tuple[object, ...]], value: str = "score") -> pd.DataFrame:
    """Scores: intermediate, volume, seed, target seed, target, language, value."""
    columns = ["intermediate", "volume", "seed", "target_seed", "target", "language", value]
    return pd.DataFrame(lines, columns=pd.Index(columns))


def test_the_interval_is_students():
    # SD 1, n 3: 4.3027 (t, 2 degrees of freedom, 97.5 %) / sqrt(3) on either side.
    mean, low, high = student_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert math.isnan(student_interval([5.0]).low)


def test_a_failed_run_costs_its_replicate_and_not_the_others_their_target():
    wide = pd.DataFrame({"xnli": [1.0, 2, 3], "xquad": [1.0, np.nan, 3], "udpos": [1.0, 2, 3]})
    assert drop_incomplete(wide).to_dict("list") == {"xnli": [1, 3], "xquad": [1, 3], "udpos": [1, 3]}
    lacking = pd.DataFrame({"xnli": [1.0, 2, 3, 4], "xquad": [1.0, np.nan, np.nan, np.nan]})
    assert drop_incomplete(lacking).to_dict("list") == {"xnli": [1, 2, 3, 4]}


def test_a_mean_is_over_the_languages_that_all_runs_have():
    cells = [("en", 60.0), ("de", 50.0), ("sw", 10.0)]
    lines = [("none", 0, 0, 0, "xnli", code, score) for code, score in cells]
    lines += [("mnli", 100, 0, 0, "xnli", code, score + 2) for code, score in cells[:2]]
    found = reduce_over(table(lines), "language", ["target"])
    assert found[["intermediate", "score", "common", "of"]].to_numpy().tolist() == [
        ["mnli", 57.0, 2, 3],
        ["none", 55.0, 2, 3],
    ]


def test_fine_tunings_of_one_seed_are_one_replicate():
    lines = [
        ("mnli", 100, seed, seed + k, "xnli", "en", 50.0 + 10 * seed + k) for seed in (0, 1) for k in (0, 2)
    ]
    (point,) = average_over_seeds(reduce_over(table(lines), "language", ["target"]), ["target"]).to_dict(
        "records"
    )
    assert (point["mean"], point["seeds"]) == (56.0, 2)  # of 51 and 61
    assert point["high"] - point["mean"] == pytest.approx(12.7062 * 10 / 2, abs=1e-3)


def test_the_mean_over_targets_marks_a_seed_that_lacks_one():
    lines = [
        ("mnli", volume, seed, seed, target, "en", effect + seed)
        for volume in (10, 100)
        for seed in (0, 1)
        for target, effect in (("xnli", 1.0), ("xquad", 3.0))
        if (volume, seed, target) != (100, 1, "xquad")
    ]
    effects = reduce_over(table(lines, "effect"), "language", ["target"], "effect")
    found = average_over_targets(effects, "effect").set_index("volume")
    assert found["mean"].to_dict() == {10: 2.5, 100: 2.0}
    assert found["seeds"].to_dict() == {10: 2, 100: 1}
    assert found["complete"].to_dict() == {10: True, 100: False}


def test_arms_meet_at_the_largest_volume_that_they_share():
    lines = [("none", 0, 0, 0, "xnli", "en", 1.0)]
    lines += [("mnli", volume, 0, 0, "xnli", "en", 1.0) for volume in (10, 100, 390)]
    lines += [("squad_v1", volume, 0, 0, "xnli", "en", 1.0) for volume in (10, 100, 87)]
    assert common_volume(table(lines)) == 100
    assert set(at_common_volume(table(lines))["volume"]) == {100}
    apart = table([line for line in lines if line[1] not in (10, 100)])
    assert common_volume(apart) is None
    assert set(at_common_volume(apart)["volume"]) == {390, 87}


def with_items(folder: Path, spread: float) -> pd.DataFrame:
    """Scores of two rows each, which lie this far on either side of the score."""
    scores = scores_of(["mnli"], [100], [0, 1], ["xnli"], [""])
    for place, score in scores["score"].items():
        sign = 1 if scores.loc[place, "intermediate"] == "mnli" else -1
        np.save(folder / f"{place}.npy", np.float32([score + sign * spread, score - sign * spread]))
    return scores.assign(example_scores=[f"{place}.npy" for place in scores.index])


def test_intervals_of_effects_take_in_the_test_rows_where_they_are_kept(tmp_path: Path):
    (alike,) = Findings(StudyResults("", with_items(tmp_path, 0.0), folder=tmp_path)).effects.to_dict(
        "records"
    )
    (seeds,) = Findings(StudyResults("", with_items(tmp_path, 0.0))).effects.to_dict("records")
    # Rows that are all alike add nothing to what the seeds vary.
    assert [alike[end] for end in ("mean", "low", "high")] == pytest.approx(
        [seeds[end] for end in ("mean", "low", "high")], rel=0.02
    )
    assert (alike["of_rows"], seeds["of_rows"]) == (True, False)
    apart = Findings(StudyResults("", with_items(tmp_path, 20.0), folder=tmp_path)).effects.iloc[0]
    # The mean of two drawn rows that differ by 80 points varies with an SD of 40 / sqrt(2).
    assert (apart["high"] - apart["low"]) / 2 == pytest.approx(1.96 * 40 / math.sqrt(2), rel=0.1)


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert [counted(count, "step") for count in (0, 1, 1200)] == ["0 steps", "1 step", "1,200 steps"]
    assert [number(value, "+") for value in (0.04, -0.04, 1.25, -1.26)] == ["0.0", "0.0", "+1.2", "−1.3"]


def test_names_at_the_ends_of_lines_move_as_little_as_need_be():
    assert spread_out([100.0, 50.0], 13) == [100.0, 50.0]
    assert spread_out([10.0, 12.0], 12) == [5.0, 17.0]
    assert spread_out([20.0, 20.0, 26.0], 10) == [12.0, 22.0, 32.0]


def luminance(colour: str) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("colours", "paper"), [(COLOURS, "#ffffff"), (DARK, "#15181c")])
def test_every_arm_is_legible_on_light_and_on_dark_paper(colours: tuple[str, ...], paper: str):
    for colour in colours:
        low, high = sorted([luminance(colour), luminance(paper)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, colour

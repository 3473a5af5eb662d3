"""Collapsed runs of a study: which runs count, and that each mean, curve and claim names them."""

from pathlib import Path

import pandas as pd
import pytest
from study_rows import make_scores

from xlt.studies.analysis.claims import judge
from xlt.studies.analysis.collapsed import collapsed_runs, count_collapsed, describe_runs, judged_runs
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import StudyResults, check_scores, read_scores
from xlt.studies.report.figures import describe_collapsed
from xlt.studies.report.page import page, summary
from xlt.studies.report.study_workspace import curve_runs, study_tables
from xlt.studies.report.tables import csv_files, points_table

FIRST = {"intermediate": "mnli", "volume": 1000, "seed": 1, "target": "xnli"}


def where(scores: pd.DataFrame, **cell: object) -> pd.Series:
    """The lines of a cell."""
    return (scores[list(cell)] == pd.Series(cell)).all(axis=1)


@pytest.fixture
def scores() -> pd.DataFrame:
    """Two targets in four languages, three seeds, of which one MNLI run has collapsed on XNLI."""
    found = make_scores(noise_sd=0.5).assign(collapsed="no")
    found.loc[where(found, **FIRST), "collapsed"] = "yes"
    return found


@pytest.fixture
def findings(scores: pd.DataFrame) -> Findings:
    return Findings(StudyResults("made up", scores))


def test_a_run_has_collapsed_in_at_least_half_of_its_judged_languages(scores: pd.DataFrame):
    (run,) = collapsed_runs(scores).itertuples()
    assert (run.intermediate, run.volume, run.seed, run.target) == tuple(FIRST.values())
    assert (run.collapsed, run.judged) == (4, 4)
    for languages, collapsed, count in (
        (["en"], "no", 1),
        (["en", "ar"], "no", 1),
        (["en", "ar", "bg"], "no", 0),
    ):
        changed = scores.copy()
        changed.loc[where(scores, **FIRST) & scores["language"].isin(languages), "collapsed"] = collapsed
        assert len(collapsed_runs(changed)) == count
    # An unknown language counts neither way.
    changed = scores.copy()
    changed.loc[where(scores, **FIRST) & scores["language"].isin(["en", "ar"]), "collapsed"] = "unknown"
    assert collapsed_runs(changed)["judged"].tolist() == [2]


def test_perturbed_rows_do_not_decide(scores: pd.DataFrame):
    noisy = scores.assign(perturbation="noise-5", collapsed="yes")
    assert len(collapsed_runs(pd.concat([scores, noisy]))) == 1


def test_a_collapsed_run_is_described_by_its_names(findings: Findings):
    text = "MNLI, 1,000 examples, seed 1, XNLI (4 of 4 languages)"
    assert describe_runs(findings.collapsed) == [text]
    assert describe_collapsed(findings) == [
        f"The means cover runs with constant predictions: 1 collapsed: {text}."
    ]


def test_each_mean_carries_the_number_of_its_collapsed_runs(findings: Findings):
    for points in (findings.scores, findings.effects):
        own = where(points, intermediate="mnli", volume=1000, target="xnli")
        assert points["collapsed"].tolist() == own.astype(int).tolist()
    own = where(findings.pooled, intermediate="mnli", volume=1000)
    assert findings.pooled["collapsed"].tolist() == own.astype(int).tolist()
    measures = {measure.name: measure for measure in findings.measures}
    assert measures["worst_quarter"].pooled["collapsed"].sum() == 1
    curves = findings.fits
    assert curves[curves["collapsed"] > 0][["intermediate", "target"]].to_numpy().tolist() == [
        ["mnli", ""], ["mnli", "xnli"],
    ]  # fmt: skip
    text = points_table(findings.scores).to_csv()
    assert text.count("1 collapsed") == 1
    assert csv_files(findings)["effects_by_volume"]["collapsed"].sum() == 2  # of XNLI, and of all targets


def test_the_curves_at_wandb_carry_the_number_too(findings: Findings):
    lines = next(curve.lines for curve in curve_runs(findings) if curve.arm == "mnli")
    assert [line["score/xnli/collapsed"] for line in lines] == [1, 0]
    assert [line["effect/udpos/collapsed"] for line in lines] == [0, 0]
    assert study_tables(findings)["by_language"]["collapsed"].sum() == 0  # at 4,000 examples


def test_a_difference_counts_the_collapsed_runs_of_both_sides(findings: Findings):
    plain = findings.collapsed.assign(intermediate="none", volume=0)
    points = pd.DataFrame([("none", 0, "xnli"), ("mnli", 1000, "xnli"), ("mnli", 1000, "udpos")])
    points.columns = ["intermediate", "volume", "target"]
    assert count_collapsed(points, plain)["collapsed"].tolist() == [1, 0, 0]
    assert count_collapsed(points, plain, is_paired=True)["collapsed"].tolist() == [1, 1, 0]


def test_a_claim_names_the_collapsed_runs_that_it_compares(scores: pd.DataFrame):
    at_4000 = {judged.claim.name: judged.words for judged in judge(scores)}
    assert "collapsed" not in "".join(at_4000.values())  # the claims compare the largest volume
    words = {judged.claim.name: judged.words for judged in judge(scores[scores["volume"] <= 1000])}
    assert words["mnli"].endswith(", 1 collapsed: mnli seed 1 xnli.")
    assert "collapsed" not in words["squad"]


def test_the_page_states_how_many_runs_have_collapsed_and_which(scores: pd.DataFrame, tmp_path: Path):
    study = StudyResults("made up", scores)
    sentence = "1 of 30 runs have collapsed to constant predictions."
    assert sentence in list(summary(Findings(study)))
    page(study, tmp_path)
    html = (tmp_path / "index.html").read_text()
    assert sentence in html
    assert '<section id="collapsed">' in html
    assert "<li>MNLI, 1,000 examples, seed 1, XNLI (4 of 4 languages)</li>" in html
    none = StudyResults("made up", scores.assign(collapsed="no"))
    assert "0 of 30 runs have collapsed to constant predictions." in list(summary(Findings(none)))


def test_a_table_of_an_earlier_version_is_read_as_unknown(scores: pd.DataFrame, tmp_path: Path):
    path = tmp_path / "scores.csv"
    scores.drop(columns="collapsed").to_csv(path, index=False)
    found = read_scores(path)
    assert set(found["collapsed"]) == {"unknown"}
    assert judged_runs(found).empty
    assert next(text for text in summary(Findings(StudyResults("old", found))) if "unknown" in text)


def test_a_verdict_that_is_none_is_refused(scores: pd.DataFrame):
    broken = scores.assign(collapsed="perhaps")
    with pytest.raises(ValueError, match=r"row 0: collapsed is 'perhaps': it must be yes, no, unknown"):
        check_scores(broken, "scores.csv")

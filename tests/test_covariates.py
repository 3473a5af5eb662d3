"""Effects by language against facts about the languages: the facts, the model, the figure."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as formulas
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from synthetic_study import LEVELS, scores_of, study_of

from xlt.studies.analysis.covariates import (
    COLUMNS,
    TERMS,
    covariate_effects,
    describe_covariates,
    language_effects,
    terms_of,
    transfer_cells,
)
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.language_facts import describe_lacking, facts_of
from xlt.studies.report.charts import marks_of
from xlt.studies.report.covariate_figures import covariates_table, effect_by_covariate
from xlt.tasks import load

TASKS = (
    *("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc2018", "tatoeba", "xcopa"),
    *("xvnli", "xgqa", "marvl", "xflickrco"),
)
"""XTREME's and IGLUE's targets."""

MANY = tuple(LEVELS["udpos"][1].split())


def cells_of(
    targets=("xnli", "udpos", "xquad"), languages=MANY, effect=lambda code: 1.0, noise=(0, 0, 0), draw=0
):
    """Cells of one arm: the language's effect with noise by language, by target and by cell (SDs)."""
    random = np.random.default_rng(draw)
    by_language = {code: random.normal(0, noise[0]) for code in languages}
    by_target = {name: random.normal(0, noise[1]) for name in targets}
    lines = [
        (
            "mnli",
            1000,
            name,
            code,
            effect(code) + by_language[code] + by_target[name] + random.normal(0, noise[2]),
        )
        for name in targets
        for code in languages
    ]
    columns = ["intermediate", "volume", "target", "language", "mean"]
    return pd.DataFrame(lines, columns=columns).assign(complete=True)


def standardised(term, languages):
    """Return a term by language with mean 0 and SD 1, without English and languages that lack it."""
    values = terms_of(facts_of(languages))[term].drop(index="en", errors="ignore").dropna()
    return (values - values.mean()) / values.std(ddof=1)


# The facts


def test_every_language_of_the_targets_has_its_facts_or_is_known_to_lack_one():
    languages = {code for task in TASKS for code in load(task).languages}
    facts = facts_of(languages)
    assert len(facts) == len(languages) > 40
    assert facts[["same_script", "group"]].notna().all(axis=None)
    assert set(facts.index[facts["gib"].isna()]) == {"ht", "qu", "yo"}  # not in the table of CC-100
    assert set(facts.index[facts["distance"].isna()]) == {"kk"}
    assert describe_lacking(facts) == [
        "No text in CC-100 is known for Haitian Creole, Quechua, Yoruba.",
        "No syntactic distance is known for Kazakh.",
    ]


def test_facts_are_those_of_their_sources():
    """CC-100: Conneau et al. (2020), table 6; families: Glottolog; scripts: Unicode."""
    facts = facts_of(["de", "en", "fa", "fi", "sw", "zh"])
    assert facts["gib"].to_dict() == pytest.approx(
        {"de": 66.6, "en": 300.8, "fa": 111.6, "fi": 54.3, "sw": 1.6, "zh": 46.9 + 16.6}
    )
    assert facts["group"].tolist() == [
        *("Germanic", "Germanic", "other Indo-European"),
        *["not Indo-European"] * 3,
    ]
    assert facts["same_script"].tolist() == [1, 1, 0, 1, 1, 0]
    assert facts.loc["en", "distance"] == 0
    assert facts.loc["de", "distance"] < facts.loc["fi", "distance"] < facts.loc["sw", "distance"]


def test_a_language_outside_the_table_is_listed_as_missing():
    facts = facts_of(["de", "mt"])
    assert describe_lacking(facts)[0] == "No family is known for Maltese."
    assert terms_of(facts).loc["mt", ["germanic", "far", "text", "distance"]].isna().all()


# The model


def line_of(found, model, term):
    (line,) = found[(found["model"] == model) & (found["term"] == TERMS[term])].to_dict("records")
    return line


def test_with_one_target_a_covariate_alone_is_a_regression_on_languages():
    cells = cells_of(("xnli",), effect=lambda code: len(code) + 0.1 * ord(code[0]), noise=(0, 0, 0.5))
    line = line_of(covariate_effects(cells), "alone", "distance")
    x = standardised("distance", MANY)
    y = cells.set_index("language")["mean"][x.index]
    fitted = stats.linregress(x, y)
    margin = stats.t.ppf(0.975, len(x) - 2) * fitted.stderr
    assert line["estimate"] == pytest.approx(fitted.slope)
    assert [line["low"], line["high"]] == pytest.approx([fitted.slope - margin, fitted.slope + margin])
    assert line["p"] == pytest.approx(fitted.pvalue)
    assert (line["languages"], line["targets"], line["cells"]) == (len(x), 1, len(x))


def test_the_model_is_that_of_statsmodels_with_crossed_languages_and_targets():
    cells = cells_of(noise=(0.8, 0.6, 0.5), draw=3)
    line = line_of(covariate_effects(cells), "alone", "text")
    x = standardised("text", MANY)
    own = cells[cells["language"].isin(x.index)].assign(x=lambda part: part["language"].map(x), group=1)
    spec = {name: f"0 + C({name})" for name in ("language", "target")}
    plain = formulas.mixedlm("mean ~ x", own, groups="group", re_formula="0", vc_formula=spec).fit()
    assert line["estimate"] == pytest.approx(plain.fe_params["x"], rel=1e-3, abs=1e-4)
    margin = stats.t.ppf(0.975, len(x) - 2) * plain.bse_fe["x"]
    assert line["high"] - line["estimate"] == pytest.approx(margin, rel=1e-2)


def test_the_models_find_what_was_put_in():
    x = standardised("distance", MANY)
    cells = cells_of(effect=lambda code: 1 - 1.5 * x.get(code, 0.0), noise=(0.2, 0.5, 0.2), draw=1)
    found = covariate_effects(cells)
    assert list(found.columns) == COLUMNS
    for model in ("alone", "together"):
        line = line_of(found, model, "distance")
        assert line["estimate"] == pytest.approx(-1.5, abs=0.25)
        assert line["p_holm"] < 0.001
    assert line_of(found, "together", "text")["p_holm"] > 0.05
    assert line_of(found, "alone", "far")["estimate"] < 0  # far languages are often distant
    assert "syntactic distance from English, per SD (MNLI, -1.5 points)" in describe_covariates(found)


def test_intervals_hold_though_a_languages_effects_are_alike_in_all_targets():
    held = 0
    for draw in range(12):
        cells = cells_of(languages=MANY[:15], noise=(1.0, 0.5, 0.3), draw=draw)
        line = line_of(covariate_effects(cells), "alone", "distance")
        held += line["low"] <= 0 <= line["high"]
    assert held >= 9  # 95 % of 12 are 11.4; fewer than 9 come to pass twice in 1,000


def test_p_values_are_adjusted_over_the_terms_of_a_kind_of_model():
    found = covariate_effects(cells_of(noise=(1.0, 0.5, 0.3), draw=5))
    alone = found[found["model"] == "alone"]
    assert len(alone) == len(TERMS)
    smallest = alone["p"].idxmin()
    assert alone.loc[smallest, "p_holm"] == pytest.approx(min(1.0, len(TERMS) * alone.loc[smallest, "p"]))


def test_english_and_unfinished_cells_are_left_out():
    cells = cells_of(noise=(0.5, 0.5, 0.5))
    cells.loc[cells["language"] == "en", "mean"] = 1000.0
    cells.loc[0:5, ["mean", "complete"]] = [1000.0, False]
    own = transfer_cells(cells)
    assert own["mean"].max() < 10
    assert covariate_effects(cells)["estimate"].abs().max() < 10
    assert language_effects(cells)["mean"].abs().max() < 10


def test_what_cannot_be_fitted_has_a_reason_and_no_estimate():
    few = covariate_effects(cells_of(languages=("en", "de", "fr", "hi"), noise=(1, 1, 1)))
    assert few["estimate"].isna().all()
    assert few["words"].str.contains("languages are too few: the model needs").all()
    latin = covariate_effects(
        cells_of(languages=("es", "fr", "it", "pt", "id", "vi", "tr", "de"), noise=(1, 1, 1))
    )
    assert latin.loc[latin["term"] == TERMS["same_script"], "estimate"].isna().all()
    together = latin[latin["model"] == "together"]
    assert (
        together["words"]
        .str.startswith("left out, because fewer than two languages differ: Latin script, Germanic")
        .all()
    )
    assert set(together["term"]) == {TERMS["far"], TERMS["text"], TERMS["distance"]}
    nothing = covariate_effects(cells_of()[:0])
    assert nothing.empty
    for table in (few, nothing):
        assert describe_covariates(table).startswith("No model of the facts about languages can be fitted")
    silent = covariate_effects(cells_of(noise=(1.0, 0.5, 0.3), draw=5))
    assert describe_covariates(silent) == (
        "No fact about the language goes with the effect after Holm's adjustment (5 terms)."
    )
    assert list(nothing.columns) == COLUMNS


def test_a_fit_that_does_not_converge_says_so(monkeypatch):
    whole = MixedLM.fit
    monkeypatch.setattr(MixedLM, "fit", lambda self, **keys: whole(self, **(keys | {"maxiter": 1})))
    found = covariate_effects(cells_of(noise=(1.0, 1.0, 0.5)))
    assert found["estimate"].isna().all()
    assert found["words"].str.contains("the fit did not converge").all()


def test_a_fit_that_meets_a_singular_matrix_says_so(monkeypatch):
    def fail(self, **keys):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(MixedLM, "fit", fail)
    found = covariate_effects(cells_of(noise=(1.0, 1.0, 0.5)))
    assert found["estimate"].isna().all()
    assert found["words"].str.endswith("the fit failed: Singular matrix").all()


# The figure


def test_effects_by_language_do_not_depend_on_the_targets_that_a_language_has():
    """Target b is 4 points above a; Hindi has only b. Its effect in a would be 1, so its mean is 3."""
    lines = [("a", "de", 2.0), ("b", "de", 6.0), ("a", "fr", 0.0), ("b", "fr", 4.0), ("b", "hi", 5.0)]
    cells = pd.DataFrame(lines, columns=["target", "language", "mean"])
    found = language_effects(cells.assign(intermediate="mnli", volume=1000, complete=True))
    assert found.set_index("language")["mean"].to_dict() == pytest.approx({"de": 4.0, "fr": 2.0, "hi": 3.0})


def test_the_figure_has_a_panel_for_each_fact_and_a_table_with_all_of_them():
    findings = Findings(study_of(scores_of(["mnli", "squad_v1"], [1000], [0, 1], perturbations=[""])))
    (figure,) = effect_by_covariate(findings, marks_of(findings.arms))
    assert [panel.title for panel in figure.panels] == [
        *("Script", "Family", "CC-100 text, GiB", "Syntactic distance from English"),
    ]
    table = figure.numbers.set_index("Language")
    assert table.loc["Swahili", ["Script", "Family", "CC-100, GiB"]].tolist() == [
        *("Latin", "not Indo-European", "1.6"),
    ]
    assert table.loc["Kazakh", "Syntactic distance"] == "–"
    assert "No syntactic distance is known for Kazakh." in figure.sentences
    shown = covariates_table(findings.covariates)
    assert set(shown["Intermediate task"]) == {"MNLI", "SQuAD 1.1"}
    assert not any(math.isnan(value) for value in findings.covariates["estimate"])


def test_a_study_of_one_language_has_no_such_figure():
    scores = scores_of(["mnli"], [1000], [0, 1], ["xnli"], [""])
    findings = Findings(study_of(scores[scores["language"].isin(["en", "de"])]))
    assert list(effect_by_covariate(findings, marks_of(findings.arms))) == []

"""Effects by language against facts about the languages: script, family, pre-training text, distance.

Languages and targets are random parts of a mixed model, because a language's effects are alike in several
targets, and a covariate of languages is tested against the spread of languages. English is left out, because
it is the language of the training rows.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from xlt.data.multilingual import ENGLISH
from xlt.studies.analysis.equivalence import ALPHA, holm_of_known
from xlt.studies.analysis.language_facts import FAR, GERMANIC, facts_of
from xlt.studies.analysis.names import task_name
from xlt.studies.analysis.variance import fit_components

TERMS = {
    "same_script": "Latin script",
    "germanic": "Germanic",
    "far": "not Indo-European",
    "text": "logarithm of the CC-100 text, per SD",
    "distance": "syntactic distance from English, per SD",
}
"""Terms of the models in words. Germanic and not Indo-European are compared with other Indo-European."""

INDICATORS = ("same_script", "germanic", "far")
"""Terms that are 0 or 1; other terms are standardised over the languages of the model."""

ALONE = (("same_script",), ("germanic", "far"), ("text",), ("distance",))
"""Terms of the models with one covariate."""

MIN_FREEDOM = 3
"""Minimum number of degrees of freedom between languages; with fewer, nothing is estimated."""

COLUMNS = [
    *("intermediate", "volume", "model", "term", "estimate", "low", "high", "p", "p_holm"),
    *("languages", "targets", "cells", "words"),
]
"""Columns of the table of covariates."""


def terms_of(facts: pd.DataFrame) -> pd.DataFrame:
    """Return the terms of each language, before they are standardised; unknown values are NaN.

    Args:
        facts: The table that `facts_of` returns.
    """
    known = facts["group"].notna()
    return pd.DataFrame({
        "same_script": facts["same_script"],
        "germanic": (facts["group"] == GERMANIC).astype(float).where(known),
        "far": (facts["group"] == FAR).astype(float).where(known),
        "text": np.log10(facts["gib"]),
        "distance": facts["distance"],
    })  # fmt: skip


def transfer_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with all seeds, without English."""
    return cells[(cells["language"] != ENGLISH) & cells["complete"].astype(bool)]


def covariate_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """Fit the effects of each arm by language and target on the covariates, each alone and all together.

    The model is effect ~ covariates + (1|language) + (1|target). t has (languages - 1 - terms) degrees of
    freedom, because the covariates vary between languages only.

    Args:
        cells: Mean effects over seeds, with the columns intermediate, volume, target, language, mean and
            complete. Cells without all seeds are left out.

    Returns:
        One line for each term, with the columns `COLUMNS`; `model` is "alone" or "together". `p_holm` is
        adjusted over all terms of all arms, separately for the two models. A model that cannot be fitted has
        one line with the reason in `words`.

    Source: Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4 (degrees of freedom
    of terms that vary between groups).
    """
    own = transfer_cells(cells)
    terms = terms_of(facts_of(own["language"]))
    lines: list[list[object]] = []
    for (arm, volume), part in own.groupby(["intermediate", "volume"]):
        for model, names in (*(("alone", names) for names in ALONE), ("together", tuple(TERMS))):
            lines += [[arm, volume, model, *line] for line in _fitted(part, terms, names)]
    found = pd.DataFrame(lines, columns=pd.Index([name for name in COLUMNS if name != "p_holm"]))
    adjusted: dict[int, float] = {}
    for _, part in found.groupby("model"):
        adjusted |= holm_of_known({int(key): float(p) for key, p in part["p"].items()})
    return found.assign(p_holm=pd.Series(adjusted, dtype=float))[COLUMNS]


def _fitted(cells: pd.DataFrame, terms: pd.DataFrame, names: Sequence[str]) -> list[list[object]]:
    """Return a model's lines: term, estimate, limits, p, counts of languages, targets, cells, remarks."""
    own = terms[list(names)].dropna()
    cells = cells[cells["language"].isin(own.index)]
    own = own.loc[sorted(set(cells["language"]))]
    used = [name for name in names if _varies(name, own[name])]
    counts = [len(own), cells["target"].nunique(), len(cells)]
    left_out = [TERMS[name] for name in names if name not in used]
    remarks = (
        [f"left out, because fewer than two languages differ: {', '.join(left_out)}"] if left_out else []
    )
    freedom = len(own) - 1 - len(used)
    if not used or freedom < MIN_FREEDOM:
        label = ", ".join(TERMS[name] for name in names)
        needed = max(len(used), 1) + 1 + MIN_FREEDOM
        reason = f"{len(own)} languages are too few: the model needs {needed} that differ"
        return [[label, *[math.nan] * 4, *counts, reason]]
    values = own[used].apply(lambda column: column if column.name in INDICATORS else _standardised(column))
    fixed = pd.DataFrame({"mean": 1.0, **values}).loc[cells["language"]].reset_index(drop=True)
    try:
        fitted = fit_components(cells["mean"].to_numpy(float), fixed, _random_parts(cells))
        failure = "" if fitted.converged else fitted.words
    except np.linalg.LinAlgError as error:
        fitted, failure = None, f"the fit failed: {error}"
    if fitted is None or failure:
        label = ", ".join(TERMS[name] for name in used)
        return [[label, *[math.nan] * 4, *counts, "; ".join([*remarks, failure])]]
    words = "; ".join([*remarks, *([fitted.words] if fitted.words else [])])
    return [
        [TERMS[name], *_tested(fitted.estimates[name], fitted.errors[name], freedom), *counts, words]
        for name in used
    ]


def _varies(name: str, values: pd.Series) -> bool:
    """Return True if at least two languages differ from the others in a term."""
    if name in INDICATORS:
        return 2 <= values.sum() <= len(values) - 2
    return values.nunique() > 2


def _standardised(values: pd.Series) -> pd.Series:
    """Return values with mean 0 and SD 1."""
    return (values - values.mean()) / values.std(ddof=1)


def _random_parts(cells: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of languages and targets, of those with several levels but fewer than cells."""
    return {
        name: pd.get_dummies(cells[name], dtype=float).to_numpy()
        for name in ("language", "target")
        if 1 < cells[name].nunique() < len(cells)
    }


def _tested(estimate: float, error: float, freedom: int) -> list[float]:
    """Return an estimate, its 95 % interval and its two-sided p-value."""
    margin = float(stats.t.ppf(0.975, freedom)) * error
    p = 2 * float(stats.t.sf(abs(estimate / error), freedom)) if error > 0 else math.nan
    return [float(estimate), float(estimate - margin), float(estimate + margin), p]


def describe_covariates(found: pd.DataFrame, alpha: float = ALPHA) -> str:
    """Return a sentence with the facts that go with the effect, each alone, after Holm's adjustment.

    Args:
        found: The table that `covariate_effects` returns.
        alpha: Significance level of all terms together. Defaults to 0.05.
    """
    alone = found[(found["model"] == "alone") & found["p_holm"].notna()]
    if alone.empty:
        return "No model of the facts about languages can be fitted: the table of the models has the reasons."
    certain = alone[alone["p_holm"] < alpha]
    if certain.empty:
        return (
            f"No fact about the language goes with the effect after Holm's adjustment ({len(alone)} terms)."
        )
    parts = [
        f"{line.term} ({task_name(line.intermediate)}, {line.estimate:+.1f} points)"
        for line in certain.itertuples()
    ]
    return f"These facts go with the effect after Holm's adjustment: {'; '.join(parts)}."


def language_effects(cells: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's effect in each language, as if all languages had all targets.

    The effects are fitted as language + target by least squares, because languages differ in their targets.

    Args:
        cells: The cells of `covariate_effects`.

    Returns:
        The columns intermediate, language and mean.
    """
    lines = []
    for arm, part in transfer_cells(cells).groupby("intermediate"):
        languages, targets = (pd.get_dummies(part[name], dtype=float) for name in ("language", "target"))
        columns = np.concatenate([languages.to_numpy(), targets.to_numpy()], axis=1)
        found = np.linalg.lstsq(columns, part["mean"].to_numpy(float), rcond=None)[0]
        own, rest = found[: languages.shape[1]], found[languages.shape[1] :]
        lines += [[arm, code, value] for code, value in zip(languages, own + rest.mean(), strict=True)]
    return pd.DataFrame(lines, columns=pd.Index(["intermediate", "language", "mean"]))

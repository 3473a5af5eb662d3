"""Measures of robustness: worst languages, paired effects, checkpoint selection, noise, code-mixing.

A table of scores has one line for each score, with the columns intermediate, volume, seed, target_seed,
target, language, perturbation, score and split. Lines may be missing. Arms are only compared over cells that
both have, and every exclusion is counted.
"""

# pandas declares its return types too broadly.
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from xlt.data.multilingual import ENGLISH
from xlt.studies.analysis.results import KEY
from xlt.studies.design.nodes import NONE

PAIR = ["seed", "target_seed", "target", "language", "perturbation", "split"]
"""Columns in which a score agrees with the score of the arm without intermediate training."""

CELL = KEY[:-1]
"""Columns that identify a score, without the perturbation."""

ARM = ["intermediate", "volume", "target"]
"""Columns that identify an arm at one volume in one target."""


def worst_quarter(by_language: Mapping[str, float]) -> float:
    """Return the mean of the lowest quarter of the languages' scores, rounded up to at least one language.

    Args:
        by_language: Scores by language.

    Raises:
        ValueError: There is no language.

    Source: the conditional value at risk at 1/4 over languages: Rockafellar and Uryasev (2000), Journal of
    Risk 2(3).
    """
    if not by_language:
        raise ValueError("by_language is empty: give the score of at least one language")
    lowest = sorted(by_language.values())[: math.ceil(len(by_language) / 4)]
    return float(np.mean(lowest))


def require_single(scores: pd.DataFrame, key: Sequence[str]) -> None:
    """Refuse a table with two scores for the same key.

    Args:
        scores: The table.
        key: Columns that must identify a line.

    Raises:
        ValueError: Two lines have the same key.
    """
    twice = scores.duplicated(list(key))
    if twice.any():
        line = ", ".join(f"{name} {scores.loc[twice, name].iloc[0]!r}" for name in key)
        raise ValueError(f"two scores for {line}: delete one of the two lines")


def clean(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of unperturbed test rows; a table read from a file may have NaN for an empty text."""
    return scores[scores["perturbation"].fillna("") == ""]


def averaged(frame: pd.DataFrame, without_english: Collection[str]) -> pd.DataFrame:
    """Return the lines that means over languages cover.

    Args:
        frame: A table with the columns target and language.
        without_english: Targets whose means leave English out, as IGLUE's do.
    """
    return frame[~(frame["target"].isin(list(without_english)) & (frame["language"] == ENGLISH))]


def effects(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the effect of intermediate training on each score, paired by seed.

    Args:
        scores: The table of scores. Lines without a line of "none" to pair with are left out.

    Returns:
        The columns of `KEY`, `split`, and `effect` in points: the score minus the score of "none" with the
        same seeds, target, language, perturbation and split.

    Raises:
        ValueError: A score appears twice.

    Source: Phang et al. (2020), https://arxiv.org/abs/2005.13013, section 4 (gains over plain XLM-R), here by
    seed; paired comparison: Dror et al. (2018), https://aclanthology.org/P18-1128.
    """
    paired = _add_control(scores)
    paired = paired[paired["control"].notna()]
    return paired.assign(effect=paired["score"] - paired["control"])[[*KEY, "split", "effect"]].reset_index(
        drop=True
    )


def _add_control(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the lines with intermediate training, with the score of "none" in the column `control`."""
    require_single(scores, [*KEY, "split"])
    is_control = scores["intermediate"] == NONE
    control = scores.loc[is_control, [*PAIR, "score"]].rename(columns={"score": "control"})
    return scores[~is_control].merge(control, on=PAIR, how="left", validate="many_to_one")


def complete_block(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows and columns of a table between which no value is missing.

    Rows that have fewer than half of the columns are dropped first, so that an unfinished run does not remove
    languages from all other runs. Then every column that a remaining row lacks is dropped.
    """
    rows = table[table.notna().sum(axis=1) * 2 >= table.shape[1]]
    return rows.loc[:, rows.notna().all()] if len(rows) else rows.iloc[:, :0]


def share_hurt(effects: pd.DataFrame) -> pd.DataFrame:
    """Count the languages that intermediate training hurts, by intermediate task, volume and target.

    Args:
        effects: The table that `effects` returns. Only unperturbed rows are used.

    Returns:
        `languages`: languages that are counted. `incomplete`: languages that another arm has and that lack a
        seed here; they are not counted. `share`: share of the counted languages whose mean effect over seeds
        is below 0, NaN without languages. If intermediate training has no effect, chance alone hurts half of
        the languages.

    Source: Standley et al. (2020), https://arxiv.org/abs/1905.07553, on negative transfer; Wang et al.
    (2020), https://aclanthology.org/2020.emnlp-main.359, by language.
    """
    unperturbed = clean(effects)
    num_languages = unperturbed.groupby("target")["language"].nunique()
    lines = [
        (*arm, *_hurt(group, int(num_languages[arm[2]])))
        for arm, group in unperturbed.groupby(ARM, sort=True)
    ]
    return pd.DataFrame(lines, columns=[*ARM, "languages", "incomplete", "share"])


def _hurt(group: pd.DataFrame, num_languages: int) -> tuple[int, int, float]:
    """Return the figures of `share_hurt` for one arm and target."""
    block = complete_block(group.pivot(index=["seed", "target_seed"], columns="language", values="effect"))
    found = block.shape[1]
    return found, num_languages - found, float((block.mean() < 0).mean()) if found else math.nan


def selection_gap(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the points lost by choosing a checkpoint on English dev rows instead of the language's own.

    Args:
        scores: Table of scores with a column `checkpoint` (step) and lines of both splits.

    Returns:
        The columns of `CELL`, and `gap` in points: test score of the best checkpoint by the language's own
        development rows minus test score of the best one by the English rows (the earliest of equals). Only
        checkpoints with all three scores count; `gap` is NaN if there is none.

    Source: Keung et al. (2020), "Don't Use English Dev", https://aclanthology.org/2020.emnlp-main.40.
    """
    unperturbed = clean(scores)
    require_single(unperturbed, [*CELL, "checkpoint", "split"])
    wide = unperturbed.pivot(index=[*CELL, "checkpoint"], columns="split", values="score")
    wide = wide.reindex(columns=["validation", "test"]).reset_index()
    dev = wide.loc[wide["language"] == ENGLISH].rename(columns={"validation": "english"})
    shared = [*(name for name in CELL if name != "language"), "checkpoint"]
    wide = wide.merge(dev[[*shared, "english"]], on=shared, how="left")
    lines = [(*cell, _selected(group)) for cell, group in wide.groupby(CELL, sort=True)]
    return pd.DataFrame(lines, columns=[*CELL, "gap"])


def _selected(group: pd.DataFrame) -> float:
    """Return the selection gap of one run and language."""
    group = group.dropna(subset=["validation", "test", "english"]).sort_values("checkpoint")
    if group.empty:
        return math.nan
    own, chosen = (group.loc[group[name].idxmax(), "test"] for name in ("validation", "english"))
    return float(own - chosen)


def noise_ratio(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of each score on noisy test rows to the score on clean rows.

    A score near chance stays near chance with noise, so a ratio near 1 means nothing there.

    Args:
        scores: The table of scores.

    Returns:
        The columns of `CELL`, `level` (percent of characters), and `ratio` (NaN if the clean score is missing
        or 0).

    Source: Cooper Stickland et al. (2022), "Robustification of Multilingual Language Models to Real-world
    Noise", https://arxiv.org/abs/2210.04782.
    """
    noisy = _perturbed(scores, "noise")
    ratio = noisy["score"] / noisy["clean"].where(noisy["clean"] != 0)
    return noisy.assign(ratio=ratio)[[*CELL, "level", "ratio"]]


def worst_mix(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the worst score over the code-mixed versions of the test rows, for each level.

    Args:
        scores: The table of scores.

    Returns:
        The columns of `CELL`, `level` (percent of spans), `clean`, `worst`, `num_mixes`, and `is_complete`
        (False if another cell of the target and level has more mixes: the worst of fewer mixes is milder).

    Source: Tan and Joty (2021), "Code-Mixing on Sesame Street", https://aclanthology.org/2021.naacl-main.282.
    Their adversary takes the worst of many mixes of an example; here it is the worst of whole mixed sets.
    """
    mixed = _perturbed(scores, "mix").groupby([*CELL, "level", "split"], sort=True)
    found = mixed.agg(
        clean=("clean", "first"), worst=("score", "min"), num_mixes=("score", "size")
    ).reset_index()
    most = found.groupby(["target", "level"])["num_mixes"].transform("max")
    return found.assign(is_complete=found["num_mixes"] == most).drop(columns="split")


def _perturbed(scores: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the lines of a kind of perturbation, with their `level` and the `clean` score."""
    names = scores["perturbation"].fillna("").astype(str).str.split("-")
    return with_clean(scores.assign(level=names.str[1]), names.str[0] == kind).astype({"level": int})


def with_clean(scores: pd.DataFrame, is_wanted: pd.Series) -> pd.DataFrame:
    """Return the wanted lines, with the score on unperturbed rows in the column `clean`.

    Args:
        scores: The table of scores.
        is_wanted: True for each wanted line.

    Raises:
        ValueError: A score appears twice.
    """
    require_single(scores, [*KEY, "split"])
    key = [*CELL, "split"]
    unperturbed = clean(scores)[[*key, "score"]].rename(columns={"score": "clean"})
    return scores[is_wanted].merge(unperturbed, on=key, how="left", validate="many_to_one")

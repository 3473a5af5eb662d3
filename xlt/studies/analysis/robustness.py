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

from xlt.data.languages import script_of
from xlt.data.multilingual import ENGLISH
from xlt.studies.analysis.results import KEY
from xlt.studies.design.nodes import NONE

PAIR = ["seed", "target_seed", "target", "language", "perturbation", "split"]
"""Columns in which a score agrees with the score of the arm without intermediate training."""

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
        `hurt`: languages whose mean effect over seeds is below 0. `hurt_by_every_seed`: languages whose
        effect is below 0 for each seed. `languages`: languages that are counted. `incomplete`: languages that
        another arm has and that lack a seed here; they are not counted. `seeds`. `share`: hurt / languages,
        NaN without languages. If intermediate training has no effect, chance alone hurts half of the
        languages, and one in eight for each of three seeds.

    Source: Standley et al. (2020), https://arxiv.org/abs/1905.07553, on negative transfer; Wang et al.
    (2020), https://aclanthology.org/2020.emnlp-main.359, by language.
    """
    unperturbed = clean(effects)
    num_languages = unperturbed.groupby("target")["language"].nunique()
    lines = [
        (*arm, *_hurt(group, int(num_languages[arm[2]])))
        for arm, group in unperturbed.groupby(ARM, sort=True)
    ]
    names = ["hurt", "hurt_by_every_seed", "languages", "incomplete", "seeds", "share"]
    return pd.DataFrame(lines, columns=[*ARM, *names])


def _hurt(group: pd.DataFrame, num_languages: int) -> tuple[int, int, int, int, int, float]:
    """Return the figures of `share_hurt` for one arm and target."""
    table = group.pivot(index=["seed", "target_seed"], columns="language", values="effect")
    block = complete_block(table)
    hurt, found = int((block.mean() < 0).sum()), block.shape[1]
    every = int((block < 0).all().sum()) if len(block) else 0
    return hurt, every, found, num_languages - found, len(block), hurt / found if found else math.nan


def selection_gap(scores: pd.DataFrame, english: str = ENGLISH) -> pd.DataFrame:
    """Return the points lost by choosing a checkpoint on English dev rows instead of the language's own.

    Args:
        scores: Table of scores with a column `checkpoint` (step) and lines of both splits.
        english: Language that a zero-shot setting may select by. Defaults to "en".

    Returns:
        The columns of `KEY` without the perturbation; `own` and `chosen`: the best step by the language's own
        and by the English development rows (the earliest of equals); `gap`: test score of `own` minus test
        score of `chosen`, in points; `checkpoints`: number of checkpoints that have all three scores. `gap`
        is NaN if no checkpoint has them.

    Source: Keung et al. (2020), "Don't Use English Dev", https://aclanthology.org/2020.emnlp-main.40.
    """
    key = [name for name in KEY if name != "perturbation"]
    unperturbed = clean(scores)
    require_single(unperturbed, [*key, "checkpoint", "split"])
    wide = unperturbed.pivot(index=[*key, "checkpoint"], columns="split", values="score")
    wide = wide.reindex(columns=["validation", "test"]).reset_index()
    dev = wide.loc[wide["language"] == english].rename(columns={"validation": "english"})
    shared = [*(name for name in key if name != "language"), "checkpoint"]
    wide = wide.merge(dev[[*shared, "english"]], on=shared, how="left")
    lines = [(*cell, *_selected(group)) for cell, group in wide.groupby(key, sort=True)]
    return pd.DataFrame(lines, columns=[*key, "own", "chosen", "gap", "checkpoints"])


def _selected(group: pd.DataFrame) -> tuple[float, float, float, int]:
    """Return the figures of `selection_gap` for one run and language."""
    group = group.dropna(subset=["validation", "test", "english"]).sort_values("checkpoint")
    if group.empty:
        return math.nan, math.nan, math.nan, 0
    own, chosen = (group.loc[group[name].idxmax()] for name in ("validation", "english"))
    gap = float(own["test"] - chosen["test"])
    return float(own["checkpoint"]), float(chosen["checkpoint"]), gap, len(group)


def noise_ratio(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of each score on noisy test rows to the score on clean rows.

    A score near chance stays near chance with noise, so a ratio near 1 means nothing there.

    Args:
        scores: The table of scores.

    Returns:
        The columns of `KEY` without the perturbation, `level` (percent of characters), `script`, `clean`,
        `noisy`, and `ratio` (noisy / clean; NaN if the clean score is missing or 0).

    Source: Cooper Stickland et al. (2022), "Robustification of Multilingual Language Models to Real-world
    Noise", https://arxiv.org/abs/2210.04782.
    """
    noisy = _perturbed(scores, "noise").rename(columns={"score": "noisy"})
    script = noisy["language"].map(script_of)
    ratio = noisy["noisy"] / noisy["clean"].where(noisy["clean"] != 0)
    names = [*KEY[:-1], "level", "script", "clean", "noisy", "ratio"]
    return noisy.assign(script=script, ratio=ratio)[names].reset_index(drop=True)


def worst_mix(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean and the worst score over the code-mixed versions of the test rows, for each level.

    Args:
        scores: The table of scores.

    Returns:
        The columns of `KEY` without the perturbation, `level` (percent of spans), `clean`, `mean`, `worst`,
        `num_mixes`, and `is_complete` (False if another cell of the target and level has more mixes: the
        worst of fewer mixes is milder).

    Source: Tan and Joty (2021), "Code-Mixing on Sesame Street", https://aclanthology.org/2021.naacl-main.282.
    Their adversary takes the worst of many mixes of an example; here it is the worst of whole mixed sets.
    """
    keys = [*KEY[:-1], "level"]
    mixed = _perturbed(scores, "mix").groupby([*keys, "split"], sort=True)
    found = mixed.agg(
        clean=("clean", "first"), mean=("score", "mean"), worst=("score", "min"), num_mixes=("score", "size")
    ).reset_index()
    most = found.groupby(["target", "level"])["num_mixes"].transform("max")
    return found.assign(is_complete=found["num_mixes"] == most).drop(columns="split")


def _perturbed(scores: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the lines of a kind of perturbation, with their `level` and the `clean` score."""
    require_single(scores, [*KEY, "split"])
    key = [*KEY[:-1], "split"]
    unperturbed = clean(scores)[[*key, "score"]].rename(columns={"score": "clean"})
    names = scores["perturbation"].fillna("").astype(str).str.split("-")
    perturbed = scores[names.str[0] == kind].assign(level=names.str[1])
    return perturbed.astype({"level": int}).merge(unperturbed, on=key, how="left", validate="many_to_one")

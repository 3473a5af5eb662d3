"""Robustness beside the mean: seeds, worst languages, paired effects, selection, noise, code-mixing.

A table of scores has a line a score: intermediate, volume, seed, target_seed, target, language, perturbation,
score, split. A line may be absent; nothing is averaged over what another arm has and this one lacks, unless
it is counted.
"""

# pandas says what it returns too widely.
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlt.data.languages import script_of
from xlt.studies.design.targets import NONE

ENGLISH = "en"
"""The language that is trained on."""

KEY = ["intermediate", "volume", "seed", "target_seed", "target", "language", "perturbation"]
"""What tells one score of a split from another."""

PAIR = ["seed", "target_seed", "target", "language", "perturbation", "split"]
"""What a score shares with that of the arm without an intermediate task."""

ARM = ["intermediate", "volume", "target"]


class Spread(NamedTuple):
    """How values lie over seeds, in points."""

    mean: float
    sd: float | None
    """With n − 1; None where there is one value."""
    low: float
    """The lowest."""
    high: float
    """The highest."""
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation and range of the scores of several seeds.

    Raises:
        ValueError: There is no value.

    Source: Dodge et al. (2020), https://arxiv.org/abs/2002.06305: scores of fine-tuning vary by seed.
    """
    if not len(values):
        raise ValueError("no score to take the spread of: give those of one seed at least")
    array = np.asarray(values, float)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Spread(float(array.mean()), sd, float(array.min()), float(array.max()), len(array))


def transfer_gap(by_language: Mapping[str, float]) -> float | None:
    """English less the mean of the other languages, in points; None where either is missing.

    Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, section 4 (cross-lingual transfer gap).
    """
    others = [score for language, score in by_language.items() if language != ENGLISH]
    if ENGLISH not in by_language or not others:
        return None
    return by_language[ENGLISH] - float(np.mean(others))


def worst_quarter(by_language: Mapping[str, float]) -> float:
    """Mean of the lowest quarter of the languages' scores, at least of one.

    Raises:
        ValueError: There is no language.

    Source: a conditional value at risk at 1/4 over languages: Rockafellar and Uryasev (2000), Journal of Risk
    2(3).
    """
    _require_languages(by_language)
    lowest = sorted(by_language.values())[: math.ceil(len(by_language) / 4)]
    return float(np.mean(lowest))


def _require_languages(by_language: Mapping[str, float]) -> None:
    """Refuse no language."""
    if not by_language:
        raise ValueError("no language to find the worst of: give the score of one at least")


def require_single(scores: pd.DataFrame, key: Sequence[str]) -> None:
    """Refuse a table with two scores for one thing.

    Raises:
        ValueError: Two lines have the same key.
    """
    twice = scores.duplicated(list(key))
    if twice.any():
        line = ", ".join(f"{name} {scores.loc[twice, name].iloc[0]!r}" for name in key)
        raise ValueError(f"two scores for {line}: leave one of the lines out")


def clean(scores: pd.DataFrame) -> pd.DataFrame:
    """The lines of test rows as they are; a table read from a file may have NaN for an empty text."""
    return scores[scores["perturbation"].fillna("") == ""]


def effects(scores: pd.DataFrame) -> pd.DataFrame:
    """What an intermediate task adds to each score, paired by seed; `unpaired` has the lines left out.

    Returns:
        The key's columns, `split`, and `effect`: the score less that of "none" with the same seeds, target,
        language, perturbation and split.

    Raises:
        ValueError: A score stands twice.

    Source: Phang et al. (2020), https://arxiv.org/abs/2005.13013, section 4 (gains over plain XLM-R), here by
    seed:
    Dror et al. (2018), https://aclanthology.org/P18-1128, on paired comparison.
    """
    both = _with_plain(scores)
    both = both[both["plain"].notna()]
    return both.assign(effect=both["score"] - both["plain"])[[*KEY, "split", "effect"]].reset_index(drop=True)


def unpaired(scores: pd.DataFrame) -> pd.DataFrame:
    """The lines with an intermediate task for which "none" has no line: they have no effect."""
    both = _with_plain(scores)
    return both.loc[both["plain"].isna(), [*KEY, "split"]].reset_index(drop=True)


def _with_plain(scores: pd.DataFrame) -> pd.DataFrame:
    """The lines with an intermediate task, with the score of "none" as `plain`."""
    require_single(scores, [*KEY, "split"])
    is_plain = scores["intermediate"] == NONE
    plain = scores.loc[is_plain, [*PAIR, "score"]].rename(columns={"score": "plain"})
    return scores[~is_plain].merge(plain, on=PAIR, how="left", validate="many_to_one")


def complete_block(table: pd.DataFrame) -> pd.DataFrame:
    """The rows and columns of a table between which nothing is missing.

    A row that has fewer than half of the columns goes first (an unfinished run does not cost all others their
    languages), then every column that a remaining row lacks.
    """
    rows = table[table.notna().sum(axis=1) * 2 >= table.shape[1]]
    return rows.loc[:, rows.notna().all()] if len(rows) else rows.iloc[:, :0]


def share_hurt(effects: pd.DataFrame) -> pd.DataFrame:
    """How many languages an intermediate task hurts, by intermediate, volume and target; rows as they are.

    Returns:
        `hurt`: languages whose effect, a mean over seeds, is below 0. `hurt_by_every_seed`: those where it is
        below 0 in each. `languages`: of how many. `incomplete`: languages that another arm has and that lack
        a seed here; they are not counted. `seeds`. `share`: hurt / languages, NaN where there is none. Where
        a task does nothing, half of the languages are hurt by chance, and one in eight by each of three
        seeds.

    Source: Standley et al. (2020), https://arxiv.org/abs/1905.07553, on negative transfer; Wang et al.
    (2020),
    https://aclanthology.org/2020.emnlp-main.359, by language.
    """
    kept = clean(effects)
    wanted = kept.groupby("target")["language"].nunique()
    lines = [(*arm, *_hurt(group, int(wanted[arm[2]]))) for arm, group in kept.groupby(ARM, sort=True)]
    names = ["hurt", "hurt_by_every_seed", "languages", "incomplete", "seeds", "share"]
    return pd.DataFrame(lines, columns=[*ARM, *names])


def _hurt(group: pd.DataFrame, wanted: int) -> tuple[int, int, int, int, int, float]:
    """The figures of `share_hurt` for one arm and target."""
    table = group.pivot(index=["seed", "target_seed"], columns="language", values="effect")
    block = complete_block(table)
    hurt, found = int((block.mean() < 0).sum()), block.shape[1]
    every = int((block < 0).all().sum()) if len(block) else 0
    return hurt, every, found, wanted - found, len(block), hurt / found if found else math.nan


def selection_gap(scores: pd.DataFrame, english: str = ENGLISH) -> pd.DataFrame:
    """Points lost by choosing a checkpoint on English development rows instead of the language's own.

    Args:
        scores: Has a column `checkpoint` (step) and lines of both splits.
        english: The language that a zero-shot setting may select by.

    Returns:
        The key's columns (rows as they are), `own` and `chosen` (the step best by the language's own and by
        English development rows; the earliest of equals), `gap` (test score of `own` less that of `chosen`,
        in points), `checkpoints` (how many have all three scores); `gap` is NaN where none has.

    Source: Keung et al. (2020), "Don't Use English Dev", https://aclanthology.org/2020.emnlp-main.40.
    """
    key = [name for name in KEY if name != "perturbation"]
    kept = clean(scores)
    require_single(kept, [*key, "checkpoint", "split"])
    wide = kept.pivot(index=[*key, "checkpoint"], columns="split", values="score")
    wide = wide.reindex(columns=["validation", "test"]).reset_index()
    dev = wide.loc[wide["language"] == english].rename(columns={"validation": "english"})
    shared = [*(name for name in key if name != "language"), "checkpoint"]
    wide = wide.merge(dev[[*shared, "english"]], on=shared, how="left")
    lines = [(*cell, *_selected(group)) for cell, group in wide.groupby(key, sort=True)]
    return pd.DataFrame(lines, columns=[*key, "own", "chosen", "gap", "checkpoints"])


def _selected(group: pd.DataFrame) -> tuple[float, float, float, int]:
    """The figures of `selection_gap` for one run and language."""
    group = group.dropna(subset=["validation", "test", "english"]).sort_values("checkpoint")
    if group.empty:
        return math.nan, math.nan, math.nan, 0
    own, chosen = (group.loc[group[name].idxmax()] for name in ("validation", "english"))
    gap = float(own["test"] - chosen["test"])
    return float(own["checkpoint"]), float(chosen["checkpoint"]), gap, len(group)


def noise_ratio(scores: pd.DataFrame) -> pd.DataFrame:
    """The share of a score that is left on noisy test rows.

    Returns:
        The key's columns, `level` (percent of characters), `script`, `clean`, `noisy`, and `ratio` (noisy /
        clean): NaN where the clean score is missing or 0. A score near chance stays where it is, so a ratio
        near 1 says nothing there.

    Source: Cooper Stickland et al. (2022), "Robustification of Multilingual Language Models to Real-world
    Noise",
    https://arxiv.org/abs/2210.04782.
    """
    noisy = _perturbed(scores, "noise").rename(columns={"score": "noisy"})
    script = noisy["language"].map(script_of)
    ratio = noisy["noisy"] / noisy["clean"].where(noisy["clean"] != 0)
    names = [*KEY[:-1], "level", "script", "clean", "noisy", "ratio"]
    return noisy.assign(script=script, ratio=ratio)[names].reset_index(drop=True)


def worst_mix(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores on code-mixed test rows: the mean and the worst over the mixes of a level.

    Returns:
        The key's columns, `level` (percent of spans), `clean`, `mean`, `worst`, `num_mixes` (how many),
        `is_complete` (no other cell of the target and level has more: a worst of fewer is milder).

    Source: Tan and Joty (2021), "Code-Mixing on Sesame Street", https://aclanthology.org/2021.naacl-main.282:
    the adversary there takes the worst of many mixes of an example; here it is the worst of whole mixed sets.
    """
    keys = [*KEY[:-1], "level"]
    mixed = _perturbed(scores, "mix").groupby([*keys, "split"], sort=True)
    found = mixed.agg(
        clean=("clean", "first"), mean=("score", "mean"), worst=("score", "min"), num_mixes=("score", "size")
    ).reset_index()
    most = found.groupby(["target", "level"])["num_mixes"].transform("max")
    return found.assign(is_complete=found["num_mixes"] == most).drop(columns="split")


def _perturbed(scores: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The lines of a kind of perturbation, with its `level` and the `clean` score."""
    require_single(scores, [*KEY, "split"])
    key = [*KEY[:-1], "split"]
    plain = clean(scores)[[*key, "score"]].rename(columns={"score": "clean"})
    names = scores["perturbation"].fillna("").astype(str).str.split("-")
    kept = scores[names.str[0] == kind].assign(level=names.str[1])
    return kept.astype({"level": int}).merge(plain, on=key, how="left", validate="many_to_one")

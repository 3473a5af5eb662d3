"""The effect of every intermediate task and volume on every target, with intervals over seeds and test rows.

D draws, N lines of the table, S seeds.
"""

# pandas says what it returns too widely.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlt.studies.analysis.example_scores import (
    check_example_scores,
    counts_by_language,
    drawn_scores,
    score_of,
)
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, complete_block, require_single
from xlt.studies.analysis.statistics import from_draws
from xlt.studies.design.targets import NONE

PARALLEL = frozenset({"xnli", "xquad"})
"""Targets whose test rows are the same in every language, in the same order; PAWS-X lacks some in each."""

Read = Callable[[str], np.ndarray]
"""A path of the table's column `example_scores` to the example scores, shape (R,) or (R, 3)."""


class Settings(NamedTuple):
    """How intervals are drawn."""

    draws: int = 1000
    seed: int = 0
    level: float = 0.95


class Drawn(NamedTuple):
    """Scores of a target's lines on their rows and on drawn ones."""

    plain: np.ndarray
    """Shape (N,)."""
    drawn: np.ndarray
    """Shape (D, N)."""
    is_aligned: bool
    """Whether rows were drawn together in all languages."""


DEFAULTS = Settings()


def bootstrap_effects(scores: pd.DataFrame, read: Read, settings: Settings = DEFAULTS) -> pd.DataFrame:
    """Every intermediate task and volume against none, by target, averaged over languages; rows as they are.

    Args:
        scores: The table; lines without example scores are left out.
        read: Reads a line's example scores.
        settings: Draws, their seed, and the level of the intervals.

    Returns:
        The arm's columns, `estimate`, `low`, `high` in points, `seeds`, `languages` (those that all these
        seeds have), `wanted` (languages that the target has in any line), `aligned` (whether rows were drawn
        together in all languages: a parallel test set with as many rows in each).

    Source: see `xlt.studies.analysis.statistics.from_draws`.
    """
    kept = clean(scores)
    kept = kept[kept["example_scores"].fillna("") != ""]
    require_single(kept, KEY)
    lines = [
        line
        for target, group in kept.groupby("target", sort=True)
        for line in _of_target(str(target), group.reset_index(drop=True), read, settings)
    ]
    names = ["estimate", "low", "high", "seeds", "languages", "wanted", "aligned"]
    return pd.DataFrame(lines, columns=["intermediate", "volume", "target", *names])


def _of_target(target: str, lines: pd.DataFrame, read: Read, settings: Settings) -> list[tuple[object, ...]]:
    """The lines of one target."""
    scored, wanted = _drawn(target, lines, read, settings), lines["language"].nunique()
    control = _places(lines[lines["intermediate"] == NONE])
    found = []
    for (arm, volume), mine in lines[lines["intermediate"] != NONE].groupby(
        ["intermediate", "volume"], sort=True
    ):
        treated = _places(mine)
        other = control.reindex(index=treated.index, columns=treated.columns)
        block = complete_block(treated.where(other.notna()))
        if block.empty:
            continue
        pairs = block.to_numpy(int), other.loc[block.index, block.columns].to_numpy(int)
        replicates = block.index.get_level_values("seed").to_numpy()
        plain = _by_seed((scored.plain[pairs[0]] - scored.plain[pairs[1]]).mean(-1), replicates)
        drawn = _by_seed((scored.drawn[:, pairs[0]] - scored.drawn[:, pairs[1]]).mean(-1), replicates)
        interval = from_draws(plain, drawn, (settings.seed,)).interval(settings.level)
        found.append((arm, volume, target, *interval, len(plain), block.shape[1], wanted, scored.is_aligned))
    return found


def _places(lines: pd.DataFrame) -> pd.DataFrame:
    """Numbers of the lines, by seeds and language."""
    return lines.assign(place=lines.index).pivot(
        index=["seed", "target_seed"], columns="language", values="place"
    )


def _by_seed(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Means over the target seeds of each seed: (..., replicates) to (..., S)."""
    return np.stack([values[..., seeds == seed].mean(-1) for seed in np.unique(seeds)], -1)


def _drawn(target: str, lines: pd.DataFrame, read: Read, settings: Settings) -> Drawn:
    """Scores of the lines, whose rows are drawn as the target's test sets are made.

    Raises:
        ValueError: The example scores of one language are not as many in all runs.
    """
    by_language = {
        str(language): (group.index.to_numpy(), _stacked(group, read))
        for language, group in lines.groupby("language", sort=True)
    }
    rows = {language: example_scores.shape[1] for language, (_, example_scores) in by_language.items()}
    is_aligned = target in PARALLEL and len(set(rows.values())) == 1
    counts = counts_by_language(rows, settings.draws, settings.seed, is_aligned)
    plain, drawn = np.zeros(len(lines)), np.zeros((settings.draws, len(lines)), np.float32)
    for language, (places, example_scores) in by_language.items():
        plain[places], drawn[:, places] = (
            score_of(example_scores),
            drawn_scores(example_scores, counts[language]),
        )
    return Drawn(plain, drawn, is_aligned)


def _stacked(lines: pd.DataFrame, read: Read) -> np.ndarray:
    """The example scores of a language in all runs, shape (N, R) or (N, R, 3).

    Raises:
        ValueError: Two runs were tested on different numbers of rows, or an item is not finite.
    """
    example_scores = [read(path) for path in lines["example_scores"]]
    for path, found in zip(lines["example_scores"], example_scores, strict=True):
        if found.shape != example_scores[0].shape:
            raise ValueError(
                f"{path}: example_scores of shape {found.shape}, where "
                f"{lines['example_scores'].iloc[0]} has {example_scores[0].shape}: "
                "evaluate both with the same volume and seed"
            )
        check_example_scores(found, path)
    return np.stack(example_scores)

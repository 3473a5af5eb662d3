"""Effects of intermediate training by target, with bootstrap intervals over seeds and test rows.

D draws, N lines of the table, S seeds, R test rows.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlt.studies.analysis.example_scores import (
    GOLD,
    check_example_scores,
    counts_by_language,
    drawn_scores,
    score_of,
)
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, complete_block, require_single
from xlt.studies.analysis.statistics import from_draws
from xlt.studies.design.nodes import NONE

PARALLEL = frozenset({"xnli", "xquad", "xvnli", "xgqa"})
"""Targets with the same test rows in every language, in the same order; PAWS-X lacks some rows in each."""

ReadExampleScores = Callable[[str], np.ndarray]
"""Reads example scores, shape (R,) or (R, 3), from a path of the table's column `example_scores`."""

SEED = 0
"""Seed of the draws."""


class LineScores(NamedTuple):
    """Scores of a target's lines on their test rows and on resampled ones."""

    plain: np.ndarray
    """Shape (N,)."""
    drawn: np.ndarray
    """Shape (D, N)."""
    is_aligned: bool
    """True if a draw has the same rows in all languages."""


def bootstrap_effects(scores: pd.DataFrame, read: ReadExampleScores, draws: int = 1000) -> pd.DataFrame:
    """Return the effect of every intermediate task and volume by target, averaged over languages.

    The intervals are about the study's languages, and not about other languages.

    Args:
        scores: The table of scores. Perturbed rows and lines without example scores are left out.
        read: Reads a line's example scores.
        draws: Number of draws. Defaults to 1000.

    Returns:
        The arm's columns; `estimate`, `low`, `high` in points; `seeds`; `languages` (languages that all these
        seeds have); `wanted` (languages that the target has in any line); `aligned` (True if rows were drawn
        together in all languages, for a parallel test set with as many rows in each).

    Raises:
        ValueError: A score appears twice, an example score is not finite, or two runs were tested on
            different examples of a language.

    Source: see `xlt.studies.analysis.statistics.from_draws`; pairing by example: Dror et al. (2018),
    https://aclanthology.org/P18-1128.
    """
    scored_lines = clean(scores)
    scored_lines = scored_lines[scored_lines["example_scores"].fillna("") != ""]
    require_single(scored_lines, KEY)
    lines = [
        line
        for target, group in scored_lines.groupby("target", sort=True)
        for line in _target_effects(str(target), group.reset_index(drop=True), read, draws)
    ]
    names = ["estimate", "low", "high", "seeds", "languages", "wanted", "aligned"]
    return pd.DataFrame(lines, columns=["intermediate", "volume", "target", *names])


def _target_effects(
    target: str, lines: pd.DataFrame, read: ReadExampleScores, draws: int
) -> list[tuple[object, ...]]:
    """Return the lines of one target."""
    scores = _score_lines(target, lines, read, draws)
    num_languages = lines["language"].nunique()
    control = _line_numbers(lines[lines["intermediate"] == NONE])
    found = []
    for (arm, volume), own in lines[lines["intermediate"] != NONE].groupby(
        ["intermediate", "volume"], sort=True
    ):
        treated = _line_numbers(own)
        other = control.reindex(index=treated.index, columns=treated.columns)
        block = complete_block(treated.where(other.notna()))
        if block.empty:
            continue
        pairs = block.to_numpy(int), other.loc[block.index, block.columns].to_numpy(int)
        replicates = block.index.get_level_values("seed").to_numpy()
        plain = _by_seed((scores.plain[pairs[0]] - scores.plain[pairs[1]]).mean(-1), replicates)
        drawn = _by_seed((scores.drawn[:, pairs[0]] - scores.drawn[:, pairs[1]]).mean(-1), replicates)
        interval = from_draws(plain, drawn, (SEED,)).interval()
        found.append(
            (arm, volume, target, *interval, len(plain), block.shape[1], num_languages, scores.is_aligned)
        )
    return found


def _line_numbers(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of the lines, by seeds and language."""
    return lines.assign(number=lines.index).pivot(
        index=["seed", "target_seed"], columns="language", values="number"
    )


def _by_seed(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Average over the target seeds of each seed: shape (..., replicates) to shape (..., S)."""
    return np.stack([values[..., seeds == seed].mean(-1) for seed in np.unique(seeds)], -1)


def _score_lines(target: str, lines: pd.DataFrame, read: ReadExampleScores, draws: int) -> LineScores:
    """Score the lines on their rows and on resampled rows."""
    by_language = {
        str(language): (group.index.to_numpy(), _stack_example_scores(group, read))
        for language, group in lines.groupby("language", sort=True)
    }
    rows = {language: example_scores.shape[1] for language, (_, example_scores) in by_language.items()}
    is_aligned = target in PARALLEL and len(set(rows.values())) == 1
    counts = counts_by_language(rows, draws, SEED, is_aligned)
    plain, drawn = np.zeros(len(lines)), np.zeros((draws, len(lines)), np.float32)
    for language, (numbers, example_scores) in by_language.items():
        plain[numbers] = score_of(example_scores)
        drawn[:, numbers] = drawn_scores(example_scores, counts[language])
    return LineScores(plain, drawn, is_aligned)


def _stack_example_scores(lines: pd.DataFrame, read: ReadExampleScores) -> np.ndarray:
    """Return the example scores of a language in all runs, shape (N, R) or (N, R, 3).

    Effects are paired example by example, so all runs must have been tested on the same examples.

    Raises:
        ValueError: Two runs were tested on different numbers of rows, on different splits or on examples with
            different gold spans, or a score is not finite.
    """
    example_scores = [read(path) for path in lines["example_scores"]]
    first, first_split = lines["example_scores"].iloc[0], lines["split"].iloc[0]
    for path, split, found in zip(lines["example_scores"], lines["split"], example_scores, strict=True):
        check_example_scores(found, path)
        if found.shape != example_scores[0].shape:
            raise ValueError(
                f"{path} has example scores of shape {found.shape}, but {first} has "
                f"{example_scores[0].shape}: evaluate both with the same volume and seed"
            )
        if split != first_split:
            raise ValueError(
                f"{path} has scores of the {split} split, but {first} of the {first_split} split: "
                "evaluate both on the same split"
            )
        if found.ndim == 2 and not np.array_equal(found[:, GOLD], example_scores[0][:, GOLD]):
            raise ValueError(
                f"{path} and {first} have different numbers of gold spans, so their examples differ: "
                "evaluate both on the same data"
            )
    return np.stack(example_scores)

"""Arms of a study held against each other, seed by seed. S seeds, U units (targets, or languages)."""

# pandas says what it returns too widely.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportGeneralTypeIssues=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xlt.studies.analysis.robustness import complete_block
from xlt.studies.analysis.statistics import Estimate
from xlt.studies.design.targets import NONE

RawSplit = tuple[float, float]
"""A variance, and the degrees of freedom that it is estimated from."""


def crossed_bootstrap(
    values: np.ndarray, over_seeds: RawSplit | None = None, draws: int = 1000, seed: int = 0
) -> Estimate:
    """A mean over seeds and units (targets, or languages), each of which is drawn.

    The variance is the sum of that over drawn seeds and that over drawn units, each corrected for few levels.
    What seeds and units do together is counted in both: the interval is wide rather than narrow.

    Args:
        values: Effects, shape (S, U), NaN where a seed lacks a unit. The estimate is the mean over units of
            the mean over the seeds that a unit has. With one unit only seeds are drawn.
        over_seeds: The variance over seeds, where it is known better than from these values.
        draws: How many.
        seed: Of the draws.

    Raises:
        ValueError: A seed or a unit has no value at all.

    Source: Owen (2007), https://arxiv.org/abs/0712.1111; Cameron, Gelbach and Miller (2011), Journal of
    Business
    and Economic Statistics 29(2) (two-way clustering); Hesterberg (2015), https://arxiv.org/abs/1411.5279.
    """
    has = np.isfinite(values)
    if values.size == 0 or not (has.any(0).all() and has.any(1).all()):
        raise ValueError(f"effects of shape {values.shape}: a seed or a target has none: leave it out")
    filled, (seeds, units) = np.where(has, values, 0.0), values.shape
    means = filled.sum(0) / has.sum(0)
    if seeds < 2:
        return Estimate(float(means.mean()), ())
    parts = [over_seeds or (_seed_variance(filled, has, draws, seed), seeds - 1)]
    if units > 1:
        drawn = _multiplicities(units, draws, (seed, 1)) @ means / units
        parts.append((_corrected(drawn, units), units - 1))
    return Estimate(float(means.mean()), tuple(parts))


def _seed_variance(filled: np.ndarray, has: np.ndarray, draws: int, seed: int) -> float:
    """Variance of the mean over drawn seeds; in a draw without a unit's seeds the unit is left out."""
    picked = _multiplicities(len(filled), draws, (seed, 0))
    weight = picked @ has
    means = np.where(weight > 0, picked @ filled / np.where(weight > 0, weight, 1), np.nan)
    drawn = np.nanmean(means[(weight > 0).any(1)], axis=1)
    return _corrected(drawn, len(filled))


def block_error(scores: np.ndarray, plus: int, minus: int) -> RawSplit | None:
    """Variance over seeds of a difference between arms, from all arms, which are taken to vary alike.

    Args:
        scores: Shape (S, arms), the same cells throughout.
        plus: Arms on the one side.
        minus: Arms on the other.

    Returns:
        The residual mean square of arms by seeds, for that difference, with (arms - 1)(S - 1) degrees of
        freedom; with two arms that is the paired t-test's. None with fewer than two arms or seeds.

    Source: the randomised block design of Fisher (1935), The Design of Experiments, chapter 4.
    """
    seeds, arms = scores.shape
    df = (seeds - 1) * (arms - 1)
    if df < 1:
        return None
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return float((rest**2).sum()) / df / seeds * (1 / plus + 1 / minus), df


def _multiplicities(levels: int, draws: int, key: Sequence[int]) -> np.ndarray:
    """How often each draw of the levels with replacement has each, shape (D, levels)."""
    return np.random.default_rng(list(key)).multinomial(levels, np.full(levels, 1 / levels), size=draws)


def _corrected(drawn: np.ndarray, levels: int) -> float:
    """The variance of drawn means, made as large as that of a mean of so few levels is."""
    return float(drawn.var(ddof=1)) * levels / (levels - 1)


@dataclass(frozen=True)
class Contrast:
    """A mean difference between arms.

    Args:
        plus: The arms on the one side, in words.
        minus: Those on the other.
        volume: Examples of intermediate training.
        estimate: Over seeds and what `drawn` says.
        here: Over seeds alone.
        drawn: "seeds", "seeds and targets" or "seeds and languages".
        counts: Seeds, targets and scores that stand behind it, and of how many, in words.
    """

    plus: str
    minus: str
    volume: int
    estimate: Estimate
    here: Estimate
    drawn: str
    counts: str


def compare(
    scores: pd.DataFrame, plus: Sequence[str], minus: Sequence[str], volume: int | None, target: str = ""
) -> Contrast | None:
    """The mean of some arms less that of others at a volume, by seed; None where no seed has both.

    In each target only the languages count that all these arms and seeds have; the mean is over targets of
    means over their languages. A seed that lacks most languages of a target counts in the other targets
    alone.

    Args:
        scores: The table, rows as they are.
        plus: Arms.
        minus: Arms; "none" has no volume.
        volume: Examples.
        target: The target; all where empty.
    """
    if volume is None:
        return None
    wanted = scores[scores["target"] == target] if target else scores
    kept = wanted[(wanted["volume"] == volume) | (wanted["intermediate"] == NONE)]
    tables = {str(name): _wide(group) for name, group in kept.groupby("target", sort=True)}
    blocks = {name: _block(table, plus, minus) for name, table in tables.items()}
    blocks = {name: block for name, block in blocks.items() if not block.empty}
    if not blocks:
        return None
    values, drawn = _values(blocks)
    error = block_error(_alike(tables, blocks), len(plus), len(minus))
    estimate = crossed_bootstrap(values, error)
    return Contrast(
        plus=_named(plus),
        minus=_named(minus),
        volume=volume,
        estimate=estimate,
        here=Estimate(estimate.value, estimate.parts[:1]),
        drawn=drawn,
        counts=_counts(wanted[wanted["intermediate"].isin([*plus, *minus])], blocks, len(values)),
    )


def _named(arms: Sequence[str]) -> str:
    """Arms in words."""
    return arms[0] if len(arms) == 1 else f"the mean of {', '.join(arms)}"


def _counts(lines: pd.DataFrame, blocks: Mapping[str, pd.DataFrame], seeds: int) -> str:
    """What stands behind a difference, and of how much, in words."""
    languages = lines.groupby("target")["language"].nunique()
    possible = int(languages.sum()) * len(lines[["seed", "target_seed"]].drop_duplicates())
    used = sum(block.size for block in blocks.values())
    return f"{seeds} seeds, {len(blocks)} of {len(languages)} targets, {used} of {possible} pairs of scores"


def _wide(lines: pd.DataFrame) -> pd.DataFrame:
    """A target's scores: seeds by (language, arm)."""
    return lines.pivot(index=["seed", "target_seed"], columns=["language", "intermediate"], values="score")


def _block(table: pd.DataFrame, plus: Sequence[str], minus: Sequence[str]) -> pd.DataFrame:
    """A target's differences, seeds by languages, nothing missing between them."""
    if not {*plus, *minus} <= set(table.columns.get_level_values("intermediate")):
        return pd.DataFrame()
    sides = [
        sum((table.xs(arm, axis=1, level="intermediate") for arm in side), start=0.0) / len(side)
        for side in (plus, minus)
    ]
    return complete_block((sides[0] - sides[1]).dropna(how="all"))


def _alike(tables: Mapping[str, pd.DataFrame], blocks: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Mean scores, shape (S, arms), of the seeds and arms that have all cells of the blocks."""
    means = []
    for name, block in blocks.items():
        cells = tables[name].loc[block.index, block.columns]
        by_arm = cells.T.groupby(level="intermediate").mean().T
        complete = block.shape[1] == cells.notna().T.groupby(level="intermediate").sum().T
        means.append(by_arm.where(complete).groupby(level="seed").mean())
    mean = sum(means[1:], start=means[0]) / len(means)
    mean = mean.dropna(axis=0, how="all")
    return mean.dropna(axis=1).to_numpy(float)


def _values(blocks: Mapping[str, pd.DataFrame]) -> tuple[np.ndarray, str]:
    """Differences by seed and unit, and what is drawn: seeds and targets, or seeds and languages."""
    if len(blocks) > 1:
        by_target = {name: block.mean(axis=1).groupby(level="seed").mean() for name, block in blocks.items()}
        return pd.DataFrame(by_target).to_numpy(float), "seeds and targets"
    table = next(iter(blocks.values())).groupby(level="seed").mean()
    return table.to_numpy(float), "seeds and languages" if table.shape[1] > 1 else "seeds"

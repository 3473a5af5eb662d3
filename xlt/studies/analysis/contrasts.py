"""Paired comparisons of a study's arms, seed by seed. S seeds, U units (targets, or languages)."""

# pandas declares its return types too broadly.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportGeneralTypeIssues=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xlt.metrics.collapse import collapse_note
from xlt.studies.analysis.collapsed import collapsed_runs
from xlt.studies.analysis.robustness import complete_block
from xlt.studies.analysis.statistics import Estimate, has_unequal_variances
from xlt.studies.design.nodes import NONE
from xlt.system.tables import counted

VariancePart = tuple[float, float]
"""A variance, and the degrees of freedom that it is estimated from."""


def crossed_bootstrap(
    values: np.ndarray, seed_part: VariancePart | None = None, draws: int = 1000, seed: int = 0
) -> Estimate:
    """Estimate a mean over seeds and units (targets, or languages), both of which are resampled.

    The variance is the sum of the variance over drawn seeds and the variance over drawn units, each corrected
    for few levels. The interaction of seeds and units is counted in both, so the interval is conservative.

    Args:
        values: Effects, shape (S, U), NaN if a seed lacks a unit. The estimate is the mean over units of each
            unit's mean over its seeds. With one unit only seeds are resampled.
        seed_part: The variance over seeds, if a better estimate than that of these values is known.
        draws: Number of draws. Defaults to 1000.
        seed: Seed of the draws. Defaults to 0.

    Raises:
        ValueError: A seed or a unit has no value at all.

    Source: Owen (2007), https://arxiv.org/abs/0712.1111; Cameron, Gelbach and Miller (2011), Journal of
    Business and Economic Statistics 29(2) (two-way clustering); Hesterberg (2015),
    https://arxiv.org/abs/1411.5279.
    """
    has = np.isfinite(values)
    if values.size == 0 or not (has.any(0).all() and has.any(1).all()):
        raise ValueError(f"effects of shape {values.shape}: a seed or a unit has no value; leave it out")
    filled, (seeds, units) = np.where(has, values, 0.0), values.shape
    means = filled.sum(0) / has.sum(0)
    if seeds < 2:
        return Estimate(float(means.mean()), ())
    parts = [seed_part or (_seed_variance(filled, has, draws, seed), seeds - 1)]
    if units > 1:
        drawn = _multiplicities(units, draws, (seed, 1)) @ means / units
        parts.append((_corrected(drawn, units), units - 1))
    return Estimate(float(means.mean()), tuple(parts))


def _seed_variance(filled: np.ndarray, has: np.ndarray, draws: int, seed: int) -> float:
    """Return the variance of the mean over drawn seeds; a draw leaves out units without a drawn seed."""
    picked = _multiplicities(len(filled), draws, (seed, 0))
    weight = picked @ has
    means = np.where(weight > 0, picked @ filled / np.where(weight > 0, weight, 1), np.nan)
    drawn = np.nanmean(means[(weight > 0).any(1)], axis=1)
    return _corrected(drawn, len(filled))


def block_error(scores: np.ndarray, plus: int, minus: int) -> VariancePart | None:
    """Estimate the variance over seeds of a difference between arms from all arms, assuming equal variances.

    Args:
        scores: Shape (S, arms), over the same cells throughout.
        plus: Number of arms on the first side.
        minus: Number of arms on the second side.

    Returns:
        The residual mean square of arms by seeds for that difference, with (arms - 1)(S - 1) degrees of
        freedom. With two arms it equals that of the paired t-test. None with fewer than two arms or seeds.

    Source: the randomised block design of Fisher (1935), The Design of Experiments, chapter 4.
    """
    seeds, arms = scores.shape
    df = (seeds - 1) * (arms - 1)
    if df < 1:
        return None
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return float((rest**2).sum()) / df / seeds * (1 / plus + 1 / minus), df


UNEQUAL_WORDS = ", variance of these arms alone since arms vary unequally"


def has_unequal_arms(scores: np.ndarray) -> bool:
    """Return whether some arms vary more over seeds than others: one destroyed run is enough.

    The differences of all pairs of arms are tested, so a seed's effect on all arms does not matter. The pairs
    share arms, but the test keeps its level: in simulated studies of three equal arms and more, with three
    seeds and more, it is wrong at most about once in twenty (`tests/test_statistics.py`).

    Args:
        scores: Shape (S, arms), over the same cells throughout.

    Source: Bartlett (1937) on differences as in Grubbs (1948), Journal of the American Statistical
    Association 43, 243–264.
    """
    seeds, arms = scores.shape
    if seeds < 2 or arms < 3:
        return False
    pairs = [scores[:, one] - scores[:, other] for one in range(arms) for other in range(one)]
    return has_unequal_variances(pairs)


def _multiplicities(levels: int, draws: int, key: Sequence[int]) -> np.ndarray:
    """Draw the levels with replacement; return the count of each level, shape (D, levels)."""
    return np.random.default_rng(list(key)).multinomial(levels, np.full(levels, 1 / levels), size=draws)


def _corrected(drawn: np.ndarray, levels: int) -> float:
    """Return the variance of drawn means, corrected for few levels."""
    return float(drawn.var(ddof=1)) * levels / (levels - 1)


@dataclass(frozen=True)
class Contrast:
    """A mean difference between arms.

    Args:
        plus: Arms on the first side, in words.
        minus: Arms on the second side, in words.
        volume: Number of examples of intermediate training.
        estimate: Estimate over seeds and the units in `drawn`.
        seeds_only: Estimate over seeds alone.
        drawn: "seeds", "seeds and targets" or "seeds and languages".
        counts: Numbers of seeds, targets and scores, the numbers that exist, and remarks, in words.
    """

    plus: str
    minus: str
    volume: int
    estimate: Estimate
    seeds_only: Estimate
    drawn: str
    counts: str


def compare(
    scores: pd.DataFrame, plus: Sequence[str], minus: Sequence[str], volume: int | None, target: str = ""
) -> Contrast | None:
    """Return the mean of some arms minus the mean of others at a volume, by seed; None if no seed has both.

    A target contributes the languages that all these arms and seeds have. The mean is over targets of means
    over their languages. A seed that lacks most languages of a target only counts in the other targets.

    The variance over seeds is estimated from all arms of that volume if they vary alike, else from the
    compared arms alone: an arm that a seed has destroyed must not hide the effects of the others.

    Args:
        scores: The table of scores, without perturbed rows.
        plus: Names of the arms on the first side.
        minus: Names of the arms on the second side; "none" has no volume.
        volume: Number of examples; None gives None.
        target: Name of the target. Defaults to all targets.
    """
    if volume is None:
        return None
    own = scores[scores["target"] == target] if target else scores
    compared = own[(own["volume"] == volume) | (own["intermediate"] == NONE)]
    tables = {str(name): _pivot(group) for name, group in compared.groupby("target", sort=True)}
    blocks = {name: _block(table, plus, minus) for name, table in tables.items()}
    blocks = {name: block for name, block in blocks.items() if not block.empty}
    if not blocks:
        return None
    values, drawn = _values(blocks)
    means = _complete_means(tables, blocks)
    is_unequal = has_unequal_arms(means)
    estimate = crossed_bootstrap(values, None if is_unequal else block_error(means, len(plus), len(minus)))
    return Contrast(
        plus=_describe_arms(plus),
        minus=_describe_arms(minus),
        volume=volume,
        estimate=estimate,
        seeds_only=Estimate(estimate.value, estimate.parts[:1]),
        drawn=drawn,
        counts=_counts(own[own["intermediate"].isin([*plus, *minus])], blocks, len(values))
        + (UNEQUAL_WORDS if is_unequal else "")
        + _collapsed(compared[compared["intermediate"].isin([*plus, *minus])]),
    )


def _describe_arms(arms: Sequence[str]) -> str:
    """Return arms in words."""
    return arms[0] if len(arms) == 1 else f"the mean of {', '.join(arms)}"


def _counts(lines: pd.DataFrame, blocks: Mapping[str, pd.DataFrame], seeds: int) -> str:
    """Return the numbers behind a difference, and the numbers that exist, in words."""
    languages = lines.groupby("target")["language"].nunique()
    possible = int(languages.sum()) * len(lines[["seed", "target_seed"]].drop_duplicates())
    used = sum(block.size for block in blocks.values())
    targets = f"{len(blocks)} of {counted(len(languages), 'target')}"
    return f"{counted(seeds, 'seed')}, {targets}, {used} of {counted(possible, 'pair')} of scores"


def _collapsed(lines: pd.DataFrame) -> str:
    """Return the number and the names of the collapsed runs as the end of a sentence."""
    runs = collapsed_runs(lines).itertuples()
    note = collapse_note(f"{run.intermediate} seed {run.target_seed} {run.target}" for run in runs)
    return f", {note}" if note else ""


def _pivot(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a target's scores: seeds by (language, arm)."""
    return lines.pivot(index=["seed", "target_seed"], columns=["language", "intermediate"], values="score")


def _block(table: pd.DataFrame, plus: Sequence[str], minus: Sequence[str]) -> pd.DataFrame:
    """Return a target's differences, seeds by languages, without missing values."""
    if not {*plus, *minus} <= set(table.columns.get_level_values("intermediate")):
        return pd.DataFrame()
    sides = [
        sum((table.xs(arm, axis=1, level="intermediate") for arm in side), start=0.0) / len(side)
        for side in (plus, minus)
    ]
    return complete_block((sides[0] - sides[1]).dropna(how="all"))


def _complete_means(tables: Mapping[str, pd.DataFrame], blocks: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Return mean scores, shape (S, arms), of the seeds and arms that have all cells of the blocks."""
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
    """Return differences by seed and unit, and the resampled dimensions in words."""
    if len(blocks) > 1:
        by_target = {name: block.mean(axis=1).groupby(level="seed").mean() for name, block in blocks.items()}
        return pd.DataFrame(by_target).to_numpy(float), "seeds and targets"
    table = next(iter(blocks.values())).groupby(level="seed").mean()
    return table.to_numpy(float), "seeds and languages" if table.shape[1] > 1 else "seeds"

"""Arms of a study held against each other, seed by seed, in the cells that both have. S seeds, U targets or languages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xlt.studies.robustness import NONE, complete_block
from xlt.studies.statistics import Estimate, crossed_bootstrap


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
        counts: Seeds, targets and languages that stand behind it, and of how many, in words.
    """

    plus: str
    minus: str
    volume: int
    estimate: Estimate
    here: Estimate
    drawn: str
    counts: str


def largest_common_volume(scores: pd.DataFrame, arms: Sequence[str]) -> int | None:
    """The largest volume that all intermediate tasks have; where they share none, that these arms share; else None."""
    by_arm = {
        str(arm): set(group["volume"]) for arm, group in scores.groupby("intermediate", sort=True) if arm != NONE
    }
    for names in (list(by_arm), [arm for arm in arms if arm != NONE]):
        shared = set.intersection(*(by_arm[name] for name in names)) if names else set()
        if shared:
            return int(max(shared))
    return None


def compare(
    scores: pd.DataFrame, plus: Sequence[str], minus: Sequence[str], volume: int | None, target: str = ""
) -> Contrast | None:
    """The mean of some arms less that of others at a volume, by seed; None where no seed has both.

    In each target only the languages count that all arms and seeds have; the mean is over targets of means over
    their languages. A seed that lacks most languages of a target counts in the other targets alone.

    Args:
        scores: The table, rows as they are.
        plus: Arms.
        minus: Arms; "none" has no volume.
        volume: Examples.
        target: The target; all where empty.
    """
    if volume is None:
        return None
    kept = scores[(scores["volume"] == volume) | (scores["intermediate"] == NONE)]
    kept = kept[kept["target"] == target] if target else kept
    wanted = scores[scores["target"] == target] if target else scores
    blocks = _blocks(kept, plus, minus)
    if not blocks:
        return None
    values, drawn = _values(blocks)
    used = sum(block.size for block in blocks.values())
    languages = wanted.groupby("target")["language"].nunique()
    seeds = wanted.loc[wanted["intermediate"].isin([*plus, *minus]), ["seed", "target_seed"]].drop_duplicates()
    possible = int(languages.sum()) * len(seeds)
    counts = f"{len(values)} seeds, {len(blocks)} of {len(languages)} targets, {used} of {possible} scores a side"
    return Contrast(
        _named(plus), _named(minus), volume, crossed_bootstrap(values),
        crossed_bootstrap(np.nanmean(values, axis=1, keepdims=True)), drawn, counts,
    )  # fmt: skip


def _named(arms: Sequence[str]) -> str:
    """Arms in words."""
    return arms[0] if len(arms) == 1 else f"the mean of {', '.join(arms)}"


def _blocks(scores: pd.DataFrame, plus: Sequence[str], minus: Sequence[str]) -> dict[str, pd.DataFrame]:
    """By target the differences, seeds by languages, nothing missing between them."""
    found = {}
    for target, group in scores.groupby("target", sort=True):
        wide = group.pivot(
            index=["seed", "target_seed"], columns=["intermediate", "language"], values="score"
        )
        arms = set(wide.columns.get_level_values(0))
        if not {*plus, *minus} <= arms:
            continue
        sides = [sum((wide[arm].reindex(columns=_codes(group)) for arm in side), start=0.0) / len(side) for side in (plus, minus)]
        block = complete_block((sides[0] - sides[1]).dropna(how="all"))
        if not block.empty:
            found[str(target)] = block
    return found


def _codes(lines: pd.DataFrame) -> list[str]:
    """The languages of some lines, in order."""
    return sorted(set(lines["language"]))


def _values(blocks: dict[str, pd.DataFrame]) -> tuple[np.ndarray, str]:
    """Differences by seed and unit, shape (S, U), and what is drawn: targets, or the languages of the one there is."""
    if len(blocks) > 1:
        by_target = {name: block.mean(axis=1).groupby(level="seed").mean() for name, block in blocks.items()}
        return pd.DataFrame(by_target).to_numpy(float), "seeds and targets"
    table = next(iter(blocks.values())).groupby(level="seed").mean()
    return table.to_numpy(float), "seeds and languages" if table.shape[1] > 1 else "seeds"

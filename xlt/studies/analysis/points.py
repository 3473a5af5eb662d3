"""The points of a study's curves: means over languages, targets and seeds with their intervals.

Means are only compared where they are of the same: a mean is taken over the languages (or targets) that all
replicates have. Of languages, `robustness.complete_block` says which; of targets, `complete_part`.
"""

# pandas says what it returns too widely.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from xlt.studies.analysis.interval import student_interval
from xlt.studies.analysis.robustness import complete_block
from xlt.studies.design.targets import NONE

REPLICATE = ["intermediate", "volume", "seed", "target_seed"]
"""Columns that tell a fine-tuned model from others of the same target."""

Reduce = Callable[[Mapping[str, float]], float | None]
"""What makes one figure of those by language."""


def complete_part(wide: pd.DataFrame) -> pd.DataFrame:
    """The table without the rows and columns that lack a value: time and again the one that lacks the most.

    Of a row and a column, the one with the larger share missing goes, so that the most stays: one failed run
    costs its replicate its place among the means over targets, and not all others the target.
    """
    while len(wide) and wide.isna().to_numpy().any():
        by_row, by_column = wide.isna().mean(axis=1), wide.isna().mean(axis=0)
        if by_row.max() >= by_column.max():
            wide = wide.drop(index=[by_row.idxmax()])
        else:
            wide = wide.drop(columns=[by_column.idxmax()])
    return wide


def mean_of(values: Mapping[str, float]) -> float:
    """The plain mean."""
    return float(np.mean(list(values.values())))


def over(
    frame: pd.DataFrame,
    across: str,
    groups: Sequence[str] = (),
    value: str = "score",
    reduce: Reduce = mean_of,
) -> pd.DataFrame:
    """One figure a replicate, of those languages or targets that all of its group's replicates have.

    Args:
        frame: A line a value.
        across: The column of what is averaged: `language` or `target`.
        groups: Columns of what is never compared with each other, such as `target`.
        value: The column of values.
        reduce: What is taken of them.

    Returns:
        `groups`, the replicate's columns, the value, over how many it is (`common`) and of how many (`of`).
    """
    own = [column for column in REPLICATE if column in frame]
    columns = [*groups, *own, value, "common", "of"]
    lines = []
    for key, part in frame.groupby(list(groups)) if groups else [((), frame)]:
        wide = part.pivot_table(index=own, columns=across, values=value)
        shared = complete_block(wide) if across == "language" else complete_part(wide)
        for row in shared.itertuples(name=None):
            found = reduce(dict(zip(shared.columns, row[1:], strict=True))) if shared.shape[1] else None
            if found is not None:
                lines.append([*key, *row[0], found, shared.shape[1], wide.shape[1]])
    return pd.DataFrame(lines, columns=pd.Index(columns))


def by_seed(frame: pd.DataFrame, groups: Sequence[str] = (), value: str = "score") -> pd.DataFrame:
    """The mean of the fine-tunings of each seed: they share their intermediate run, and are no replicates."""
    keys = [*groups, "intermediate", "volume", "seed"]
    rest = {value: (value, "mean"), "common": ("common", "min"), "of": ("of", "max")}
    return frame.groupby(keys, as_index=False).agg(**rest)


def over_seeds(
    frame: pd.DataFrame, groups: Sequence[str] = (), value: str = "score", seeds: int | None = None
) -> pd.DataFrame:
    """Mean and interval over seeds of each arm and volume.

    Args:
        frame: What `over` returns.
        groups: Columns of what is not averaged.
        value: The column of values.
        seeds: How many there are where nothing is missing; the most that any point has where not given.

    Returns:
        `groups`, intermediate, volume, mean, low, high, seeds, common, of, and whether the point is
        `complete`, that is of all seeds.
    """
    keys = [*groups, "intermediate", "volume"]
    columns = [*keys, "mean", "low", "high", "seeds", "common", "of"]
    lines = []
    for key, part in by_seed(frame, groups, value).groupby(keys):
        common = [len(part), int(part["common"].min()), int(part["of"].max())]
        lines.append([*key, *student_interval(part[value].tolist()), *common])
    points = pd.DataFrame(lines, columns=pd.Index(columns))
    wanted = seeds or int(points["seeds"].max() if len(points) else 0)
    points["complete"] = points["seeds"] >= wanted
    return points


def over_targets(frame: pd.DataFrame, value: str = "score") -> pd.DataFrame:
    """Mean and interval over seeds of the mean over targets.

    Args:
        frame: What `over` returns for each target.
        value: The column of values.
    """
    return over_seeds(over(by_seed(frame, ["target"], value), "target", (), value), (), value)


def common_volume(frame: pd.DataFrame, arms: Collection[str] | None = None) -> int | None:
    """Return the largest volume that all arms have; None if they share none.

    Args:
        frame: A table with the columns `intermediate` and `volume`.
        arms: Names of the arms; the arm without intermediate training is ignored. Defaults to all arms of
            the table.
    """
    trained = frame[frame["intermediate"] != NONE]
    if arms is not None:
        trained = trained[trained["intermediate"].isin(arms)]
    volumes = [set(part["volume"]) for _, part in trained.groupby("intermediate")]
    shared = set.intersection(*volumes) if volumes else set()
    return int(max(shared)) if shared else None


def at_common_volume(frame: pd.DataFrame) -> pd.DataFrame:
    """The lines of the largest volume that every arm has, or of each arm's largest where they share none."""
    volume = common_volume(frame)
    trained = frame[frame["intermediate"] != NONE]
    if volume is not None:
        return trained[trained["volume"] == volume]
    largest = trained.groupby("intermediate")["volume"].transform("max")
    return trained[trained["volume"] == largest]

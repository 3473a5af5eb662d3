"""The points of a study's curves: means over languages, targets and seeds, with their intervals.

Means are only compared if they cover the same cells: a mean covers the languages (or targets) that all
replicates have. `robustness.complete_block` selects languages, and `drop_incomplete` selects targets.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from xlt.studies.analysis.interval import student_interval
from xlt.studies.analysis.robustness import complete_block
from xlt.studies.design.nodes import NONE

REPLICATE = ["intermediate", "volume", "seed", "target_seed"]
"""Columns that identify a fine-tuned model among those of the same target."""

Reduce = Callable[[Mapping[str, float]], float | None]
"""Reduces scores by language to one figure; None if there is none."""


def drop_incomplete(wide: pd.DataFrame) -> pd.DataFrame:
    """Drop rows and columns until no value is missing, each time the one that lacks the largest share.

    One failed run thus removes its replicate from the means over targets, and keeps the target for all other
    replicates.
    """
    while len(wide) and wide.isna().to_numpy().any():
        by_row, by_column = wide.isna().mean(axis=1), wide.isna().mean(axis=0)
        if by_row.max() >= by_column.max():
            wide = wide.drop(index=[by_row.idxmax()])
        else:
            wide = wide.drop(columns=[by_column.idxmax()])
    return wide


def mean_of(values: Mapping[str, float]) -> float:
    """Return the mean of the values."""
    return float(np.mean(list(values.values())))


def reduce_over(
    frame: pd.DataFrame,
    across: str,
    groups: Sequence[str] = (),
    value: str = "score",
    reduce: Reduce = mean_of,
) -> pd.DataFrame:
    """Reduce each replicate's values to one figure, over the languages or targets that all replicates have.

    Args:
        frame: One line for each value.
        across: Column to reduce over: `language` or `target`.
        groups: Columns of groups that are never compared with each other, such as `target`.
        value: Column of the values. Defaults to "score".
        reduce: Function that reduces the values. Defaults to the mean.

    Returns:
        `groups`, the columns of the replicate, the figure, the number of languages or targets that it covers
        (`common`), and the number that exist (`of`).
    """
    own = [column for column in REPLICATE if column in frame]
    columns = [*groups, *own, value, "common", "of"]
    lines = []
    for key, part in frame.groupby(list(groups)) if groups else [((), frame)]:
        wide = part.pivot_table(index=own, columns=across, values=value)
        shared = complete_block(wide) if across == "language" else drop_incomplete(wide)
        for row in shared.itertuples(name=None):
            found = reduce(dict(zip(shared.columns, row[1:], strict=True))) if shared.shape[1] else None
            if found is not None:
                lines.append([*key, *row[0], found, shared.shape[1], wide.shape[1]])
    return pd.DataFrame(lines, columns=pd.Index(columns))


def average_target_seeds(
    frame: pd.DataFrame, groups: Sequence[str] = (), value: str = "score"
) -> pd.DataFrame:
    """Average the fine-tuning runs of each seed, which share their run of phase 2."""
    keys = [*groups, "intermediate", "volume", "seed"]
    figures = {value: (value, "mean"), "common": ("common", "min"), "of": ("of", "max")}
    return frame.groupby(keys, as_index=False).agg(**figures)


def average_over_seeds(
    frame: pd.DataFrame, groups: Sequence[str] = (), value: str = "score", seeds: int | None = None
) -> pd.DataFrame:
    """Return the mean and the interval over seeds of each arm and volume.

    Args:
        frame: The table that `reduce_over` returns.
        groups: Columns that are not averaged over.
        value: Column of the values. Defaults to "score".
        seeds: Number of seeds of a complete point. Defaults to the largest number that any point has.

    Returns:
        `groups`, intermediate, volume, mean, low, high, seeds, common, of, and `complete` (True if the point
        has all seeds).
    """
    keys = [*groups, "intermediate", "volume"]
    columns = [*keys, "mean", "low", "high", "seeds", "common", "of"]
    lines = []
    for key, part in average_target_seeds(frame, groups, value).groupby(keys):
        common = [len(part), int(part["common"].min()), int(part["of"].max())]
        lines.append([*key, *student_interval(part[value].tolist()), *common])
    points = pd.DataFrame(lines, columns=pd.Index(columns))
    expected = seeds or int(points["seeds"].max() if len(points) else 0)
    points["complete"] = points["seeds"] >= expected
    return points


def average_over_targets(frame: pd.DataFrame, value: str = "score") -> pd.DataFrame:
    """Return the mean and the interval over seeds of the mean over targets.

    Args:
        frame: The table that `reduce_over` returns for each target.
        value: Column of the values. Defaults to "score".
    """
    return average_over_seeds(
        reduce_over(average_target_seeds(frame, ["target"], value), "target", (), value), (), value
    )


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
    """Return the lines at the largest common volume; without one, at the largest volume of each arm."""
    volume = common_volume(frame)
    trained = frame[frame["intermediate"] != NONE]
    if volume is not None:
        return trained[trained["volume"] == volume]
    largest = trained.groupby("intermediate")["volume"].transform("max")
    return trained[trained["volume"] == largest]

"""The runs of a study whose predictions have collapsed, see `xlt.metrics.collapse`.

Collapsed runs stay in all means, because leaving them out would flatter an arm that often fails. Every mean
carries their number.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false

from collections import Counter

import pandas as pd

from xlt.metrics.collapse import COLLAPSED, UNKNOWN
from xlt.studies.analysis.names import task_name
from xlt.studies.analysis.robustness import clean
from xlt.studies.design.nodes import NONE

RUN = ["intermediate", "volume", "seed", "target_seed", "target"]
"""Columns that identify a run: a tested model and its target."""


def judged_runs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each run that can be judged: the columns `RUN`, `collapsed` and `judged`.

    `collapsed` and `judged` are numbers of languages. Perturbed rows are left out.

    Args:
        scores: The table of scores. Without the column `collapsed` no run can be judged.
    """
    own = clean(scores)
    if COLLAPSED not in own:
        own = own.assign(**{COLLAPSED: UNKNOWN})
    own = own[own[COLLAPSED] != UNKNOWN]
    flags = own.assign(is_collapsed=own[COLLAPSED] == "yes").groupby(RUN)["is_collapsed"]
    return flags.agg(collapsed="sum", judged="size").reset_index()


def collapsed_runs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the lines of `judged_runs` with a collapse in at least half of the judged languages."""
    runs = judged_runs(scores)
    return runs[2 * runs["collapsed"] >= runs["judged"]].reset_index(drop=True)


def describe_runs(runs: pd.DataFrame) -> list[str]:
    """Return a text for each collapsed run: `MNLI, 600 examples, seed 1, XNLI (12 of 15 languages)`."""
    return [
        f"{task_name(run.intermediate)}, {run.volume:,} examples, seed {run.target_seed}, "
        f"{task_name(run.target)} ({run.collapsed} of {run.judged} languages)"
        for run in runs.itertuples()
    ]


def count_collapsed(points: pd.DataFrame, runs: pd.DataFrame, is_paired: bool = False) -> pd.DataFrame:
    """Return points with the additional column `collapsed`: the number of collapsed runs behind each.

    Args:
        points: One line for each mean, with the columns intermediate and volume. With the column target a
            mean is of one target, else of all. Without the column volume it covers all volumes.
        runs: The collapsed runs.
        is_paired: True if the means are differences from the arm without intermediate training, whose
            collapsed runs count too. Defaults to False.
    """
    keys = [name for name in ("intermediate", "volume", "target") if name in points]
    counts = Counter(map(tuple, runs[keys].itertuples(index=False)))
    found = []
    for point in points[keys].to_dict("records"):
        own = counts[tuple(point.values())]
        plain = tuple((point | {"intermediate": NONE, "volume": 0})[key] for key in keys)
        found.append(own + (counts[plain] if is_paired and point["intermediate"] != NONE else 0))
    return points.assign(collapsed=pd.Series(found, index=points.index, dtype=int))

"""The curves of a study's table: scores by seed and volume, and their fits. S seeds, V volumes."""

# pandas says what it returns too widely.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportAssignmentType=false

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlt.studies.analysis.curves import fit
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, complete_block, require_single
from xlt.studies.design.targets import NONE


class Points(NamedTuple):
    """Mean scores of an intermediate task, by seed and volume."""

    volumes: np.ndarray
    """0 for no intermediate task, shape (V,)."""
    scores: np.ndarray
    """NaN where a seed lacks a volume, shape (S, V)."""
    languages: tuple[str, ...]
    """Those that all of these scores are means over; of several targets, "target language"."""
    wanted: int
    """How many languages (and targets) the table has anywhere."""


def points_of(
    scores: pd.DataFrame, intermediate: str, target: str | None = None, language: str | None = None
) -> Points:
    """Scores of an intermediate task by seed and volume, beside those without one; rows as they are.

    Means are over the languages that every run of the task has. A run with fewer than half of them is
    missing, as is one that lacks a target where all targets are asked for: their means are of the same cells
    throughout.

    Args:
        scores: The table.
        intermediate: The task.
        target: One target; the mean of all where not given.
        language: One language; the mean of all where not given.

    Raises:
        ValueError: There is no such score, or one stands twice.
    """
    kept = clean(scores)
    kept = kept[kept["intermediate"].isin([NONE, intermediate])]
    kept = kept[kept["target"] == target] if target is not None else kept
    kept = kept[kept["language"] == language] if language is not None else kept
    if not (kept["intermediate"] == intermediate).any():
        raise ValueError(
            f"no score of {intermediate}, {target or 'any target'}, {language or 'any language'}"
        )
    require_single(kept, KEY)
    tables = {str(name): _by_run(group) for name, group in kept.groupby("target", sort=True)}
    means = pd.concat({name: table.mean(axis=1) for name, table in tables.items()}, axis=1)
    mean = means.mean(axis=1, skipna=False).groupby(level=["seed", "volume"]).mean()
    by_seed = mean.unstack("volume").sort_index(axis=1)
    cells = [
        f"{name} {code}" if len(tables) > 1 else str(code) for name, part in tables.items() for code in part
    ]
    wanted = len(kept.drop_duplicates(["target", "language"]))
    return Points(by_seed.columns.to_numpy(), by_seed.to_numpy(float), tuple(cells), wanted)


def _by_run(lines: pd.DataFrame) -> pd.DataFrame:
    """A target's scores, runs by languages, without what is incomplete."""
    return complete_block(
        lines.pivot(index=["seed", "target_seed", "volume"], columns="language", values="score")
    )


NAMES = ["intermediate", "target", "language"]
PARAMETERS = ["s_inf", "a", "n0", "b"]
FIGURES = [*PARAMETERS, "b_low", "b_high", "identifiable", "reason", "seeds", "missing"]


def curves(scores: pd.DataFrame, by_language: bool = True) -> pd.DataFrame:
    """The curves of every task: by target and language, by target over its languages, and over all targets.

    Returns:
        A line a curve; an empty target or language is one that the curve is pooled over. `best`, the AICc of
        each form, the power law's parameters (NaN where not `identifiable`), the exponents that fit, the
        `reason`, `volumes`, `seeds`, `missing` (seed and volume), `languages`, `wanted`. A curve of fewer
        than two volumes has only its names and the reason.
    """
    kept = clean(scores)
    tasks = sorted(set(kept["intermediate"]) - {NONE})
    cells: list[tuple[str, str]] = [("", "")]
    for target, group in kept.groupby("target", sort=True):
        cells.append((str(target), ""))
        cells += [(str(target), code) for code in sorted(set(group["language"]))] if by_language else []
    lines = [_line(kept, task, target, language) for task in tasks for target, language in cells]
    return pd.DataFrame(lines)


def _line(scores: pd.DataFrame, task: str, target: str, language: str) -> dict[str, object]:
    """A line of `curves`."""
    names: dict[str, object] = dict(zip(NAMES, (task, target, language), strict=True))
    try:
        points = points_of(scores, task, target or None, language or None)
        curve = fit(points.volumes, points.scores, bootstrap=0)
    except ValueError as error:
        return names | {"best": "", "identifiable": False, "reason": str(error)}
    aicc = {f"aicc_{name}": value for name, value in curve.aicc.items()}
    figures = {name: getattr(curve, name) for name in FIGURES}
    figures |= {} if curve.identifiable else dict.fromkeys(PARAMETERS, math.nan)
    counts = {"volumes": len(curve.volumes), "languages": len(points.languages), "wanted": points.wanted}
    return names | {"best": curve.best} | aicc | figures | counts


def pooling_words(table: pd.DataFrame) -> str:
    """What the curves of a study can say of the exponent, and over what they had to be pooled."""
    levels: Sequence[tuple[str, pd.DataFrame]] = [
        ("of a language", table[table["language"] != ""]),
        (
            "of a target, pooled over its languages",
            table[(table["language"] == "") & (table["target"] != "")],
        ),
        ("pooled over all targets and languages", table[table["target"] == ""]),
    ]
    told = [
        f"{int(part['identifiable'].sum())} of {len(part)} curves {name}"
        for name, part in levels
        if len(part)
    ]
    return f"The exponent can be told from {', '.join(told)}."

"""The curves of a study: scores by seed and volume, and the curves fitted to them. S seeds, V volumes."""

# pandas declares its return types too broadly.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false, reportAssignmentType=false

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlt.studies.analysis.curves import fit
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, complete_block, require_single
from xlt.studies.design.nodes import NONE


class ScoresByVolume(NamedTuple):
    """Mean scores of an intermediate task, by seed and volume."""

    volumes: np.ndarray
    """Volumes, 0 without intermediate training, shape (V,)."""
    scores: np.ndarray
    """Mean scores, NaN if a seed lacks a volume, shape (S, V)."""
    languages: tuple[str, ...]
    """Languages that every mean covers; with several targets, "target language"."""
    wanted: int
    """Number of languages (of all targets) that the table has anywhere."""


def points_of(scores: pd.DataFrame, intermediate: str, target: str | None = None) -> ScoresByVolume:
    """Return the scores of an intermediate task and of no intermediate task, by seed and volume.

    Means are over the languages that every run of the task has. A run with fewer than half of them counts as
    missing. If all targets are wanted, a run that lacks a target counts as missing too, so that all means
    cover the same cells. Perturbed rows are left out.

    Args:
        scores: The table of scores.
        intermediate: Name of the intermediate task.
        target: Name of a target. Defaults to the mean of all targets.

    Raises:
        ValueError: There is no such score, or a score appears twice.
    """
    own = clean(scores)
    own = own[own["intermediate"].isin([NONE, intermediate])]
    own = own[own["target"] == target] if target is not None else own
    if not (own["intermediate"] == intermediate).any():
        raise ValueError(f"no score of {intermediate} on {target or 'any target'}")
    require_single(own, KEY)
    tables = {str(name): _by_run(group) for name, group in own.groupby("target", sort=True)}
    # A target without training has one run for a seed, where others have several fine-tuning runs.
    replicates = {
        name: table.mean(axis=1).groupby(level=["seed", "volume"]).mean() for name, table in tables.items()
    }
    mean = pd.concat(replicates, axis=1).mean(axis=1, skipna=False)
    by_seed = mean.unstack("volume").sort_index(axis=1)
    cells = [
        f"{name} {code}" if len(tables) > 1 else str(code) for name, part in tables.items() for code in part
    ]
    wanted = len(own.drop_duplicates(["target", "language"]))
    return ScoresByVolume(by_seed.columns.to_numpy(), by_seed.to_numpy(float), tuple(cells), wanted)


def _by_run(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a target's scores, runs by languages, without incomplete runs and languages."""
    return complete_block(
        lines.pivot(index=["seed", "target_seed", "volume"], columns="language", values="score")
    )


MIN_VOLUMES = 2
"""Smallest number of volumes above 0 of a curve: one volume shows an effect, but no shape."""

PARAMETERS = ["s_inf", "a", "n0", "b"]
FIGURES = [*PARAMETERS, "b_low", "b_high", "identifiable", "reason", "seeds", "missing"]


def curves(scores: pd.DataFrame) -> pd.DataFrame:
    """Fit the curves of every task: by target, and over all targets. All are pooled over languages.

    Args:
        scores: The table of scores.

    Returns:
        One line for each curve; an empty target or language means that the curve is pooled over it. Columns:
        `best`, the AICc of each form, the power law's parameters (NaN if not `identifiable`), the range of
        exponents that fit, `reason`, `volumes`, `seeds`, `missing` (number of seed and volume pairs),
        `languages`, `wanted`. An arm with one volume has no
        curve: its line has the names and the reason.
    """
    own = clean(scores)
    tasks = sorted(set(own["intermediate"]) - {NONE})
    targets = ["", *sorted(set(own["target"]))]
    return pd.DataFrame([_line(own, task, target) for task in tasks for target in targets])


def _line(scores: pd.DataFrame, task: str, target: str) -> dict[str, object]:
    """Return one line of `curves`."""
    names: dict[str, object] = {"intermediate": task, "target": target, "language": ""}
    try:
        points = points_of(scores, task, target or None)
        if (points.volumes > 0).sum() < MIN_VOLUMES:
            raise ValueError(f"a curve needs {MIN_VOLUMES} volumes of the intermediate task")
        curve = fit(points.volumes, points.scores)
    except ValueError as error:
        return names | {"best": "", "identifiable": False, "reason": str(error)}
    aicc = {f"aicc_{name}": value for name, value in curve.aicc.items()}
    figures = {name: getattr(curve, name) for name in FIGURES}
    figures |= {} if curve.identifiable else dict.fromkeys(PARAMETERS, math.nan)
    counts = {"volumes": len(curve.volumes), "languages": len(points.languages), "wanted": points.wanted}
    return names | {"best": curve.best} | aicc | figures | counts


def describe_identifiable(table: pd.DataFrame) -> str:
    """Return a sentence with the number of curves whose exponent is identifiable."""
    is_pooled = table["target"] == ""
    levels = {
        "by target (pooled over languages)": table[~is_pooled],
        "pooled over all targets and languages": table[is_pooled],
    }
    counts = [
        f"{int(part['identifiable'].sum())} of {len(part)} curves {name}"
        for name, part in levels.items()
        if len(part)
    ]
    return f"The exponent is identifiable (the scores determine it) for {' and '.join(counts)}."

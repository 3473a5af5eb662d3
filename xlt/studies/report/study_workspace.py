"""The W&B workspace of a study: curves by volume, a section for each target, effects by language.

The curves are runs of their own, one for each arm (job type `curve`), which log one line for each volume: W&B
plots one metric of a run against another, and no run of the study has several volumes. The arm without
intermediate training logs the same score at every volume, so that its curve is a horizontal line. One more
run (job type `study`) holds the tables.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xlt.studies.analysis import names
from xlt.studies.analysis.findings import Findings
from xlt.studies.design.nodes import NONE
from xlt.studies.report import tables
from xlt.studies.report.wandb_private import stored_form

with warnings.catch_warnings():
    # wandb_workspaces uses deprecated parts of pydantic.
    warnings.simplefilter("ignore", DeprecationWarning)
    from wandb_workspaces import expr
    from wandb_workspaces.reports.v2 import LinePlot, WeavePanelSummaryTable
    from wandb_workspaces.reports.v2.interface import Layout
    from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace, WorkspaceSettings

CURVE, STUDY = "curve", "study"
"""Job types of the runs that the workspace shows."""

ALL = "all"
"""Name of the mean over targets in log keys."""


@dataclass(frozen=True)
class CurveRun:
    """Log lines of an arm's run.

    Args:
        arm: Name of the arm.
        lines: One line for each volume: log keys with figures, including `volume`.
    """

    arm: str
    lines: list[dict[str, float]]


def workspace(findings: Findings, entity: str, project: str) -> Workspace:
    """Return the workspace of a study.

    Args:
        findings: Numbers of the study.
        entity: W&B user or team.
        project: W&B project.
    """
    name = findings.study.name
    sections = [_section("All targets", ALL, scores=False)] if len(findings.pooled) else []
    sections += [_section(names.task_name(target), target) for target in findings.targets]
    wide = Layout(w=24, h=16)
    table: list[Any] = [
        WeavePanelSummaryTable(table_name=key, layout=wide) for key in ("by_language", "claims")
    ]
    sections.append(Section(name="Languages and claims", panels=table, is_open=True))
    runs = RunsetSettings(
        filters=expr.And(expr.Metric("Group") == name, expr.Metric("JobType").isin([CURVE, STUDY])),
        groupby=[expr.Config("intermediate")],
        order=[expr.Ordering(expr.Metric("Name"), ascending=True)],
    )
    settings = WorkspaceSettings(x_axis="volume", max_runs=100, sort_panels_alphabetically=False)
    return Workspace(
        entity=entity, project=project, name=f"Study {name}", sections=sections, settings=settings,
        runset_settings=runs, auto_generate_panels=False,
    )  # fmt: skip


def _section(title: str, target: str, scores: bool = True) -> Section:
    """Return the section with a target's curves."""
    kinds = (
        (("score", "Score, %"), ("effect", "Effect, points")) if scores else (("effect", "Effect, points"),)
    )
    panels: list[Any] = [
        LinePlot(
            title=f"{title}: {kind} by volume", x="volume", y=[f"{kind}/{target}"], log_x=True,
            title_x="Intermediate training examples", title_y=axis, max_runs_to_show=100,
            layout=Layout(x=12 * number, w=12, h=10),
        )
        for number, (kind, axis) in enumerate(kinds)
    ]  # fmt: skip
    return Section(name=title, panels=panels, is_open=True)


def specification(built: Workspace) -> dict[str, Any]:
    """Return the workspace as W&B stores it; ids are hashes of their content, so repeats are identical."""
    spec = stored_form(built)
    _replace_ids(spec)
    return {"entity": built.entity, "project": built.project, "name": built.name, "spec": spec}


def _replace_ids(part: Any) -> str:
    """Replace random ids by hashes of the content that they belong to; return the hash."""
    if isinstance(part, dict):
        ids = [key for key in part if key in ("__id__", "id") and isinstance(part[key], str)]
        rest = {key: _replace_ids(value) for key, value in part.items() if key not in ids}
        digest = _hash(json.dumps(rest, sort_keys=True))
        part.update(dict.fromkeys(ids, digest))
        return digest
    if isinstance(part, list):
        return _hash(json.dumps([_replace_ids(value) for value in part]))
    return _hash(json.dumps(part))


def _hash(text: str) -> str:
    """Return a short hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def curve_runs(findings: Findings) -> Iterator[CurveRun]:
    """Yield the log lines of each arm's run."""
    parts = [_log_keys(findings.scores, "score"), _log_keys(findings.effects, "effect")]
    parts.append(_log_keys(findings.pooled.assign(target=ALL), "effect"))
    table = pd.concat(parts, ignore_index=True)
    for arm in [NONE, *findings.arms]:
        own = table[table["intermediate"] == arm]
        if arm == NONE and len(own):
            own = pd.concat([own.assign(volume=volume) for volume in findings.volumes] or [own])
        lines = []
        for volume in sorted(set(own["volume"])):
            part = own[own["volume"] == volume]
            lines.append({"volume": float(volume), **dict(zip(part["key"], part["value"], strict=True))})
        if lines:
            yield CurveRun(arm, lines)


def _log_keys(points: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return points as log keys with their figures: mean, interval if any, and number of collapsed runs."""
    ends = [("mean", ""), ("low", "/low"), ("high", "/high"), ("collapsed", "/collapsed")]
    parts = [
        points[["intermediate", "volume"]].assign(
            key=f"{kind}/" + points["target"] + suffix, value=points[end]
        )
        for end, suffix in ends
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset="value")


def study_tables(findings: Findings) -> dict[str, pd.DataFrame]:
    """Return the tables of the study's run by their log keys."""
    cells = findings.cells
    found = {"claims": tables.claims_table(findings.judged)}
    if len(cells):
        columns = [
            "intermediate",
            "volume",
            "target",
            "language",
            "effect",
            "low",
            "high",
            "seeds",
            "collapsed",
        ]
        found["by_language"] = pd.DataFrame(cells.assign(effect=cells["mean"]), columns=pd.Index(columns))
    return found

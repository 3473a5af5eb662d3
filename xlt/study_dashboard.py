"""Show a study on Weights & Biases: `python -m xlt.study_dashboard --study NAME`.

Logs the study's curves and tables and builds a workspace of them: curves by volume, a section a target,
effects by language. Without an account its specification is written to a file in the study's folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from xlt.system.checks import exit_without
    from xlt.system.signals import exit_on_signals

    exit_on_signals()
    exit_without("xlt.studies")

import wandb

from xlt.config.run_command import run_command
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import StudyResults, find_scores, find_study, read_scores
from xlt.studies.report.study_workspace import (
    CURVE,
    STUDY,
    curve_runs,
    specification,
    study_tables,
    workspace,
)
from xlt.system.wandb_mode import hashed_run_id, wandb_mode

SPECIFICATION = "workspace.json"


def make_parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    parser = argparse.ArgumentParser(prog="python -m xlt.study_dashboard", description=__doc__)
    parser.add_argument("--study", required=True, help="the study's name, or its folder")
    parser.add_argument("--project", default="xlt", help="W&B project")
    parser.add_argument("--entity", default="", help="user or team at W&B; the account's own where not given")
    return parser


def dashboard(args: Sequence[str]) -> None:
    """The verb.

    Args:
        args: Command-line arguments.

    Raises:
        FileNotFoundError: There is no such study, or it has no scores.
        ValueError: Its scores cannot be read, or W&B has not taken the workspace.
    """
    given = make_parser().parse_args(list(args))
    folder = find_study(given.study)
    found = Findings(StudyResults(folder.resolve().name, read_scores(find_scores(folder))))
    path = write_specification(found, folder, given.entity, given.project)
    if wandb_mode() != "online":
        print(
            f"W&B is {wandb_mode()} (no key in WANDB_API_KEY or ~/.netrc, or WANDB_MODE says so): the "
            f"workspace's specification is {path}. With an account the same command builds it"
        )
        return
    try:
        print(f"the workspace is {show(found, given.entity, given.project)}")
    except Exception as error:
        raise ValueError(
            f"W&B has not taken the workspace of {folder} ({type(error).__name__}: {error}): the same "
            f"command tries again; its specification is {path}"
        ) from error


def write_specification(findings: Findings, folder: Path, entity: str, project: str) -> Path:
    """Write the workspace's specification to the study's folder; its path."""
    path = folder / SPECIFICATION
    text = json.dumps(specification(workspace(findings, entity, project)), indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def show(findings: Findings, entity: str, project: str) -> str:
    """Log the curves and tables, and save the workspace; its address."""
    entity = entity or str(wandb.Api().default_entity)
    name = findings.study.name
    for curve in curve_runs(findings):
        run = _run(entity, project, name, CURVE, curve.arm, {"intermediate": curve.arm})
        run.define_metric("*", step_metric="volume")
        for line in curve.lines:
            run.log(line)
        run.finish()
    run = _run(entity, project, name, STUDY, name, {})
    run.log({key: wandb.Table(dataframe=table) for key, table in study_tables(findings).items()})
    run.finish()
    return str(workspace(findings, entity, project).save().url)


def _run(entity: str, project: str, study: str, job: str, name: str, config: dict[str, Any]) -> Any:
    """A run at W&B that the same study's next call replaces."""
    own = hashed_run_id(json.dumps([study, job, name]))
    return wandb.init(
        entity=entity, project=project, group=study, job_type=job, name=name, id=own, config=config,
        mode="online", settings=wandb.Settings(silent=True),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(dashboard, sys.argv[1:]))

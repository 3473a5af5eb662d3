"""Show a study on Weights & Biases.

xlt study_dashboard --study mini

The command logs the study's curves and tables, and builds a workspace with curves by volume, a section for
each target, and effects by language. Without a W&B account the specification of the workspace is written to a
file in the study's folder.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from xlt.config.help import start
    from xlt.system.checks import exit_without

    start("study_dashboard")
    exit_without("xlt.studies")

import wandb

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import StudyResults, find_scores, find_study, read_scores
from xlt.studies.design.targets import targets_with_images, targets_without_english
from xlt.studies.report.study_workspace import (
    CURVE,
    STUDY,
    curve_runs,
    specification,
    study_tables,
    workspace,
)
from xlt.system.wandb_mode import hashed_run_id, wandb_mode
from xlt.tasks import known

SPECIFICATION = "workspace.json"
"""File name of the workspace's specification."""


def make_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(prog="xlt study_dashboard")
    parser.add_argument(
        "--study",
        type=str,
        required=True,
        help="Name of the study, or its folder, such as runs/study/studies/mini.",
    )
    parser.add_argument("--project", type=str, default="xlt", help="W&B project.")
    parser.add_argument(
        "--entity", type=str, default="", help="W&B user or team. Defaults to the account's default entity."
    )
    return parser


def dashboard(args: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: Command-line arguments.

    Raises:
        FileNotFoundError: There is no such study, or the study has no scores.
        ValueError: The scores cannot be read, or W&B refused the workspace.
    """
    options = make_parser().parse_args(list(args))
    folder = find_study(options.study)
    scores = read_scores(find_scores(folder))
    targets = set(scores["target"]) & set(known())
    leaving, of_images = targets_without_english(targets), targets_with_images(targets)
    study = StudyResults(folder.resolve().name, scores, without_english=leaving, with_images=of_images)
    found = Findings(study)
    path = write_specification(found, folder, options.entity, options.project)
    if wandb_mode() != "online":
        print(
            f"W&B is {wandb_mode()} (no key in WANDB_API_KEY or ~/.netrc, or WANDB_MODE is set): the "
            f"workspace's specification is {path}. Run the same command with an account to build it"
        )
        return
    try:
        print(f"workspace: {show(found, options.entity, options.project)}")
    except Exception as error:
        raise ValueError(
            f"W&B refused the workspace of {folder} ({type(error).__name__}: {error}): run the same command "
            f"again; the workspace's specification is {path}"
        ) from error


def write_specification(findings: Findings, folder: Path, entity: str, project: str) -> Path:
    """Write the workspace's specification to the study's folder; return its path."""
    path = folder / SPECIFICATION
    text = json.dumps(specification(workspace(findings, entity, project)), indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def show(findings: Findings, entity: str, project: str) -> str:
    """Log the curves and tables, save the workspace, and return its address."""
    entity = entity or str(wandb.Api().default_entity)
    name = findings.study.name
    for curve in curve_runs(findings):
        run = _start_run(entity, project, name, CURVE, curve.arm, {"intermediate": curve.arm})
        run.define_metric("*", step_metric="volume")
        for line in curve.lines:
            run.log(line)
        run.finish()
    run = _start_run(entity, project, name, STUDY, name, {})
    run.log({key: wandb.Table(dataframe=table) for key, table in study_tables(findings).items()})
    run.finish()
    return str(workspace(findings, entity, project).save().url)


def _start_run(entity: str, project: str, study: str, job: str, name: str, config: dict[str, Any]) -> Any:
    """Start a W&B run with a fixed id, which the next call for the same study replaces."""
    run_id = hashed_run_id(json.dumps([study, job, name]))
    return wandb.init(
        entity=entity, project=project, group=study, job_type=job, name=name, id=run_id, config=config,
        mode="online", settings=wandb.Settings(silent=True),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(dashboard, sys.argv[1:]))

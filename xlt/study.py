"""Plan, run and report many runs as one study.

xlt study --config configs/study/mini.yaml

A node is one training run or one evaluation. The same command resumes a stopped study. Nodes that another
study in the same folder has finished are not run again.

Exit codes: 0 every node is finished, 1 some nodes failed (the report names their logs), 75 a signal or 130
Ctrl-C stopped the study and the same command resumes it, 2 there is an error that the user can fix.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml

if __name__ == "__main__":
    from xlt.config.help import start
    from xlt.system.checks import exit_without

    start("study")
    exit_without("xlt.studies")

from xlt.config.cli import ParsedCommandLine
from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.evaluate import make_parser as make_evaluate_parser
from xlt.evaluation.perturbations.perturbations import names_of
from xlt.evaluation.scores import write
from xlt.studies.analysis import cost
from xlt.studies.analysis.collect import missing_of, results_of
from xlt.studies.analysis.disk import disk_lines
from xlt.studies.analysis.power import power_lines
from xlt.studies.analysis.recipes import recipe_scores
from xlt.studies.analysis.results import SCORES
from xlt.studies.analysis.robustness import averaged
from xlt.studies.design.node_files import Kept
from xlt.studies.design.nodes import Node
from xlt.studies.design.plan import Study
from xlt.studies.report.page import page
from xlt.studies.run import engine
from xlt.studies.run.archive import restore, saved
from xlt.system.checks import require
from xlt.system.signals import STOPPED
from xlt.system.tables import counted

MAX_LISTED = 20
"""Maximum number of missing nodes that are printed; the report lists all."""


def make_parser() -> CommandParser:
    """Return the parser of the command: the keys of a study, and the options of its run."""
    parser = CommandParser(prog="xlt study")
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with keys of this list, such as configs/study/mini.yaml. "
        "Keys on the command line override it.",
    )
    parser.add_class_arguments(Study)
    parser.add_argument(
        "--dry_run",
        type=bool,
        default=False,
        help="Print the plan and its cost, and start no run.",
    )
    parser.add_argument(
        "--report_only",
        type=bool,
        default=False,
        help="Report the finished runs, and start no run.",
    )
    parser.add_argument(
        "--jobs",
        type=int | None,
        default=None,
        help="Number of nodes that run at once and share the cores, at least 1. Defaults to 1, or to the "
        "profile's number.",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=1,
        help="Number of times that a failed node is started again, 0 or more. An error that you must fix "
        "(exit code 2) ends the node at once.",
    )
    parser.add_argument(
        "--profile",
        type=str | None,
        default=None,
        help="Folder of a Snakemake profile, such as scripts/slurm/study. Defaults to this machine.",
    )
    parser.add_argument(
        "--keep",
        type=Kept,
        default="all",
        help="Files of a finished run to keep: all; models, which deletes its checkpoints; or scores, which "
        "also deletes the models of targets after their evaluations.",
    )
    parser.add_argument(
        "--archive",
        type=Path | None,
        default=None,
        help="Zip file of the results of finished nodes, without models. At the start, its nodes are copied "
        "into the folder and count as finished. When the runs end or are stopped, all finished nodes are "
        "saved in it. Defaults to no such file.",
    )
    parser.add_argument(
        "--tokens_per_second",
        type=float | None,
        default=None,
        help="Training speed in tokens per second, above 0, for the estimate of hours before a run is "
        "finished. Defaults to the speed of finished runs.",
    )
    parser.add_argument(
        "--power",
        type=float | None,
        default=None,
        help="Difference in points of the score, above 0. For each target and each arm, print the number of "
        "seeds that detects this difference with 80 % power, and the smallest difference that the finished "
        "seeds detect. Needs at least 2 finished seeds. Defaults to no such numbers.",
    )
    return parser


def study(args: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Args:
        args: Command-line arguments.
    """
    parser = make_parser()
    settings = vars(parser.instantiate(parser.parse_args(list(args))))
    settings.pop("config")
    run_keys = "dry_run report_only jobs retries profile keep archive tokens_per_second power"
    options = {key: settings.pop(key) for key in run_keys.split()}
    require(options["jobs"] is None or options["jobs"] >= 1, "jobs", options["jobs"], "be at least 1")
    require(options["retries"] >= 0, "retries", options["retries"], "be 0 or more")
    for key in ("tokens_per_second", "power"):
        require(options[key] is None or options[key] > 0, key, options[key], "be above 0")
    plan, archive = Study(**settings), options["archive"]
    if archive:
        exists = archive.exists() or not options["report_only"]
        require(exists, "archive", archive, "be a file that exists if report_only is true")
        if restored := restore(plan, archive):
            print(f"{counted(restored, 'node')} copied from {archive} into {plan.folder}")
    if not options["report_only"]:
        check_configs(plan)
    print(f"\n{plan.name}: {counted(len(plan.nodes), 'node')} in {plan.folder}\n")
    print(cost.table(cost.costs(plan, options["tokens_per_second"]), options["jobs"] or 1))
    for lines in cost.vision_lines(plan):
        print(f"\n{lines}")
    for line in disk_lines(plan, options["keep"]):
        print(f"\n{line}")
    if options["dry_run"]:
        return 0
    is_stopped = False
    if not options["report_only"]:
        run_options = [options[key] for key in ("jobs", "retries", "profile", "keep")]
        with saved(plan, archive) if archive else nullcontext():
            is_stopped = engine.run(plan, *run_options)
    nodes = [missing for missing in missing_of(plan) if missing.what in plan.nodes]
    for what, reason, _ in nodes[:MAX_LISTED]:
        print(f"missing: {what}: {reason}")
    lacking = (
        f"{len(nodes):,} of {counted(len(plan.nodes), 'node')} {'is' if len(nodes) == 1 else 'are'} missing"
    )
    print(lacking if nodes else "every node is finished")
    report(plan, " ".join(["xlt study", *args]), options["power"])
    return STOPPED if is_stopped else int(bool(nodes))


def check_configs(plan: Study) -> None:
    """Check the config of one node of each kind with its command's parser, before the first run starts.

    Args:
        plan: The study.

    Raises:
        ValueError: A command refuses a config.
    """
    kinds: dict[tuple[object, ...], Node] = {}
    for recipe, variant in plan.variants.items():
        for node in variant.node_uses:
            # Nodes of a kind differ in seeds, volumes and parents only: one of them is checked.
            arm = node.arm if node.phase == "intermediate" else ""
            own = "" if node.phase == "evaluate" else recipe
            kind = node.phase, arm, node.targets, node.checkpoint is None, node.is_blind, own
            kinds.setdefault(kind, node)
    for node in kinds.values():
        with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump(dict(node.settings), file, allow_unicode=True)
            file.flush()
            try:
                if node.phase == "evaluate":
                    asked = make_evaluate_parser().parse_args([f"--config={file.name}"])
                    _check_perturbations(asked.perturbations or [], asked.num_mixes)
                else:
                    ParsedCommandLine([f"--config={file.name}"])
            except ValueError as error:
                raise ValueError(f"the study's node {node.name}: {error}") from error


def _check_perturbations(asked: Sequence[str] | Mapping[str, Sequence[str]], num_mixes: int) -> None:
    """Raise ValueError for an unknown perturbation, or one whose package is not installed."""
    for names in asked.values() if isinstance(asked, Mapping) else [asked]:
        names_of(names, num_mixes)


def report(plan: Study, command: str, power: float | None) -> None:
    """Write the table of scores and the report of the finished nodes.

    Args:
        plan: The study.
        command: Command that runs the study.
        power: Difference in points; the number of seeds that each question of the report needs for it is
            printed. None prints nothing.
    """
    found = replace(results_of(plan, command, plan.words), recipes=recipe_scores(plan))
    if found.scores.empty:
        print("no evaluation is finished yet: there is nothing to report")
        return
    write(plan.own_folder / SCORES, found.scores.to_csv(index=False))
    page(found, plan.own_folder / "report")
    print(f"report: {plan.own_folder / 'report' / 'index.html'}")
    if power:
        print(*power_lines(averaged(found.scores, found.without_english), power), sep="\n")


if __name__ == "__main__":
    sys.exit(run_command(study, sys.argv[1:]))

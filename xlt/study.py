"""Plan, run and report many runs as one study: `python -m xlt.study --config configs/study/mini.yaml`.

The same command goes on where it stopped; what other studies in the same folder have finished is not run
again. Exit codes: 0 every node is finished, 1 some failed (the report names their logs), 75 it was told to
stop and can be continued, 2 an error that a user can mend.
"""

import sys
from collections.abc import Sequence
from tempfile import NamedTemporaryFile

import yaml

if __name__ == "__main__":
    from xlt.system.checks import exit_without
    from xlt.system.signals import exit_on_signals

    exit_on_signals()
    exit_without("xlt.studies")

from xlt.config.cli import ParsedCommandLine
from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.evaluate import make_parser as make_evaluate_parser
from xlt.evaluation.scores import write
from xlt.studies.analysis import cost
from xlt.studies.analysis.collect import missing_of, results_of
from xlt.studies.analysis.power import paired_sds
from xlt.studies.analysis.results import SCORES
from xlt.studies.analysis.statistics import seeds_needed
from xlt.studies.design.plan import Node, Study
from xlt.studies.report.page import page
from xlt.studies.run import engine
from xlt.system.checks import require
from xlt.system.signals import STOPPED

SHOWN = 20
"""Most missing nodes that are named on the screen; the report names all."""


def make_parser() -> CommandParser:
    """The verb's command line: the keys of a study, and how to run it."""
    parser = CommandParser(prog="xlt.study", description=__doc__)
    parser.add_argument("--config", action="config", help="a YAML file of the keys below")
    parser.add_class_arguments(Study)
    parser.add_argument(
        "--dry_run", type=bool, default=False, help="show the plan and its cost, start nothing"
    )
    parser.add_argument(
        "--report_only", type=bool, default=False, help="report what is finished, start nothing"
    )
    parser.add_argument(
        "--jobs",
        type=int | None,
        default=None,
        help="nodes at a time, the cores shared out among them; one, or what the profile says",
    )
    parser.add_argument("--retries", type=int, default=1, help="how often a node that failed is tried again")
    parser.add_argument(
        "--profile", type=str | None, default=None, help="a Snakemake profile, such as SLURM's"
    )
    parser.add_argument("--tokens_per_second", type=float | None, default=None, help="of training, for hours")
    parser.add_argument(
        "--power", type=float | None, default=None, help="a difference in points: seeds it needs"
    )
    return parser


def study(args: Sequence[str]) -> int:
    """The verb; its exit code.

    Args:
        args: Command-line arguments.
    """
    parser = make_parser()
    settings = vars(parser.instantiate(parser.parse_args(list(args))))
    settings.pop("config")
    own = ("dry_run", "report_only", "jobs", "retries", "profile", "tokens_per_second", "power")
    how = {key: settings.pop(key) for key in own}
    require(how["jobs"] is None or how["jobs"] >= 1, "jobs", how["jobs"], "be at least 1")
    require(how["retries"] >= 0, "retries", how["retries"], "be 0 or more")
    for key in ("tokens_per_second", "power"):
        require(how[key] is None or how[key] > 0, key, how[key], "be above 0")
    plan = Study(**settings)
    if not how["report_only"]:
        check_configs(plan)
    print(f"\n{plan.name}: {len(plan.nodes):,} nodes in {plan.folder}\n")
    print(cost.table(cost.costs(plan, how["tokens_per_second"]), how["jobs"] or 1))
    if how["dry_run"]:
        return 0
    told = False
    if not how["report_only"]:
        told = engine.run(plan, how["jobs"], how["retries"], how["profile"])
    nodes = [missing for missing in missing_of(plan) if missing.what in plan.nodes]
    for what, reason, _ in nodes[:SHOWN]:
        print(f"missing: {what}: {reason}")
    print(f"{len(nodes):,} of {len(plan.nodes):,} nodes are missing" if nodes else "every node is finished")
    report(plan, " ".join(["python -m xlt.study", *args]), how["power"])
    return STOPPED if told else int(bool(nodes))


def check_configs(plan: Study) -> None:
    """See that the verbs take the config of every kind of node, before the first runs.

    Raises:
        ValueError: A verb would refuse one.
    """
    kinds: dict[tuple[object, ...], Node] = {}
    for node in plan.uses:
        # The others differ from the first of their kind in seeds, volumes and what they begin with.
        arm = node.arm if node.phase == "intermediate" else ""
        kinds.setdefault((node.phase, arm, node.targets, node.checkpoint is None), node)
    for node in kinds.values():
        with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            yaml.safe_dump(dict(node.settings), file, allow_unicode=True)
            file.flush()
            try:
                if node.phase == "evaluate":
                    make_evaluate_parser().parse_args([f"--config={file.name}"])
                else:
                    ParsedCommandLine([f"--config={file.name}"])
            except ValueError as error:
                raise ValueError(f"the study's node {node.name}: {error}") from error


def report(plan: Study, command: str, power: float | None) -> None:
    """Write the table of scores and the page of what is finished; say how many seeds a difference needs."""
    found = results_of(plan, command, plan.words)
    if found.scores.empty:
        print("no evaluation has ended yet: there is nothing to report")
        return
    write(plan.own_folder / SCORES, found.scores.to_csv(index=False))
    page(found, plan.own_folder / "report")
    print(f"the report: {plan.own_folder / 'report' / 'index.html'}")
    for target, sd in paired_sds(found.scores).items() if power else ():
        needed = f"{seeds_needed(power or 0.0, sd):,} seeds" if sd > 0 else "no telling how many seeds"
        print(f"{target}: seed SD of differences {sd:.2f}; {needed} to see {power} points")


if __name__ == "__main__":
    sys.exit(run_command(study, sys.argv[1:]))

"""Score models that were trained on English, in every language of their tasks.

xlt evaluate --config configs/evaluate/xtreme.yaml

A cell is one task in one language. The same command resumes: it keeps the finished cells. Missing cells are
listed, and every average over fewer cells carries its count.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":
    # Finished files are complete and kept, so a signal may end the command at any time.
    from xlt.config.help import start

    start("evaluate")

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.evaluation.evaluation import Evaluation
from xlt.evaluation.report import MARK


def make_parser() -> CommandParser:
    """Return the command's parser, with a key for each parameter of Evaluation."""
    parser = CommandParser(prog="xlt evaluate")
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with keys of this list. Keys on the command line override it.",
    )
    parser.add_class_arguments(Evaluation)
    return parser


def evaluate(args: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: Command-line arguments.
    """
    parser = make_parser()
    settings = parser.instantiate(parser.parse_args(list(args)))
    settings.pop("config")
    evaluation = Evaluation(**vars(settings))
    report = evaluation.run()
    print(f"\nscores in percent\n\n{report.table()}")
    if any(report.collapsed.values()):
        print(f"{MARK} collapsed: the model gives (almost) always the same prediction")
    if averages := report.averages():
        print("\n" + "\n".join(averages))
    for table in report.robustness.tables():
        print(f"\n{table}")
    if report.perturbed():
        print(f"\nmeans over the languages\n\n{report.perturbed_table()}")
    print(f"\nthe evaluation's folder: {evaluation.out}")


if __name__ == "__main__":
    sys.exit(run_command(evaluate, sys.argv[1:]))

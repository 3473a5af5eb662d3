"""Write one page over several studies: verdicts, answers, curves and cost side by side.

xlt study_overview --studies '[mini, multimodal-small]' --out runs/overview

The command reads the reports that xlt study has written, of finished or unfinished studies. It writes
index.html, verdicts.csv, verdicts.md (a table for a README) and the figure.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    from xlt.config.help import start
    from xlt.system.checks import exit_without

    start("study_overview")
    exit_without("xlt.studies")

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.studies.analysis.written_study import read_report
from xlt.studies.report.overall import write_overview
from xlt.system.checks import require


def make_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(prog="xlt study_overview")
    parser.add_argument(
        "--studies",
        type=list[str],
        required=True,
        help="Studies in the order of the page: names, or folders of studies or of their reports, such as "
        "[mini, runs/study/studies/xtreme, docs/study-mini].",
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of the page, such as docs/overview.")
    return parser


def overview(args: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: Command-line arguments.

    Raises:
        FileNotFoundError: There is no such study, or a study has no report.
        ValueError: No study is named, two studies have the same name, or a table cannot be read.
    """
    options = make_parser().parse_args(list(args))
    require(bool(options.studies), "studies", options.studies, "name at least one study")
    write_overview([read_report(name) for name in options.studies], options.out)
    print(f"overview: {options.out / 'index.html'}")


if __name__ == "__main__":
    sys.exit(run_command(overview, sys.argv[1:]))

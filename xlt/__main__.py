"""Zero-shot cross-lingual transfer: train on English tasks, test in up to 40 languages.

`xlt COMMAND --help` shows the help of a command.
"""

import argparse
import difflib
import runpy
import sys

from xlt import __version__
from xlt.config.commands import COMMANDS, MODULES
from xlt.config.help import describe, first_sentence
from xlt.system.signals import exit_on_signals


def make_parser() -> argparse.ArgumentParser:
    """Return a parser of the commands and their keys, for help and for completion by shtab."""
    parser = argparse.ArgumentParser(
        "xlt", usage="xlt COMMAND [--KEY VALUE ...]", description=__doc__, add_help=False
    )
    parser.add_argument("-h", "--help", action="help", help="Show this help.")
    parser.add_argument("--version", action="version", version=f"xlt {__version__}", help="Show the version.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in COMMANDS:
        below = commands.add_parser(name, help=first_sentence(name), add_help=False)
        describe(below, name, is_full=True)
    return parser


def main() -> int:
    """Run a command, and return its exit code. Only the chosen command is imported."""
    exit_on_signals()
    words = sys.argv[1:]
    if not words or words[0].startswith("-"):
        make_parser().parse_args(words)
        make_parser().print_help(sys.stderr)
        return 2
    module = MODULES.get(words[0].replace("-", "_"))
    if module is None:
        close = difflib.get_close_matches(words[0], COMMANDS, 1)
        hint = f": did you mean {close[0]}?" if close else "."
        print(f"error: unknown command {words[0]}{hint} Commands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv = [sys.argv[0], *words[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command of this process as the user typed it, for records and for the line that tells how to resume."""

import os
import shlex
import shutil
import sys
from pathlib import Path

LAUNCHED = ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID")
"""Environment variables of processes that torchrun or SLURM started: the user typed another command."""


def command_words() -> list[str]:
    """Return the words of this process's command as the user typed them, such as `xlt fit --config FILE`.

    Options of Python itself, such as -u, are left out. A node of a study is a fork of the study's launcher,
    and nobody typed its command: the words are those of `python -m`.
    """
    typed, arguments = sys.orig_argv, sys.argv[1:]
    start = typed[: len(typed) - len(arguments)]
    if start + arguments != typed:
        module = sys.modules["__main__"].__spec__
        return ["python", "-m", module.name if module else sys.argv[0], *arguments]
    program, *rest = start
    if rest and Path(rest[0]).name == "xlt":
        program, *rest = rest  # the installed script, which the system hands to Python
    elif "-m" in rest:
        rest = rest[rest.index("-m") :]
    return [_name_of(program), *rest, *arguments]


def command_to_repeat() -> str:
    """Return the command of this process, to be typed again; empty if torchrun or SLURM started it."""
    return "" if any(name in os.environ for name in LAUNCHED) else shlex.join(command_words())


def _name_of(program: str) -> str:
    """Return the name of a program if the shell finds the same file by it, else the path as it is."""
    name = Path(program).name
    found = shutil.which(name)
    return name if found and Path(found).absolute() == Path(program).absolute() else program

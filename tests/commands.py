"""xlt's commands in processes of their own, forked from one that has imported them."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conftest import SCRATCH
from forked import Forked

from benchmarks.faults import ended

HANG = 600
"""Seconds after which a command counts as hanging; one takes ten seconds, or minutes on a starved machine."""


def begin(args: Sequence[str], module: str = "xlt.fit", **environment: str) -> Forked:
    """The command in a session of its own, with a W&B service of its own."""
    inherited = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    number, output = tempfile.mkstemp(dir=SCRATCH.name)
    os.close(number)
    devices = [arg.split("=")[1] for arg in args if arg.startswith("--trainer.devices=")]
    return Forked(module, args, inherited | environment, Path(output), int(devices[-1]) if devices else 1)


def launch(args: Sequence[str], module: str = "xlt.fit", **environment: str) -> tuple[int | None, str]:
    """Exit code and output of the command, none where it hangs."""
    return ended(begin(args, module, **environment), HANG)

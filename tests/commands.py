"""xlt's commands in processes of their own, forked from one that has imported them."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conftest import SCRATCH
from forked import Forked

from tests.stress.faults import Fault, ended

HANG = 240
"""Seconds after which a command counts as hanging; one takes ten, or a minute on a starved machine."""


def launch(args: Sequence[str], module: str = "xlt.fit", **environment: str) -> tuple[int | None, str]:
    """Exit code and output of the command with a W&B service of its own; no code where it hangs."""
    inherited = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    number, output = tempfile.mkstemp(dir=SCRATCH.name)
    os.close(number)
    devices = [arg.split("=")[1] for arg in args if arg.startswith("--trainer.devices=")]
    processes = int(devices[-1]) if devices else 1
    return ended(Forked(module, args, inherited | environment, Path(output), processes), HANG)


def strike(args: Sequence[str], fault: Fault, **environment: str) -> tuple[int | None, str]:
    """The same of the command that is struck as told."""
    return launch(args, "tests.stress.faults", **fault.environment(), **environment)

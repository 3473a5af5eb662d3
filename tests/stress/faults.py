"""Run `python -m xlt.fit` and strike the run at the point that the variable XLT_FAULT names.

    python -m tests.stress.faults --config CONFIG

For the tests of faults and for tests.stress.chaos. The point is a place in the program, not a time, so that a
fault is the same on every machine.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from xlt.config.run_command import run_command
from xlt.datamodule import TransferData
from xlt.fit import fit
from xlt.module import TransferModule
from xlt.training.checkpoint_files import VerifiedCheckpointIO

VARIABLE = "XLT_FAULT"


@dataclass(frozen=True)
class Fault:
    """What happens to a run, once.

    Args:
        step: The first optimizer step at which it may.
        place: Where: start, step, validation, save, sync or delete.
        signal: Name of the signal, such as SIGKILL.
        rank: Which process strikes itself; -1 for each of them.
        whole: Whether it strikes all processes of the command at the same time.
        times: How often the signal is sent.
    """

    step: int
    place: str = "step"
    signal: str = "SIGTERM"
    rank: int = 0
    whole: bool = False
    times: int = 1

    def environment(self) -> dict[str, str]:
        """What tells it to the command."""
        return {VARIABLE: json.dumps(asdict(self))}


def rank() -> int:
    """Number of this process, before torch.distributed knows it."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_PROCID") or 0)


class Striker:
    """Waits in every place that the fault names.

    Args:
        fault: What to do.
    """

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._is_mine = fault.rank in (-1, rank())

    def strike(self, step: int) -> None:
        """Send the signal, if this is the place and the time."""
        if not self._is_mine or step < self._fault.step:
            return
        self._is_mine = False
        number = signal.Signals[self._fault.signal]
        for _ in range(self._fault.times):
            if self._fault.whole:
                os.killpg(0, number)
            else:
                os.kill(os.getpid(), number)

    def arm(self) -> None:
        """Put this into the place."""
        places: dict[str, tuple[Any, str, Callable[..., int]]] = {
            "start": (TransferData, "setup", lambda *_: 0),
            "step": (TransferModule, "_loss", lambda module, _: module.global_step + 1),
            "validation": (TransferModule, "validation_step", lambda module, *_: module.global_step),
            "sync": (VerifiedCheckpointIO, "_complete", lambda *names: step_of(names[-1])),
            "delete": (VerifiedCheckpointIO, "remove_checkpoint", lambda _, path: step_of(path)),
        }
        if self._fault.place == "save":
            self._arm_save()
        else:
            self._wrap(*places[self._fault.place])

    def _wrap(self, owner: Any, name: str, step_of: Callable[..., int]) -> None:
        """Strike before the method does its work."""
        whole = getattr(owner, name)

        def struck(*args: Any, **kwargs: Any) -> Any:
            self.strike(step_of(*args))
            return whole(*args, **kwargs)

        setattr(owner, name, struck)

    def _arm_save(self) -> None:
        """Strike when half of a checkpoint has been written."""
        whole = torch.save

        def struck(checkpoint: Any, file: Any, *args: Any, **kwargs: Any) -> None:
            whole(checkpoint, file, *args, **kwargs)
            file.flush()
            size = file.tell()
            file.truncate(size // 2)
            if "global_step" in checkpoint:  # a checkpoint, not the trial of a callback's state
                self.strike(checkpoint["global_step"])
            file.seek(0)
            whole(checkpoint, file, *args, **kwargs)

        torch.save = struck


def step_of(path: object) -> int:
    """The step that a checkpoint's name tells."""
    return int(re.findall(r"step-(\d+)", str(path))[-1])


class Process(Protocol):
    """What is needed of a `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """Number of the process."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code, once it has ended."""
        ...

    def communicate(self, *, timeout: float) -> tuple[str, object]:
        """Wait for its end; what it printed."""
        ...


def ended(process: Process, limit: float) -> tuple[int | None, str]:
    """Exit code and output of a command with a session of its own.

    Args:
        process: The command.
        limit: Most seconds for it, and then for what it has started, to end.

    Returns:
        No exit code where it has not ended, or left a process behind; all are killed then, and the output
            ends with what each thread was doing, if the processes print that on SIGABRT (faulthandler).
    """
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return None, f"hangs: {_killed(process)}"
    if not _waited(process.pid, limit):
        return None, f"leaves a process behind: {_killed(process)}"
    return process.returncode, output


def _killed(process: Process) -> str:
    """Output of a process whose group has been killed."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            _waited(process.pid, 10)
    return process.communicate(timeout=10)[0]


def _waited(group: int, limit: float) -> bool:
    """Wait until no process of the group lives, or that many seconds; whether none does."""
    until = time.monotonic() + limit
    while _lives(group):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _lives(group: int) -> bool:
    """Whether any process of the group does."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    if os.environ.get(VARIABLE):
        Striker(Fault(**json.loads(os.environ[VARIABLE]))).arm()
    sys.exit(run_command(fit, sys.argv[1:]))

"""A command forked from a process that has imported xlt, which saves each start seconds of imports.

The processes that it starts for itself are forked ahead, while nothing has run yet, and wait to be told who
they are. tests.stress.chaos strikes commands as users start them.
"""

import faulthandler
import multiprocessing
import os
import pickle
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["xlt.fit", "pandas", "matplotlib.backends.backend_agg"])


class Forked:
    """A module run as a command, in a session of its own; as much of `subprocess.Popen` as `ended` takes.

    Args:
        module: Its name.
        args: Its arguments.
        environment: All of the process's environment.
        output: File that takes what it prints.
        processes: How many it comes to, itself included.
    """

    def __init__(
        self, module: str, args: Sequence[str], environment: Mapping[str, str], output: Path, processes: int
    ) -> None:
        self._output = output
        whole = module, list(args), dict(environment), output, processes
        self._process = CONTEXT.Process(target=_begin, args=whole)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None as long as it runs."""
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, None]:
        """Wait for its end; what it printed."""
        self._process.join(timeout)
        output = self._output.read_text()
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout, output)
        return output, None


class Spare(subprocess.Popen[bytes]):
    """A process forked ahead, in the place of one that Lightning's launcher would start."""

    waiting: ClassVar[list[tuple[int, int]]] = []
    """Process numbers, and where each is told its arguments and environment."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], **kwargs: Any) -> None:
        self._told = pickle.dumps((list(command[3:]), dict(env)))
        super().__init__(command, **kwargs)

    def _execute_child(self, *_: object) -> None:
        """Wake one that waits, where Popen would fork."""
        self.pid, told = self.waiting.pop()
        self._child_created = True
        with os.fdopen(told, "wb") as pipe:
            pipe.write(self._told)


def _begin(module: str, args: list[str], environment: dict[str, str], output: Path, processes: int) -> None:
    """Become the command, or one of the processes that it starts for itself."""
    os.setsid()
    # As where Python starts afresh.
    multiprocessing.set_start_method("fork", force=True)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    faulthandler.enable()  # SIGABRT, which ends a command that hangs, prints what each thread was doing
    for _ in range(processes - 1):
        told, tell = os.pipe()
        number = os.fork()
        if number == 0:
            os.close(tell)
            for _, other in Spare.waiting:
                os.close(other)
            with os.fdopen(told, "rb") as pipe:
                message = pipe.read()
            if not message:
                os._exit(0)
            args, environment = pickle.loads(message)
            break
        os.close(told)
        Spare.waiting.append((number, tell))
    else:
        from lightning.pytorch.strategies.launchers import subprocess_script

        subprocess_script.subprocess = SimpleNamespace(Popen=Spare)  # type: ignore[assignment]
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)

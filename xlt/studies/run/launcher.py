"""The launcher: one process with all imports done, which forks a study's nodes.

`python -m xlt.studies.run.launcher` listens at a socket. The engine starts and ends the launcher, and each
node's runner sends a request (`start`). A node is a fork of the launcher that behaves like `python -m
<module>` without the seconds of the imports. The launcher itself computes nothing, so that no fork misses a
thread that it relies on.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MODULES = ("xlt.fit", "xlt.evaluate")
"""Modules of the commands that the launcher can run."""

LATER = ("pandas", "matplotlib.backends.backend_agg")
"""Modules that pyarrow and matplotlib import when a command first needs them."""

ADDRESS = "XLT_STUDY_LAUNCHER"
"""Environment variable with the launcher's socket, for the runners of nodes."""


class Started:
    """A process that the launcher started.

    Args:
        connection: Connection to the launcher's child that waits for the process.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("r", encoding="utf-8")
        self.pid: int = json.loads(self._lines.readline())

    def wait(self) -> int:
        """Return the exit code, negative for a signal; 1 if the launcher is gone and the code is unknown."""
        with self._lines:
            line = self._lines.readline()
        return int(line) if line else 1


def start(address: str, command: Sequence[str], log: Path) -> Started:
    """Ask the launcher to start a command.

    Args:
        address: The launcher's socket.
        command: Python, `-m`, one of `MODULES`, and its arguments.
        log: File that the command's output is appended to.

    Raises:
        OSError: No launcher listens at the address.
    """
    request = {
        "module": command[2],
        "args": list(command[3:]),
        "log": str(log.resolve()),
        "cwd": str(Path.cwd()),
    }
    # Started reads the answer through a file, which keeps the connection open.
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Started(connection)


@contextlib.contextmanager
def launcher(environment: Mapping[str, str]) -> Iterator[str]:
    """Run a launcher within a context; yield its address.

    Args:
        environment: Environment of the launcher and of all nodes that it starts.
    """
    with tempfile.TemporaryDirectory(prefix="xlt-") as folder:
        address = f"{folder}/launcher"
        command = [sys.executable, "-m", "xlt.studies.run.launcher", "--address", address]
        # The end of the block closes the launcher's input and waits for the launcher.
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            if not process.stdout or not process.stdout.readline():
                raise RuntimeError(
                    "the launcher of the study's nodes exited before it was ready: its error is above"
                )
            yield address


# In the launcher's process


def serve(address: str) -> None:
    """Import the commands, then start every requested node until the input ends with the parent process."""
    for module in (*MODULES, *LATER):
        importlib.import_module(module)
    for module in MODULES:
        del sys.modules[module]  # runs under the name __main__ later
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the waiting children
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    _serve_request(connection)


def _serve_request(connection: socket.socket) -> None:
    """Start the requested node, wait for it, report its exit code, and end the process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(connection.makefile("r", encoding="utf-8").readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run_module(request)
    # The node may outlive the process that asked for it.
    with contextlib.suppress(OSError):
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run_module(request: Mapping[str, Any]) -> None:
    """Run `python -m <module> <args>` in this process, and exit as it does."""
    os.setsid()
    os.chdir(request["cwd"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, log, log)):
        os.dup2(descriptor, number)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(
            encoding="utf-8", errors="backslashreplace"
        )  # the log's encoding, not the terminal's
    sys.argv = [request["module"], *request["args"]]
    code = 0
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(code)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    try:
        serve(parser.parse_args().address)
    except BrokenPipeError:
        os._exit(0)  # the study ended during the imports


if __name__ == "__main__":
    main()

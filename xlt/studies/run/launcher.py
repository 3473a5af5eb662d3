"""Starts the nodes of a study from one process that has imported what they need.

`python -m xlt.studies.run.launcher` listens at a socket; the engine begins and ends it, a node's runner asks
it (`start`). Each node is a fork of it, and from there on what `python -m <verb>` is, less the seconds of the
imports. The launcher itself computes nothing, so that no fork lacks a thread that it counts on.
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

VERBS = ("xlt.fit", "xlt.evaluate")
ADDRESS = "XLT_STUDY_LAUNCHER"
"""Environment variable of the nodes' runners: the socket."""


class Started:
    """A process that the launcher has started.

    Args:
        connection: To the launcher's process that waits for it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("r", encoding="utf-8")
        self.pid: int = json.loads(self._lines.readline())

    def wait(self) -> int:
        """Its exit code, negative for a signal; 1 where the launcher is gone and it is not known."""
        with self._lines:
            line = self._lines.readline()
        return int(line) if line else 1


def start(address: str, command: Sequence[str], log: Path) -> Started:
    """Have the launcher start a command.

    Args:
        address: The launcher's socket.
        command: A Python, `-m`, one of the verbs, and its arguments.
        log: The file that its output is added to.

    Raises:
        OSError: No launcher is there.
    """
    request = {
        "verb": command[2],
        "args": list(command[3:]),
        "log": str(log.resolve()),
        "cwd": str(Path.cwd()),
    }
    # What it answers is read through a file, which keeps the connection.
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Started(connection)


@contextlib.contextmanager
def launcher(environment: Mapping[str, str]) -> Iterator[str]:
    """A launcher for as long as the context lasts; its address.

    Args:
        environment: Of the launcher, and so of all that it starts.
    """
    with tempfile.TemporaryDirectory(prefix="xlt-") as folder:
        address = f"{folder}/launcher"
        command = [sys.executable, "-m", "xlt.studies.run.launcher", "--address", address]
        # Its input is closed, and it is waited for, at the end of the block.
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            if not process.stdout or not process.stdout.readline():
                raise RuntimeError("the launcher of the study's nodes ended at its start")
            yield address


# In the launcher's process


def serve(address: str) -> None:
    """Import, then start whatever is asked for, until the input ends: its parent is done, or dead."""
    for verb in VERBS:
        importlib.import_module(verb)
    for verb in VERBS:
        del sys.modules[verb]  # to be run under the name __main__
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
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
                    _keep(connection)


def _keep(connection: socket.socket) -> None:
    """Start what the connection asks for, wait for it, tell how it ended; the process ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(connection.makefile("r", encoding="utf-8").readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(request)
    # The node may have ended long after who asked for it.
    with contextlib.suppress(OSError):
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: Mapping[str, Any]) -> None:
    """Be `python -m <verb> <args>`, and end as it does."""
    os.setsid()
    os.chdir(request["cwd"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, log, log)):
        os.dup2(descriptor, number)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # a log's, not the terminal's
    sys.argv = [request["verb"], *request["args"]]
    code = 0
    try:
        runpy.run_module(request["verb"], run_name="__main__", alter_sys=True)
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
    serve(parser.parse_args().address)


if __name__ == "__main__":
    main()

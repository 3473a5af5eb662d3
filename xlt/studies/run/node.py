"""Run one node of a study: `python -m xlt.studies.run.node --plan PLAN --node NAME`; the engine calls it.

What the node prints goes to its log, its seconds beside it. A node that was told to stop and saved (exit code
75) goes on at once; where its own job is told to stop, it is put back into SLURM's queue, or ends with 75. A
job is told here, some minutes ahead of its time limit: SLURM's own warning (`--signal`) would end the engine
in between.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from xlt.studies.design.node_files import logs_of
from xlt.studies.run.launcher import ADDRESS, Started, start
from xlt.system.files import write_atomically
from xlt.system.lock import locked
from xlt.system.signals import STOPPED

PATIENCE = 24 * 3600.0
"""Seconds to wait for another study that runs the same node."""

AHEAD = 300
"""Seconds ahead of a job's end at which its node is told to stop; at most half of those that it has."""


class Job:
    """The process of a node: started by the study's launcher where there is one.

    Args:
        command: Its command.
        log: The file that its output is added to.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self._pid: int | None = None
        self.is_told = False
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, self._pass_on)
        left = seconds_left(os.environ.get("SLURM_JOB_ID"))
        if left is not None:
            signal.alarm(max(1, round(left - min(AHEAD, left / 2))))

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Tell the process what this one is told; a Ctrl-C and the end of the job are to stop as well."""
        self.is_told = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)

    def run(self) -> int:
        """Its exit code, once it has ended otherwise than by being told to stop."""
        while True:
            process = self._start()
            self._pid = process.pid
            if self.is_told:
                self._pass_on(signal.SIGTERM, None)
            code = process.wait()
            self._pid = None
            if code != STOPPED or self.is_told:
                return code

    def _start(self) -> Started | subprocess.Popen[bytes]:
        """Begin, in a session of its own: what a terminal tells all reaches it through this process alone."""
        if ADDRESS in os.environ:
            return start(os.environ[ADDRESS], self._command, self._log)
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}  # a log's
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )


def seconds_left(job: str | None) -> int | None:
    """Until SLURM ends a job; None where it has no limit, there is no job, or SLURM cannot be asked.

    Args:
        job: The job's number.
    """
    if job is None or shutil.which("squeue") is None:  # such as in a container
        return None
    # The environment does not tell: the executor takes most of SLURM's variables out of it.
    words = ["squeue", "--noheader", f"--job={job}", "--format=%L"]
    said = subprocess.run(
        words, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    ).stdout.strip()
    days, _, clock = said.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):  # UNLIMITED, NOT_SET
        return None
    seconds = sum(int(part) * 60**place for place, part in enumerate(reversed(parts)))
    return seconds + 86400 * int(days or 0)


def command_of(plan: dict[str, Any], name: str) -> list[str]:
    """The command of a node."""
    node = plan["nodes"][name]
    return [sys.executable, "-m", node["verb"], f"--config={node['config']}"]


def run(plan: dict[str, Any], name: str) -> int:
    """Run a node, unless another study has; its exit code.

    Args:
        plan: What `engine.write` wrote.
        name: The node.
    """
    log, seconds, lock = (logs_of(Path(plan["folder"]), name, end) for end in ("txt", "json", "lock"))
    log.parent.mkdir(parents=True, exist_ok=True)
    job = Job(command_of(plan, name), log)
    with locked(lock, PATIENCE):
        spent = json.loads(seconds.read_text(encoding="utf-8"))["seconds"] if seconds.is_file() else 0.0
        began = time.monotonic()
        code = job.run()
        report = {"seconds": spent + time.monotonic() - began, "exit_code": code}
        write_atomically(seconds, json.dumps(report) + "\n")
    if code == STOPPED and "SLURM_JOB_ID" in os.environ:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    return code


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--node", required=True)
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text(encoding="utf-8"))
    os.chdir(plan["cwd"])
    code = run(plan, arguments.node)
    if code:
        print(
            f"{arguments.node} ended with {code}: see {logs_of(Path(plan['folder']), arguments.node, 'txt')}"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())

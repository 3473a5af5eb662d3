"""Run one node of a study: `python -m xlt.studies.run.node --plan PLAN --node NAME`; the engine calls it.

The node's output goes to its log, and its seconds to a file beside the log. A node that saved and stopped
after a signal (exit code 75) is resumed at once. If the SLURM job itself is being stopped, the job is
requeued, or the runner exits with 75. The runner signals the node some minutes before the job's time limit,
because SLURM's own warning (`--signal`) would end the engine in between.
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
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from xlt.studies.design.node_files import is_finished, log_path, nodes_to_run, tidy
from xlt.studies.run.launcher import ADDRESS, Started, start
from xlt.system.files import write_atomically
from xlt.system.lock import locked
from xlt.system.signals import STOPPED

LOCK_TIMEOUT = 24 * 3600.0
"""Seconds to wait for another study that runs the same node."""

USER_ERROR = 2
"""Exit code of a command after an error that the user can fix."""

DONE = "done"
"""Folder beside the plan with an empty file for each node that the engine has seen finished."""

GRACE_SECONDS = 300
"""Seconds before a job's end at which its node is signalled; at most half of the time that is left."""


class Job:
    """The process of a node, started by the study's launcher if there is one.

    Args:
        command: The node's command.
        log: File that the command's output is appended to.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self._pid: int | None = None
        self.is_stopped = False
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, self._forward)
        left = job_seconds_left(os.environ.get("SLURM_JOB_ID"))
        if left is not None:
            signal.alarm(max(1, round(left - min(GRACE_SECONDS, left / 2))))

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """Forward a signal to the process; Ctrl-C and the end of the job become SIGTERM."""
        self.is_stopped = True
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGUSR1 if number == signal.SIGUSR1 else signal.SIGTERM)

    def run(self) -> int:
        """Run the command, resume it after every stop of its own, and return its exit code."""
        while True:
            process = self._start()
            self._pid = process.pid
            if self.is_stopped:
                self._forward(signal.SIGTERM, None)
            code = process.wait()
            self._pid = None
            if code != STOPPED or self.is_stopped:
                return code

    def _start(self) -> Started | subprocess.Popen[bytes]:
        """Start the command in its own session, so that signals reach it only through this process."""
        if ADDRESS in os.environ:
            try:
                return start(os.environ[ADDRESS], self._command, self._log)
            except OSError:
                print("the study that started this node has ended", file=sys.stderr)
                sys.exit(STOPPED)
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}  # the log's encoding
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )


def job_seconds_left(job: str | None) -> int | None:
    """Return the seconds until SLURM ends a job; None without a limit, a job or an answer of SLURM.

    Args:
        job: The job's number, or None.
    """
    if job is None or shutil.which("squeue") is None:  # for example in a container
        return None
    # SLURM's end time is not in the environment: the executor removes most of SLURM's variables.
    command = ["squeue", "--noheader", f"--job={job}", "--format=%L"]
    output = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    ).stdout.strip()
    days, _, clock = output.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):  # UNLIMITED, NOT_SET
        return None
    seconds = sum(int(part) * 60**power for power, part in enumerate(reversed(parts)))
    return seconds + 86400 * int(days or 0)


def command_of(plan: dict[str, Any], name: str) -> list[str]:
    """Return the command of a node."""
    node = plan["nodes"][name]
    return [sys.executable, "-m", node["module"], f"--config={node['config']}"]


class PlannedNode(NamedTuple):
    """A node of a plan.

    Args:
        parents: Names of the nodes that the node starts from.
        checkpoint: Step of the checkpoint that the node tests; None for all others.
    """

    parents: tuple[str, ...]
    checkpoint: int | None


def planned(plan: Mapping[str, Any]) -> dict[str, PlannedNode]:
    """Return the nodes of a plan by name, parents first."""
    return {
        name: PlannedNode(tuple(node["parents"]), node["checkpoint"]) for name, node in plan["nodes"].items()
    }


def run(plan: dict[str, Any], name: str) -> int:
    """Run a node unless another study has run it; return its exit code.

    A node that ended with an error that the user can fix (exit code 2) is not run again by the same engine. A
    run that is needed again, because its model or a checkpoint is gone, begins anew.

    Args:
        plan: The plan that `engine.write` wrote.
        name: Name of the node.
    """
    log, seconds, lock = (log_path(Path(plan["folder"]), name, suffix) for suffix in ("txt", "json", "lock"))
    log.parent.mkdir(parents=True, exist_ok=True)
    job = Job(command_of(plan, name), log)
    with locked(lock, LOCK_TIMEOUT):
        before = json.loads(seconds.read_text(encoding="utf-8")) if seconds.is_file() else {}
        if before.get("exit_code") == USER_ERROR and before.get("engine") == plan["started"]:
            return USER_ERROR
        folder = Path(plan["folder"])
        if name not in nodes_to_run(folder, planned(plan)):
            tidy(plan, name)
            return 0
        if is_finished(folder, name):
            (folder / name / "results.json").unlink()
            shutil.rmtree(folder / name / "checkpoints", ignore_errors=True)
        start_time = time.monotonic()
        code = job.run()
        spent = before.get("seconds", 0.0) + time.monotonic() - start_time
        report = {"seconds": spent, "exit_code": code, "engine": plan["started"]}
        write_atomically(seconds, json.dumps(report) + "\n")
    if code == 0:
        tidy(plan, name)
    if code == STOPPED and "SLURM_JOB_ID" in os.environ:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    return code


def main() -> int:
    """Read the arguments and run the node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="the study's plan.json")
    parser.add_argument("--node", required=True, help="name of the node")
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text(encoding="utf-8"))
    mark = arguments.plan.resolve().parent / DONE / arguments.node
    os.chdir(plan["cwd"])
    code = run(plan, arguments.node)
    if code == 0:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    else:
        log = log_path(Path(plan["folder"]), arguments.node, "txt")
        print(f"{arguments.node} failed with exit code {code}: see {log}")
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Facts about how a run was started, for its report: time, command, commits, device and versions."""

import contextlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import xlt
from xlt.system.command_words import command_words

PACKAGE = Path(xlt.__file__).parent


def now() -> str:
    """Return the time as text in UTC, such as 2026-11-30 08:15:00 UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def git_commit(folder: Path, file: str = "") -> str:
    """Return the commit of a checkout, with `-dirty` if files differ from it, or "" without a checkout.

    Args:
        folder: A folder of the checkout.
        file: File in the folder that must belong to the checkout. A virtual environment may lie inside the
            checkout of another project. Defaults to no file.
    """
    try:
        if file:
            _git(folder, "ls-files", "--error-unmatch", file)
        return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    """Return the output of a git command in a folder."""
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, check=True, encoding="utf-8", timeout=20
    )
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    """Return a name of a device for the reader, such as `NVIDIA H200` or `CPU with 8 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    return f"{model or 'CPU'}, {torch.get_num_threads()} threads"


def start_facts(device: torch.device, processes: int) -> dict[str, Any]:
    """Return the facts about this start of a run, by name.

    Args:
        device: Device of this process.
        processes: Number of processes of the run.
    """
    return {
        "time": now(),
        "command": command_words(),
        "folder": str(Path.cwd()),
        "commit": git_commit(Path.cwd()),
        "xlt_commit": git_commit(PACKAGE, "__init__.py"),
        "device": device_name(device),
        "processes": processes,
        "host": os.uname().nodename,
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
    }

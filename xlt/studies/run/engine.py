"""Hands a study's nodes to Snakemake: here on so many processes, or on a cluster by a profile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import yaml

from xlt.studies.design.node_files import is_finished
from xlt.studies.design.plan import Study
from xlt.studies.run.launcher import ADDRESS, launcher
from xlt.system.files import write_atomically
from xlt.system.lock import locked
from xlt.system.yaml_files import read_yaml

SNAKEFILE = Path(__file__).with_name("Snakefile")


def write(study: Study, threads: int) -> Path:
    """Write each node's config and the plan; the plan's file.

    Args:
        study: The study.
        threads: Cores of each node.
    """
    configs = study.folder / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    nodes = {}
    for name, node in study.nodes.items():
        path = configs / f"{name}.yaml"
        write_atomically(path, yaml.safe_dump(dict(node.settings), sort_keys=False, allow_unicode=True))
        nodes[name] = {"verb": node.verb, "config": str(path), "parents": list(node.parents)}
    study.own_folder.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in nodes if not is_finished(study.folder, name)]
    plan = {
        "cwd": str(Path.cwd()),
        "folder": str(study.folder.resolve()),
        "threads": threads,
        "wanted": wanted,
    }
    path = study.own_folder / "plan.json"
    write_atomically(path, json.dumps({**plan, "nodes": nodes}, indent=1) + "\n")
    return path


def run(study: Study, jobs: int | None, retries: int, profile: str | None) -> bool:
    """Run what is not finished; whether it was told to stop before the end.

    Args:
        study: The study.
        jobs: Nodes at a time; None leaves it to the profile, or is one.
        retries: How often a node that failed is tried again.
        profile: A Snakemake profile, such as one for SLURM; None runs the nodes on this machine.

    Raises:
        ValueError: Another process runs this study, or the profile has a key twice.
    """
    for path in _profile_files(profile) if profile else ():
        read_yaml(path)
    # A profile says itself how many cores its jobs have: set-threads.
    threads = 1 if profile else max(1, (os.cpu_count() or 1) // (jobs or 1))
    study.own_folder.mkdir(parents=True, exist_ok=True)
    with locked(study.own_folder / "lock", 1.0, "folder or name"):
        plan = write(study, threads)
        command = _command(plan, jobs, threads, retries, profile)
        if profile:
            return _wait_for(command, os.environ)
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        with launcher(environment) as address:
            return _wait_for(command, {**environment, ADDRESS: address})


def _profile_files(profile: str) -> Iterator[Path]:
    """The files that Snakemake may read a profile from."""
    own = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    for folder in (Path(), Path(own, "snakemake"), Path("/etc/xdg/snakemake")):
        yield from (folder / profile).glob("config*.yaml")


def _command(plan: Path, jobs: int | None, threads: int, retries: int, profile: str | None) -> list[str]:
    """Snakemake's command line."""
    if profile:
        where = ["--profile", profile, *(["--jobs", str(jobs)] if jobs else [])]
    else:
        where = ["--cores", str((jobs or 1) * threads), "--jobs", str(jobs or 1)]
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)),
        *("--directory", str(plan.parent.resolve()), *where, "--retries", str(retries)),
        *("--keep-going", "--rerun-incomplete", "--nolock", "--rerun-triggers", "mtime"),
        *("--scheduler", "greedy"),  # nodes of a rule are alike: there is nothing to solve for
        *("--quiet", "rules", "--", "all"),
    ]


def _wait_for(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Run the command; whether a signal came, which it passed on so that the nodes save."""
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    with _told(process) as numbers:
        process.wait()
    return bool(numbers)


@contextlib.contextmanager
def _told(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals on to all of the process's group for as long as it runs; the signals that came."""
    came: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.signal(number, pass_on) for number in numbers]
    try:
        yield came
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

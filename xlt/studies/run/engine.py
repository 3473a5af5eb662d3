"""The engine: Snakemake runs a study's nodes on this machine, or on a cluster with a profile."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import yaml

from xlt.studies.design.node_files import Kept, nodes_to_run, tidy
from xlt.studies.design.plan import Study
from xlt.studies.run.launcher import ADDRESS, launcher
from xlt.studies.run.node import DONE
from xlt.system.files import write_atomically
from xlt.system.folders import check_encoder_exists, model_folder
from xlt.system.lock import locked
from xlt.system.signals import stopping_with_parent
from xlt.system.yaml_files import read_yaml

SNAKEFILE = Path(__file__).with_name("Snakefile")

OWN_EXECUTORS = ("local", "dryrun", "touch")
"""Executors that come with Snakemake. Every other executor is a plugin."""


def write(study: Study, threads: int, kept: Kept = "all") -> Path:
    """Write each node's config and the plan; return the plan's file.

    Args:
        study: The study.
        threads: Cores of each node.
        kept: What is kept of a finished run.
    """
    configs = study.folder / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    nodes = {}
    for name, node in study.nodes.items():
        path = configs / f"{name}.yaml"
        write_atomically(path, yaml.safe_dump(dict(node.settings), sort_keys=False, allow_unicode=True))
        nodes[name] = {"module": node.module, "config": str(path), "parents": list(node.parents)}
        nodes[name]["checkpoint"] = node.checkpoint
    shutil.rmtree(study.own_folder / DONE, ignore_errors=True)
    (study.own_folder / DONE).mkdir(parents=True)
    plan = {
        "cwd": str(Path.cwd()),
        "folder": str(study.folder.resolve()),
        "threads": threads,
        "keep": kept,
        "wanted": nodes_to_run(study.folder, study.nodes),
        "started": time.time(),
    }
    path = study.own_folder / "plan.json"
    write_atomically(path, json.dumps({**plan, "nodes": nodes}, indent=1) + "\n")
    return path


def run(study: Study, jobs: int | None, retries: int, profile: str | None, kept: Kept = "all") -> bool:
    """Run the nodes that are not finished; return True if a signal stopped the engine.

    Args:
        study: The study.
        jobs: Number of nodes that run at the same time. If None, the profile decides; without a profile, 1.
        retries: Number of times that a failed node is started again.
        profile: A Snakemake profile, such as one for SLURM. If None, the nodes run on this machine.
        kept: What is kept of a finished run.

    Raises:
        FileNotFoundError: An encoder is a folder that does not exist.
        ValueError: Another process runs this study, the profile has a key twice, or the plugin of its
            executor is not installed.
    """
    for variant in study.variants.values():
        check_encoder_exists(model_folder(variant.encoder))
    for path in _profile_files(profile) if profile else ():
        _check_executor(read_yaml(path), path)
    # A profile sets the cores of its jobs with set-threads.
    threads = 1 if profile else max(1, (os.cpu_count() or 1) // (jobs or 1))
    study.own_folder.mkdir(parents=True, exist_ok=True)
    with locked(study.own_folder / "lock", 1.0, "folder or name"):
        plan = write(study, threads, kept)
        content = json.loads(plan.read_text(encoding="utf-8"))
        for name in set(content["nodes"]) - set(content["wanted"]):
            tidy(content, name)
        command = _command(plan, jobs, threads, retries, profile)
        if profile:
            return _wait_for(command, os.environ)
        # Without the second, pyarrow starts a thread at import, and the launcher forks.
        own = {"OMP_NUM_THREADS": str(threads), "JE_ARROW_MALLOC_CONF": "background_thread:false"}
        environment = own | os.environ
        with launcher(environment) as address:
            return _wait_for(command, {**environment, ADDRESS: address})


def _profile_files(profile: str) -> Iterator[Path]:
    """Yield the files that Snakemake may read a profile from."""
    own = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    for folder in (Path(), Path(own, "snakemake"), Path("/etc/xdg/snakemake")):
        yield from (folder / profile).glob("config*.yaml")


def _check_executor(profile: object, path: Path) -> None:
    """Check that the plugin of a profile's executor is installed.

    Args:
        profile: Content of the profile.
        path: File of the profile, for the error message.

    Raises:
        ValueError: The plugin is not installed.
    """
    executor = profile.get("executor") if isinstance(profile, dict) else None
    if executor is None or executor in OWN_EXECUTORS:
        return
    plugin = f"snakemake-executor-plugin-{executor}"
    if find_spec(plugin.replace("-", "_")) is None:
        wanted = "-e '.[slurm]'" if executor == "slurm" else plugin
        raise ValueError(
            f"executor {executor!r} in {path} needs the package {plugin}, which is not installed. "
            f"Install the package: pip install {wanted}"
        )


def _command(plan: Path, jobs: int | None, threads: int, retries: int, profile: str | None) -> list[str]:
    """Return Snakemake's command line."""
    if profile:
        where = ["--profile", profile, *(["--jobs", str(jobs)] if jobs else [])]
    else:
        where = ["--cores", str((jobs or 1) * threads), "--jobs", str(jobs or 1)]
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)),
        *("--directory", str(plan.parent.resolve()), *where, "--retries", str(retries)),
        *("--keep-going", "--rerun-incomplete", "--nolock", "--rerun-triggers", "mtime"),
        *("--scheduler", "greedy"),  # nodes of a rule are alike: the solver gains nothing
        *("--quiet", "rules", "--", "all"),
    ]


def _wait_for(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Run the command; return True if a signal arrived and was forwarded, so that the nodes save.

    Raises:
        KeyboardInterrupt: The signal was Ctrl-C.
    """
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, preexec_fn=stopping_with_parent()
    )
    with _forward_signals(process) as received:
        process.wait()
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    return bool(received)


@contextlib.contextmanager
def _forward_signals(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Forward signals to the process's group while the process runs; yield the received signals."""
    received: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)

    numbers = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, forward) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

"""Two SLURM nodes on this machine: a job that is requeued in the middle has the curve of an undisturbed one.

`make test-slurm` runs it, as root on Debian, and installs what is missing.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, Command, StudyKeys
from test_fit import assert_same_weights, events, steps, timeless, weights

from xlt.studies.analysis.collect import missing_of
from xlt.studies.design.plan import Study

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.environ.get("XLT_TEST_SLURM") != "1", reason="make test-slurm runs it"),
]

CONFIG = """
ClusterName=xlt
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
MinJobAge=600
TaskPlugin=task/none
SelectType=select/linear
ReturnToService=2
JobRequeue=1
KillWait=30
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""

CHANGES = {
    "trainer.devices": None,
    "trainer.max_steps": 400,
    "trainer.val_check_interval": 100,
    "checkpoints.every_n_steps": 50,
    "trainer.log_every_n_steps": 5,
}

PROFILE = """
executor: slurm
jobs: 2
slurm-requeue: true
slurm-no-account: true
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 5
default-resources:
  runtime: 60
  mem_mb: 500
"""

Slurm = Callable[..., str]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(condition: Callable[[], bool], what: str, limit: float = 240) -> None:
    """Return once it holds."""
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, f"{what} has not come in {limit} s"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Runs a command of SLURM's in a cluster of two nodes, and returns its output."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "n1", "n2"):
        (folder / name).mkdir()
    port, first, second = free_ports(3)
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(host=socket.gethostname(), folder=folder, port=port, first=first, second=second)
    )
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    own = {**os.environ, "SLURM_CONF": str(config), "PYTHON": sys.executable}
    # Both nodes are this machine.
    own |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "WANDB_MODE": "disabled"}
    munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = [["munged", "--foreground", "--force", f"--key-file={key}", *munge]]
    daemons += [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    running = []

    def command(*words: str) -> str:
        done = subprocess.run(words, env=own, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    # Snakemake's jobs hand no SLURM_CONF on to their steps.
    default = Path("/etc/slurm/slurm.conf")
    default.parent.mkdir(exist_ok=True)
    default.symlink_to(config)
    try:
        for words in daemons:
            running.append(subprocess.Popen(words, env=own, stderr=subprocess.DEVNULL))
            time.sleep(1)
        wait_for(lambda: "idle" in command("sinfo", "-h", "-o", "%T"), "an idle cluster", 60)
        yield command
    finally:
        default.unlink()
        for daemon in reversed(running):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)


def submit(slurm: Slurm, args: list[str], log: Path) -> str:
    """Submit the repository's own script for two nodes; return the job's number."""
    script = str(REPOSITORY / "scripts" / "slurm" / "fit.sbatch")
    options = ["--parsable", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", f"--output={log}"]
    return slurm("sbatch", *options, script, *args).strip()


def state(slurm: Slurm, job: str) -> str:
    """SLURM's word for where a job is."""
    found = slurm("scontrol", "show", "job", job)
    return found.partition("JobState=")[2].split()[0]


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_job_of_two_nodes_that_is_requeued_has_the_curve_of_an_undisturbed_one(
    slurm: Slurm, tiny_run: Command, tmp_path: Path, name: str
):
    calm, struck, log = tmp_path / "calm" / "run", tmp_path / "struck" / "run", tmp_path / "job.log"
    for folder in (calm, struck):
        folder.parent.mkdir()
    first = submit(slurm, tiny_run(calm, CHANGES), tmp_path / "calm.log")
    wait_for(lambda: state(slurm, first) == "COMPLETED", "the undisturbed job's end")
    job = submit(slurm, tiny_run(struck, CHANGES), log)
    record = struck / "metrics.jsonl"
    wait_for(lambda: record.is_file() and len(steps(struck)) >= 20, "twenty steps")
    slurm("scancel", f"--signal={name}", job)
    wait_for(lambda: state(slurm, job) == "PENDING", f"the requeueing\n{log.read_text()}")
    stopped = steps(struck)[-1]["step"]
    assert 20 <= stopped < 400
    assert (struck / "checkpoints" / f"step-{stopped:09d}.ckpt").is_file()
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: state(slurm, job) == "COMPLETED", "the end")
    assert timeless(events(struck)) == timeless(events(calm))
    assert_same_weights(weights(struck), weights(calm))
    print(log.read_text())


def job_of(slurm: Slurm, rule: str) -> str:
    """Number of the job in the queue that runs a rule."""
    lines = [line.split(maxsplit=1) for line in slurm("squeue", "--noheader", "--format=%A %k").splitlines()]
    (found,) = [number for number, comment in lines if rule in comment]
    return found


def test_a_study_whose_node_is_preempted_goes_on_with_it(slurm: Slurm, study_keys: StudyKeys, tmp_path: Path):
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(PROFILE)
    keys = study_keys(folder=tmp_path / "runs", seeds=[0], volumes=[9], name="slurm")
    keys["intermediate"] = {"mnli": keys["intermediate"]["mnli"]}
    keys["fit_intermediate"] = {"trainer": {"max_steps": 3000, "val_check_interval": 1000}}
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump({**keys, "folder": str(keys["folder"])}))
    words = [sys.executable, "-m", "xlt.study", f"--config={config}", f"--profile={profile}", "--retries=0"]
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(slurm, *words)
        struck = "intermediate-mnli-9-s0-*"
        wait_for(lambda: whole.done() or any(keys["folder"].glob(f"{struck}/metrics.jsonl")), "a step")
        assert not whole.done(), whole.result()
        job = job_of(slurm, "intermediate")
        slurm("scancel", "--signal=TERM", job)
        wait_for(lambda: state(slurm, job) == "PENDING", "the requeueing")
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
        print(whole.result())
    log = next(keys["folder"].glob(f"logs/{struck}.txt")).read_text()
    print(log)
    assert "continuing from" in log
    assert not [line for line in missing_of(Study(**keys)) if line.what in Study(**keys).nodes]

"""Signals: a run told to stop saves, ends with 75, and goes on as if nothing had been."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from commands import HANG, launch, strike
from conftest import REPOSITORY, Command
from struck import CHANGES, DDP, ON, Calm, assert_same, last_step

from tests.stress.faults import Fault, ended
from xlt.config.run_command import run_command
from xlt.system.signals import INTERRUPTED, STOPPED
from xlt.training.checkpoint_files import fault_of, path_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def calm(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return Calm(tiny_run, tmp_path_factory.mktemp("calm"))


STOPS = {
    1: [
        Fault(2),
        Fault(2, signal="SIGUSR1", times=2),
        Fault(1, "validation"),
        Fault(1, "save", "SIGUSR1"),
        Fault(1, "sync"),
        Fault(1, "delete"),
    ],
    2: [
        Fault(2),
        Fault(2, rank=1, signal="SIGUSR1"),
        Fault(2, rank=-1, times=2),
        Fault(2, whole=True),
        Fault(1, "validation", rank=1),
        Fault(1, "save"),
    ],
}
"""On so many processes, one after the other; the steps count from where the run is."""


@pytest.mark.timeout(15 * HANG)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_told_to_stop_saves_says_75_and_goes_on(
    tiny_run: Command, calm: Calm, tmp_path: Path, processes: int
):
    folder = tmp_path / "run"
    args = tiny_run(folder, {**CHANGES, **ON[processes]})
    for fault in STOPS[processes]:
        before = last_step(folder)
        step = before + fault.step
        code, output = strike(args, replace(fault, step=step))
        assert code == STOPPED, f"{fault}: {output}"
        # It stops after the step, at the latest after the next validation and the step after that; the thread
        # that finishes a save may be behind by as much as the machine is starved.
        latest = CHANGES["trainer.max_steps"] - 1 if fault.place in ("sync", "delete") else step + 5
        assert step <= last_step(folder) <= latest, fault
        assert not fault_of(path_of(folder / "checkpoints", last_step(folder)))
        assert not (folder / "results.json").exists()
    code, output = launch(args)
    assert code == 0, output
    assert_same(folder, calm(processes))


@pytest.mark.timeout(5 * HANG)
def test_processes_that_load_batches_do_not_fail_the_run_that_is_told_to_stop_with_them(
    tiny_run: Command, calm: Calm, tmp_path: Path
):
    args = tiny_run(tmp_path / "run", {**CHANGES, "data.num_workers": 2})
    for name in ("SIGTERM", "SIGUSR1"):
        step = last_step(tmp_path / "run") + 5
        code, output = strike(args, Fault(step, signal=name, whole=True))
        assert code == STOPPED, output
    code, output = launch(args)
    assert code == 0, output
    assert_same(tmp_path / "run", calm(1))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_before_training_ends_all_processes_with_75(tiny_run: Command, tmp_path: Path, rank: int):
    args = tiny_run(tmp_path / "run", {**CHANGES, **DDP})
    code, output = strike(args, Fault(0, "start", rank=rank))
    assert code == STOPPED, output
    assert "before training" in output


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
@pytest.mark.parametrize(
    ("verb", "name"), [("xlt.fit", "SIGTERM"), ("xlt.fit", "SIGUSR1"), ("xlt.evaluate", "SIGTERM")]
)
def test_a_signal_while_the_command_is_being_imported_ends_it_with_75(
    tiny_run: Command, tmp_path: Path, verb: str, name: str
):
    words = [sys.executable, "-m", verb, *tiny_run(tmp_path / "run", CHANGES)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(words, text=True, cwd=REPOSITORY, start_new_session=True, **pipes)
    number = signal.Signals[name]
    while not caught(process.pid) >> (number - 1) & 1:
        assert process.poll() is None
    process.send_signal(number)
    code, output = ended(process, HANG)
    assert code == STOPPED, output
    assert not (tmp_path / "run").exists()


def caught(pid: int) -> int:
    """The signals that a process catches, a bit each."""
    found = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[0], 16)


@pytest.mark.timeout(8 * HANG)
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_saves_says_how_to_continue_and_goes_on(
    tiny_run: Command, calm: Calm, tmp_path: Path, processes: int
):
    folder = tmp_path / "run"
    args = tiny_run(folder, {**CHANGES, **ON[processes], "data.num_workers": 1})
    # Twice at once is what a launcher makes of one Ctrl-C.
    code, output = strike(args, Fault(6, signal="SIGINT", whole=True, times=2))
    assert code == STOPPED, output
    step = last_step(folder)
    assert 6 <= step <= 11
    saved = f"SIGINT: saved after step {step}; the same command continues from there"
    assert output.count(saved) == (folder / "log.txt").read_text().count(saved) == 1
    assert "Traceback" not in output
    assert not fault_of(path_of(folder / "checkpoints", step))
    code, output = launch(args)
    assert code == 0, output
    assert_same(folder, calm(processes))


@pytest.mark.timeout(5 * HANG)
def test_torchrun_passes_ctrl_c_on_and_every_rank_saves(tiny_run: Command, calm: Calm, tmp_path: Path):
    folder = tmp_path / "run"
    args = tiny_run(folder, {**CHANGES, **DDP, "trainer.max_steps": 48, "data.cache": tmp_path / "cache"})
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "xlt.fit", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    process = subprocess.Popen(
        words, text=True, cwd=REPOSITORY, start_new_session=True, env=environment, **pipes
    )
    while last_step(folder) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, output = ended(process, HANG)
    step = last_step(folder)
    assert 4 <= step < 48
    assert output.count(f"SIGINT: saved after step {step}; the same command continues from there\n") == 1
    assert output.count("the run stops after this step") == 1
    assert not fault_of(path_of(folder / "checkpoints", step))
    code, output = launch(args)
    assert code == 0, output
    assert_same(folder, calm(2))


@pytest.mark.timeout(5 * HANG)
def test_the_line_after_ctrl_c_names_the_command_that_resumes_the_run(
    tiny_run: Command, calm: Calm, tmp_path: Path
):
    folder = tmp_path / "a run"
    process = started("xlt.fit", tiny_run(folder, CHANGES), "task ")
    while last_step(folder) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    code, output = interrupted(process)
    assert code == STOPPED, output
    (line,) = (line for line in output.splitlines() if ": saved after step " in line)
    command = shlex.split(line.partition("continues from there: ")[2])
    assert command[1:3] == ["-m", "xlt.fit"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=HANG)
    assert_same(folder, calm(1))


def test_ctrl_c_while_rows_are_encoded_is_one_line_and_ends_at_once(tiny_run: Command, tmp_path: Path):
    args = tiny_run(tmp_path / "run", {**CHANGES, "data.cache": tmp_path / "cache"})
    process = started("xlt.fit", args, "encoding squad_v1")
    code, output = interrupted(process)
    assert code == STOPPED, output
    assert output == "error: SIGINT before training: start the run again with the same command\n"


def started(module: str, args: list[str], until: str) -> "subprocess.Popen[str]":
    """A command in a session of its own, once it has printed a line that begins so."""
    words = [sys.executable, "-u", "-m", module, *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(words, text=True, cwd=REPOSITORY, start_new_session=True, **pipes)
    assert process.stdout
    lines: list[str] = []
    while not (lines and lines[-1].startswith(until)):
        line = process.stdout.readline()
        assert line, lines
        lines.append(line)
    return process


def interrupted(process: "subprocess.Popen[str]") -> tuple[int | None, str]:
    """Press Ctrl-C; the exit code and what the command prints from then on, without lines about encoding."""
    os.killpg(process.pid, signal.SIGINT)
    code, output = ended(process, HANG)
    return code, "".join(f"{line}\n" for line in output.splitlines() if not line.startswith("encoding "))


def test_ctrl_c_while_rows_are_prepared_is_one_line_and_130(tiny_run: Command, tmp_path: Path):
    args = tiny_run(tmp_path / "run", {**CHANGES, "data.cache": tmp_path / "cache"})
    process = started("xlt.prepare", args, "encoding squad_v1")
    code, output = interrupted(process)
    assert code == 130, output
    assert output == f"{INTERRUPTED}\n"
    assert any((tmp_path / "cache").rglob("*.json")), "what was encoded before stays"


def test_ctrl_c_before_training_ends_all_processes_with_one_line(tiny_run: Command, tmp_path: Path):
    args = tiny_run(tmp_path / "run", {**CHANGES, **DDP})
    code, output = strike(args, Fault(0, "start", signal="SIGINT", whole=True))
    assert code == STOPPED, output
    assert output.count("SIGINT before training: start the run again with the same command") == 1
    assert "Traceback" not in output


TWICE = """
import os, signal, time
from xlt.system.signals import SignalWatcher
with SignalWatcher() as watch:
    watch.is_training = True
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    time.sleep(600)
"""


def test_a_second_ctrl_c_ends_the_process_at_once():
    words = [sys.executable, "-c", TWICE]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 130
    assert done.stderr.splitlines() == [
        "SIGINT: the run stops after this step; Ctrl-C again ends it at once",
        "error: a second SIGINT: the same command resumes from the last checkpoint",
    ]


VERBS = ["xlt.prepare", "xlt.export", "xlt.evaluate", "xlt.study", "xlt.wandb_sync", "xlt.study_dashboard"]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c_while_a_command_is_being_imported_is_one_line(verb: str):
    words = [sys.executable, "-m", verb, "--no_such_key"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(words, text=True, cwd=REPOSITORY, start_new_session=True, **pipes)
    # Python's own handler catches SIGINT from the beginning; SIGTERM is caught with it.
    while not caught(process.pid) >> (signal.SIGTERM - 1) & 1:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, output = ended(process, HANG)
    assert code == 130, output
    assert output == "stopped by SIGINT; the same command resumes from the work that is finished\n"


def test_ctrl_c_unwinds_a_command(tmp_path: Path):
    left = []

    def verb(_: object) -> None:
        with passing_folder(tmp_path / "scratch") as folder:
            left.append(folder)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    assert run_command(verb, []) == 130
    assert not left[0].exists()


@contextlib.contextmanager
def passing_folder(path: Path) -> Iterator[Path]:
    """A folder that goes with the block."""
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


LINGERS = """
import atexit, sys, time
from xlt.system.signals import limit_shutdown
atexit.register(time.sleep, 6000)
with limit_shutdown(1):
    sys.exit(75)
"""


def test_what_lingers_after_a_run_is_cut_short_and_its_exit_code_kept():
    words = [sys.executable, "-c", LINGERS]
    done = subprocess.run(words, cwd=REPOSITORY, timeout=HANG, check=False)
    assert done.returncode == STOPPED

"""Signals and deaths: a run told to stop saves, ends with 75, and goes on as if nothing had been."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY, Command
from test_fit import DDP, assert_close, assert_same_weights, events, steps, timeless, weights

from benchmarks.faults import Fault, ended
from xlt.training.checkpoints import fault_of, path_of
from xlt.training.watch import STOPPED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

HANG = 600
"""Seconds after which a command counts as hanging; one takes ten seconds, or minutes on a starved machine."""

CHANGES = {
    "data.tasks": "[mnli, squad_v1, ccg]",
    "trainer.max_steps": 48,
    "trainer.val_check_interval": 4,
    "trainer.log_every_n_steps": 4,
    "checkpoints.every_n_steps": 3,
    "preemption.time_limit": 45,
}
"""A run with a validation every four steps, and a checkpoint every three and after the best."""


def command(args: list[str], fault: Fault | None = None) -> subprocess.Popen[str]:
    """The command in a session of its own, to be struck as told."""
    inherited = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.faults", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**inherited, **(fault.environment() if fault else {})},
        cwd=REPOSITORY,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def calm(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of the undisturbed run on so many processes."""
    made: dict[int, Path] = {}

    def folder(processes: int) -> Path:
        if processes not in made:
            made[processes] = tmp_path_factory.mktemp("calm") / "run"
            code, output = ended(command(tiny_run(made[processes], {**CHANGES, **ON[processes]})), HANG)
            assert code == 0, output
        return made[processes]

    return folder


ON = {1: {}, 2: DDP}
"""Keys for so many processes."""


def last_step(folder: Path) -> int:
    """Of the record."""
    found = steps(folder) if (folder / "metrics.jsonl").is_file() else []
    return found[-1]["step"] if found else 0


def assert_same(folder: Path, other: Path) -> None:
    """The two records are one, event for event, and the weights are the same bits."""
    assert timeless(events(folder)) == timeless(events(other))
    assert_same_weights(weights(folder), weights(other))


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
    tiny_run: Command, calm: Callable[[int], Path], tmp_path: Path, processes: int
):
    folder = tmp_path / "run"
    args = tiny_run(folder, {**CHANGES, **ON[processes]})
    for fault in STOPS[processes]:
        before = last_step(folder)
        step = before + fault.step
        code, output = ended(command(args, replace(fault, step=step)), HANG)
        assert code == STOPPED, f"{fault}: {output}"
        # It stops after the step, at the latest after the next validation and the step after that.
        assert step <= last_step(folder) <= step + 5, fault
        assert not fault_of(path_of(folder / "checkpoints", last_step(folder)))
        assert not (folder / "results.json").exists()
    code, output = ended(command(args), HANG)
    assert code == 0, output
    assert_same(folder, calm(processes))


@pytest.mark.timeout(5 * HANG)
def test_processes_that_load_batches_do_not_fail_the_run_that_is_told_to_stop_with_them(
    tiny_run: Command, calm: Callable[[int], Path], tmp_path: Path
):
    args = tiny_run(tmp_path / "run", {**CHANGES, "data.num_workers": 2})
    for name in ("SIGTERM", "SIGUSR1"):
        step = last_step(tmp_path / "run") + 5
        code, output = ended(command(args, Fault(step, signal=name, whole=True)), HANG)
        assert code == STOPPED, output
    code, output = ended(command(args), HANG)
    assert code == 0, output
    assert_same(tmp_path / "run", calm(1))


DEATHS = [
    Fault(2, signal="SIGKILL", rank=1),
    Fault(2, signal="SIGKILL", rank=0),
    Fault(1, "validation", "SIGKILL", rank=1),
    Fault(1, "save", "SIGKILL", rank=0),
    Fault(-999, "start", "SIGKILL", rank=1),
    Fault(-999, "start", "SIGKILL", rank=0),
    Fault(2, signal="SIGSTOP", rank=1),
]
"""On two processes, one after the other; the last freezes a process, which open connections do not tell."""


@pytest.mark.timeout(15 * HANG)
def test_a_dead_process_brings_the_other_down_and_the_run_goes_on(
    tiny_run: Command, calm: Callable[[int], Path], tmp_path: Path
):
    folder = tmp_path / "run"
    args = tiny_run(folder, {**CHANGES, **DDP})
    for fault in DEATHS:
        step = last_step(folder) + fault.step
        code, output = ended(command(args, replace(fault, step=step)), HANG)
        assert code not in (None, 0, STOPPED), f"{fault}: {output}"
    code, output = ended(command(args), HANG)
    assert code == 0, output
    assert_same(folder, calm(2))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_before_training_ends_all_processes_with_75(tiny_run: Command, tmp_path: Path, rank: int):
    args = tiny_run(tmp_path / "run", {**CHANGES, **DDP})
    code, output = ended(command(args, Fault(0, "start", rank=rank)), HANG)
    assert code == STOPPED, output
    assert "before training" in output


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_while_the_command_is_being_imported_ends_it_with_75(
    tiny_run: Command, tmp_path: Path, name: str
):
    words = [sys.executable, "-m", "xlt.fit", *tiny_run(tmp_path / "run", CHANGES)]
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


LINGERS = """
import atexit, sys, time
from xlt.training.watch import bounded_end
atexit.register(time.sleep, 600)
with bounded_end(1):
    sys.exit(75)
"""


def test_what_lingers_after_a_run_is_cut_short_and_its_exit_code_kept():
    words = [sys.executable, "-c", LINGERS]
    done = subprocess.run(words, cwd=REPOSITORY, timeout=HANG, check=False)
    assert done.returncode == STOPPED


# Other numbers of processes


@pytest.mark.timeout(5 * HANG)
def test_a_run_goes_on_with_one_two_and_four_processes(tiny_run: Command, tmp_path: Path):
    """The seed of the draws is fixed; benchmarks.chaos takes others."""
    numbers = random.Random(7)
    given = {
        **CHANGES,
        "seed_everything": numbers.randrange(100),
        "data.temperature": numbers.choice([1, 2, 5]),
        "data.batches_per_step": 4,
        "data.tokens_per_batch": numbers.randrange(256, 1024),
    }
    code, output = ended(command(tiny_run(tmp_path / "calm", given)), HANG)
    assert code == 0, output
    for processes in (4, 1, 2):
        step = last_step(tmp_path / "run") + numbers.randint(1, 3)
        args = tiny_run(tmp_path / "run", {**given, **DDP, "trainer.devices": processes})
        code, output = ended(command(args, Fault(step, rank=processes - 1)), HANG)
        assert code == STOPPED, output
    code, output = ended(command(tiny_run(tmp_path / "run", {**given, **DDP})), HANG)
    assert code == 0, output
    assert_close(tmp_path / "run", tmp_path / "calm")

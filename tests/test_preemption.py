"""Signals and deaths: a run told to stop saves, ends with 75, and goes on as if nothing had been."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Command
from test_fit import DDP, assert_same_weights, events, steps, timeless, weights

from benchmarks.faults import Fault, ended
from xlt.training.watch import STOPPED

pytestmark = pytest.mark.slow

HANG = 150
"""Seconds after which a command counts as hanging; the longest here takes 40 on a busy machine."""

CHANGES = {
    "data.tasks": "[mnli, squad_v1, ccg]",
    "trainer.max_steps": 12,
    "trainer.val_check_interval": 4,
    "trainer.log_every_n_steps": 4,
    "checkpoints.every_n_steps": 5,
    "preemption.time_limit": 20,
}
"""A short run with a validation after steps 4, 8 and 12, and checkpoints after 5, 10 and the best."""


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


Run = Callable[..., tuple[int | None, str]]


@pytest.fixture
def strike(tiny_run: Command, tmp_path: Path) -> Run:
    """Runs the command in the test's folder."""

    def go(fault: Fault | None = None, changes: Mapping[str, Any] | None = None) -> tuple[int | None, str]:
        return ended(command(tiny_run(tmp_path / "run", {**CHANGES, **(changes or {})}), fault), HANG)

    return go


@pytest.fixture(scope="module")
def calm(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of the undisturbed run on so many processes."""
    made: dict[int, Path] = {}

    def folder(processes: int) -> Path:
        if processes not in made:
            made[processes] = tmp_path_factory.mktemp("calm") / "run"
            args = tiny_run(made[processes], {**CHANGES, **(DDP if processes == 2 else {})})
            code, output = ended(command(args), HANG)
            assert code == 0, output
        return made[processes]

    return folder


def assert_same(folder: Path, other: Path) -> None:
    """The two records are one, event for event, and the weights are the same bits."""
    assert timeless(events(folder)) == timeless(events(other))
    assert_same_weights(weights(folder), weights(other))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize(
    ("place", "step", "saved"),
    [("step", 6, 6), ("validation", 4, 5), ("save", 5, 6), ("sync", 5, 6), ("step", 4, 4)],
)
def test_one_process_told_to_stop_saves_and_goes_on(
    strike: Run, calm: Callable[[int], Path], tmp_path: Path, name: str, place: str, step: int, saved: int
):
    code, output = strike(Fault(step, place, name))
    assert code == STOPPED, output
    # The first checkpoint that a signal at the end of a step can make is that of the step itself.
    assert steps(tmp_path / "run")[-1]["step"] >= saved
    assert (tmp_path / "run" / "checkpoints" / f"step-{saved:09d}.ckpt").is_file()
    code, output = strike()
    assert code == 0, output
    assert_same(tmp_path / "run", calm(1))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(6, rank=0), id="first"),
        pytest.param(Fault(6, rank=1), id="second"),
        pytest.param(Fault(6, rank=-1), id="both"),
        pytest.param(Fault(6, whole=True), id="at_once"),
        pytest.param(Fault(6, rank=1, signal="SIGUSR1"), id="second_by_usr1"),
        pytest.param(Fault(4, "validation", rank=1), id="second_in_validation"),
        pytest.param(Fault(5, "save"), id="in_save"),
        pytest.param(Fault(6, rank=-1, times=2), id="twice"),
    ],
)
def test_two_processes_agree_on_a_step_save_and_go_on(
    strike: Run, calm: Callable[[int], Path], tmp_path: Path, fault: Fault
):
    code, output = strike(fault, DDP)
    assert code == STOPPED, output
    last = steps(tmp_path / "run")[-1]["step"]
    assert fault.step <= last <= fault.step + 2
    assert (tmp_path / "run" / "checkpoints" / f"step-{last:09d}.ckpt").is_file()
    code, output = strike(None, DDP)
    assert code == 0, output
    assert_same(tmp_path / "run", calm(2))

"""Deaths and other numbers of processes: the run goes on, and nothing is lost."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from commands import HANG, launch, strike
from conftest import Command
from struck import CHANGES, DDP, assert_same, last_step
from test_fit import assert_close

from tests.stress.faults import Fault
from xlt.system.signals import STOPPED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


DEATHS = [
    Fault(2, signal="SIGKILL", rank=1),
    Fault(1, "validation", "SIGKILL", rank=1),
    Fault(1, "save", "SIGKILL", rank=0),
    Fault(-999, "start", "SIGKILL", rank=0),
    Fault(2, signal="SIGSTOP", rank=1),
]
"""On two processes, one after the other; the last freezes a process, which open connections do not tell."""


@pytest.mark.timeout(15 * HANG)
def test_a_dead_process_brings_the_other_down_and_the_run_goes_on(tiny_run: Command, tmp_path: Path):
    folder, given = tmp_path / "run", {**CHANGES, **DDP, "trainer.max_steps": 24}
    code, output = launch(tiny_run(tmp_path / "calm", given))
    assert code == 0, output
    args = tiny_run(folder, given)
    for fault in DEATHS:
        step = last_step(folder) + fault.step
        is_frozen = fault.signal == "SIGSTOP"
        sooner = ["--preemption.grace_seconds=15"] if is_frozen else []
        code, output = strike([*args, *sooner], replace(fault, step=step))
        assert code not in (None, 0, STOPPED), f"{fault}: {output}"
        assert ("rank 1 has sent no heartbeat for 15 s" in output) == is_frozen, f"{fault}: {output}"
    code, output = launch(args)
    assert code == 0, output
    assert_same(folder, tmp_path / "calm")


# Other numbers of processes


@pytest.mark.timeout(5 * HANG)
def test_a_run_goes_on_with_one_two_and_four_processes(tiny_run: Command, tmp_path: Path):
    """The seed of the draws is fixed; tests.stress.chaos takes others."""
    numbers = random.Random(7)
    given = {
        **CHANGES,
        "seed_everything": numbers.randrange(100),
        "data.temperature": numbers.choice([1, 2, 5]),
        "data.micro_batches_per_step": 4,
        "data.tokens_per_micro_batch": numbers.randrange(256, 1024),
    }
    code, output = launch(tiny_run(tmp_path / "calm", given))
    assert code == 0, output
    for processes in (4, 1, 2):
        step = last_step(tmp_path / "run") + numbers.randint(1, 3)
        args = tiny_run(tmp_path / "run", {**given, **DDP, "trainer.devices": processes})
        code, output = strike(args, Fault(step, rank=processes - 1))
        assert code == STOPPED, output
    code, output = launch(tiny_run(tmp_path / "run", {**given, **DDP}))
    assert code == 0, output
    assert_close(tmp_path / "run", tmp_path / "calm")

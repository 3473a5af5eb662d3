"""A destroyed encoder is named while the run trains; nothing else is."""

import math
from pathlib import Path

import pytest
import torch
from conftest import Command, run
from test_not_finite import SHORT, at

from xlt.batch.batch import Batch
from xlt.module import TransferModule
from xlt.training import gradient_watch
from xlt.training.gradient_watch import NUM_FIRST, WINDOW, GradientWatch

Step = tuple[str, float, float]
"""Task, loss and norm."""


def warnings_of(steps: list[Step]) -> list[str]:
    watch = GradientWatch()
    found = [watch.add(number, *step) for number, step in enumerate(steps, 1)]
    return [warning for warning in found if warning]


def steady(loss: float, norm: float, windows: int = 2, tasks: tuple[str, ...] = ("hellaswag",)) -> list[Step]:
    return [(tasks[n % len(tasks)], loss, norm) for n in range(windows * WINDOW)]


def test_a_vanished_gradient_is_named_once() -> None:
    (warning,) = warnings_of(steady(1.386, 4.6) + steady(1.386, 0.0013, windows=5))
    assert "median norm is 0.0013 in steps 51 to 75, and was 4.6 before" in warning
    assert "model.learning_rate" in warning
    assert "more model.warmup_steps" in warning


@pytest.mark.parametrize(
    "end",
    [
        steady(0.01, 0.0013),  # The task is learnt.
        steady(1.386, 0.1),  # The gradient is small, but there.
        steady(1.386, math.inf),  # Steps that fp16's scaler has skipped.
    ],
)
def test_what_is_no_destroyed_encoder_is_not_named(end: list[Step]) -> None:
    assert not warnings_of(steady(1.386, 4.6) + end)


def test_each_task_is_compared_with_its_own_first_losses() -> None:
    tasks = ("squad_v1", "mnli")
    losses = {"squad_v1": 5.0, "mnli": 1.1}
    start = [(task, losses[task], norm) for task, _, norm in steady(0, 2.0, tasks=tasks)]
    # A loss of 1.1 is far below SQuAD's first ones, but not below MNLI's.
    assert warnings_of([*start, *steady(1.1, 1e-4, tasks=("mnli",))])
    assert not warnings_of([*start, *steady(1.1, 1e-4, tasks=("squad_v1",))])


def test_a_loss_that_is_zero_at_first_is_no_sign() -> None:
    assert not warnings_of(steady(0.0, 1.0) + steady(0.0, 0.0))


def test_the_first_losses_are_few() -> None:
    falling = [("mnli", 1.1, 2.0)] * NUM_FIRST + [("mnli", 0.5, 2.0)] * (WINDOW - NUM_FIRST)
    assert warnings_of(falling + steady(1.1, 1e-4, tasks=("mnli",)))
    assert not warnings_of(falling + steady(0.5, 1e-4, tasks=("mnli",)))


def test_a_run_names_it_also_after_a_resume(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps before the resume count: without them the gradient has always been as small."""
    monkeypatch.setattr(gradient_watch, "WINDOW", 3)
    whole = TransferModule._loss

    def vanishing(module: TransferModule, batch: Batch) -> torch.Tensor:
        return whole(module, batch) * (1e-5 if module.global_step >= 3 else 1.0)

    def struck(module: TransferModule, loss: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    args = tiny_run(tmp_path, SHORT | {"model.learning_rate": 1e-9, "model.head_learning_rate": 1e-9})
    with monkeypatch.context() as patch:
        patch.setattr(TransferModule, "_loss", vanishing)
        patch.setattr(TransferModule, "_loss", at(5, struck))
        assert run(args) != 0
    assert "vanished" not in (tmp_path / "log.txt").read_text()
    monkeypatch.setattr(TransferModule, "_loss", vanishing)
    assert run(args) == 0
    said = [line for line in (tmp_path / "log.txt").read_text().splitlines() if "vanished" in line]
    assert len(said) == 1
    assert "in steps 4 to 6" in said[0]

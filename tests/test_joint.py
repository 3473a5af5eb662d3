"""The joint step: gradients of all micro-batches but the last are added, and the last loss is returned."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from xlt.learning.joint import joint_loss


def test_all_micro_batches_but_the_last_are_differentiated_inside_the_context():
    weight = torch.tensor(2.0, requires_grad=True)
    events: list[Any] = []

    @contextmanager
    def held() -> Iterator[None]:
        events.append("hold")
        yield
        events.append("release")

    def loss(batch: Any) -> torch.Tensor:
        events.append(batch)
        return batch * weight

    def backward(found: torch.Tensor) -> None:
        events.append("backward")
        found.backward()

    batches: Any = [3.0, 5.0, 7.0]
    last = joint_loss(batches, loss, backward, held())
    assert events == ["hold", 3.0, "backward", 5.0, "backward", "release", 7.0]
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(3 + 5)
    assert last.item() == pytest.approx(7 * 2)
    last.backward()
    assert weight.grad.item() == pytest.approx(3 + 5 + 7)


def test_a_step_of_one_micro_batch_runs_no_backward_pass():
    def backward(_: torch.Tensor) -> None:
        raise AssertionError

    @contextmanager
    def held() -> Iterator[None]:
        yield

    batches: Any = [4.0]
    assert joint_loss(batches, lambda batch: torch.tensor(batch), backward, held()).item() == 4

"""Word embeddings that hold their gradient back, against `nn.Embedding`."""

import pickle
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from xlt.models.kernels.embedding import WordEmbedding, hold_gradients

LAW = settings(deadline=None, max_examples=60, derandomize=True, database=None)
PIECES, WIDTH, PAD = 12, 4, 1


def tables(padding: int | None = PAD) -> tuple[WordEmbedding, nn.Embedding]:
    """A table that holds back, and torch's own with the same weights."""
    torch.manual_seed(0)
    plain = nn.Embedding(PIECES, WIDTH, padding)
    return hold_gradients(deepcopy(plain)), plain


def loss(table: nn.Embedding, ids: Sequence[int]) -> Tensor:
    """A sum whose gradient differs from token to token."""
    states = table(torch.tensor([ids], dtype=torch.long))
    return (states**2 * torch.arange(1.0, states.numel() + 1).view(states.shape)).sum()


def train(table: nn.Embedding, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    """A step's gradient; all but the last micro-batch are held back where the table can."""
    table.zero_grad()
    if isinstance(table, WordEmbedding):
        with table.holding():
            for ids in micro_batches[:-1]:
                loss(table, ids).backward()
        assert table.weight.grad is None
    else:
        for ids in micro_batches[:-1]:
            loss(table, ids).backward()
    loss(table, micro_batches[-1]).backward()
    assert table.weight.grad is not None
    return table.weight.grad.clone()


steps = st.lists(st.lists(st.integers(0, PIECES - 1), max_size=20), min_size=1, max_size=5)


@LAW
@given(steps, st.sampled_from([None, PAD, PIECES - 1]))
def test_a_step_of_micro_batches_has_the_gradient_of_torch(
    micro_batches: list[list[int]], padding: int | None
) -> None:
    ours, theirs = tables(padding)
    torch.testing.assert_close(train(ours, micro_batches), train(theirs, micro_batches))


def test_repeated_ids_add_up() -> None:
    ours, _ = tables()
    ours(torch.tensor([[5, 5, 3]])).sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad[:, 0].tolist() == [0, 0, 0, 1, 0, 2, *[0] * 6]


def test_the_padding_id_has_no_gradient() -> None:
    gradient = train(tables()[0], [[PAD, 3], [PAD, PAD, 4]])
    assert gradient.any(1).nonzero().flatten().tolist() == [3, 4]


def test_an_interrupted_step_leaves_nothing_behind() -> None:
    ours, theirs = tables()

    def interrupted() -> None:
        with ours.holding():
            loss(ours, [2, 3]).backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not ours.is_holding
    torch.testing.assert_close(train(ours, [[4, 5], [6]]), train(theirs, [[4, 5], [6]]))


def test_one_step_leaves_nothing_to_the_next() -> None:
    ours, theirs = tables()
    for _ in range(2):
        torch.testing.assert_close(train(ours, [[4, 5], [6]]), train(theirs, [[4, 5], [6]]))
    assert ours.held == []


def test_gradients_add_up_where_they_are_not_cleared() -> None:
    ours, theirs = tables()
    for table in (ours, theirs):
        for ids in ([2, 3], [3, 4]):
            loss(table, ids).backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def gradient(table: nn.Embedding, ids: Sequence[int]) -> Tensor:
    """The table's own gradient, not a copy, once it is no longer its parameter's."""
    table.zero_grad()
    loss(table, ids).backward()
    found = table.weight.grad
    assert found is not None
    table.zero_grad()
    return found


def test_the_next_gradient_lies_in_the_memory_of_one_given_up() -> None:
    ours, _ = tables()
    places = {gradient(ours, ids).data_ptr() for ids in ([2], [3, 4], [5])}
    assert len(places) == 1


def test_a_gradient_that_someone_keeps_stays_as_it_is() -> None:
    ours, theirs = tables()
    kept = [(gradient(ours, ids), gradient(theirs, ids)) for ids in ([2, 3], [3, 4], [5])]
    for mine, plain in kept:
        torch.testing.assert_close(mine, plain)


def test_two_lookups_of_one_backward_add_up() -> None:
    ours, theirs = tables()
    for table in (ours, theirs):
        (loss(table, [2, 3]) * loss(table, [3, 4, 5])).backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


class Dense(TorchDispatchMode):
    """Counts the gradients of a whole table."""

    count = 0
    makers = (torch.ops.aten.embedding_dense_backward.default, torch.ops.aten.index_add_.default)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in self.makers
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("num", [1, 2, 7])
def test_a_step_makes_one_dense_gradient(num: int) -> None:
    ours, theirs = tables()
    micro_batches = [[2, 3]] * num
    with Dense() as dense:
        train(ours, micro_batches)
        assert dense.count == 1
        train(theirs, micro_batches)
        assert dense.count == 1 + num


def test_the_rows_are_those_of_the_ids() -> None:
    ours, theirs = tables()
    ids = torch.tensor([[0, 11, 1], [5, 5, 2]])
    assert torch.equal(ours(ids), theirs(ids))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_held(mode: Any) -> None:
    ours, theirs = tables()
    with mode(), ours.holding():
        assert torch.equal(ours(torch.tensor([3, 3])), theirs(torch.tensor([3, 3])))
    assert ours.held == []


def test_a_frozen_table_has_no_gradient() -> None:
    ours, _ = tables()
    ours.weight.requires_grad_(False)
    scale = torch.ones(WIDTH, requires_grad=True)
    with ours.holding():
        (ours(torch.tensor([3, 4])) * scale).sum().backward()
    assert ours.weight.grad is None
    assert ours.held == []


def test_the_table_keeps_its_weight_and_its_name() -> None:
    plain = nn.Embedding(PIECES, WIDTH, PAD)
    weight = plain.weight
    ours = hold_gradients(plain)
    assert ours.weight is weight
    assert set(ours.state_dict()) == {"weight"}


def test_a_copy_holds_for_itself() -> None:
    ours, theirs = tables()
    loss(ours, [6]).backward()
    other = deepcopy(ours)
    ours.zero_grad()
    with ours.holding():
        loss(ours, [2, 3]).backward()
        torch.testing.assert_close(train(other, [[4], [5]]), train(theirs, [[4], [5]]))


def test_a_table_that_was_trained_can_be_pickled() -> None:
    ours, _ = tables()
    loss(ours, [2, 3]).backward()
    assert torch.equal(pickle.loads(pickle.dumps(ours)).weight, ours.weight)

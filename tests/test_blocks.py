"""Attention in blocks: where tokens lie, and equality with attention written out a sequence at a time."""

import math
from collections.abc import Sequence
from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import HEADS, SCALING, error, plain_attention, random_states, with_gradients
from torch import Tensor

from xlt.batch.packing import GRAIN, Packing, pack
from xlt.data.sampling.order import seed_of
from xlt.models.kernels import blocks
from xlt.models.kernels.blocks import Side, block_attention, lay_out

LAW = settings(deadline=None, max_examples=60, derandomize=True, database=None)


@st.composite
def sizes(draw: st.DrawFn, most: int = 40) -> tuple[list[int], list[int]]:
    """Queries and keys of each sequence; there may be no query."""
    lengths = draw(st.lists(st.integers(1, most), min_size=1, max_size=12))
    return [draw(st.sampled_from([0, 1, n // 2, n])) for n in lengths], lengths


def sides(counts: Sequence[int], lengths: Sequence[int]) -> tuple[Packing, Side, Side]:
    """The packing, and its blocks of queries and of keys."""
    packing = pack(lengths)
    queries = lay_out(torch.tensor(counts, dtype=torch.long), packing, HEADS)
    return packing, queries, lay_out(packing.lengths, packing, HEADS)


def attend(
    states: Sequence[Tensor], counts: Sequence[int], lengths: Sequence[int], dropout: float = 0.0
) -> Tensor:
    """Attention in blocks."""
    _, queries, keys = sides(counts, lengths)
    query, key, value = states
    return block_attention(query, key, value, queries, keys, SCALING, dropout)


def is_padding(packing: Packing, side: Side) -> list[bool]:
    """Of each slot of each head, whether it is rounded up."""
    found: list[bool] = []
    for (products, slots), floor in zip(side.shapes, side.floors, strict=True):
        sequences = products // HEADS
        rounded = torch.zeros(sequences, slots, dtype=torch.bool)
        if floor is not None:
            assert ((floor == 0) | (floor == -torch.inf)).all()
            assert floor.shape[:3] == (sequences, 1, 1)
            rounded[:, slots - floor.shape[3] :] = floor[:, 0, 0] == -torch.inf
        found += rounded[:, None].expand(-1, HEADS, -1).flatten().tolist()
    return found


@LAW
@given(sizes())
def test_places_are_the_inverse_of_rows(case: tuple[list[int], list[int]]) -> None:
    for side, total in zip(sides(*case)[1:], map(sum, case), strict=True):
        assert side.rows[side.slots].tolist() == list(range(total * HEADS))


@LAW
@given(sizes())
def test_padding_stands_where_and_only_where_no_token_is(case: tuple[list[int], list[int]]) -> None:
    packing, *both = sides(*case)
    for side in both:
        padding = is_padding(packing, side)
        assert len(padding) == len(side.rows)
        assert {i for i, rounded in enumerate(padding) if not rounded} == set(side.slots.tolist())
        assert all(floor is None or bool(floor.any()) for floor in side.floors)


@LAW
@given(sizes())
def test_a_slice_of_a_block_is_one_sequence_and_head(case: tuple[list[int], list[int]]) -> None:
    packing, *both = sides(*case)
    for side, counts in zip(both, case, strict=True):
        starts, rows, padding = [0, *accumulate(counts)], side.rows.tolist(), is_padding(packing, side)
        row = 0
        for block, (products, slots) in zip(packing.blocks, side.shapes, strict=True):
            members = packing.order[block.first : block.first + block.sequences].tolist()
            most = max(counts[member] for member in members)
            assert products == block.sequences * HEADS
            assert slots == (most if most < 2 else min(block.length, math.ceil(most / GRAIN) * GRAIN))
            for member in members:
                for head in range(HEADS):
                    tokens = range(starts[member], starts[member] + counts[member])
                    assert rows[row : row + len(tokens)] == [token * HEADS + head for token in tokens]
                    assert not any(padding[row : row + len(tokens)])
                    row += slots
        assert row == len(rows)


CASES = {
    "one token": ([1], [1]),
    "longest": ([512], [512]),
    "ends": ([512, 1], [512, 1]),
    "all": ([30, 28, 1, 512, 29, 7], [30, 28, 1, 512, 29, 7]),
    "starts": ([1, 1, 1, 1, 1], [30, 512, 1, 29, 28]),
    "some": ([3, 0, 28, 1, 200, 1], [30, 28, 29, 30, 512, 1]),
    "one of two in a block": ([0, 1], [9, 9]),
}


def assert_equal_plain(
    counts: Sequence[int], lengths: Sequence[int], dtype: torch.dtype, tolerance: float
) -> None:
    """Outputs and gradients are those of attention written out, in double precision."""
    states = random_states(counts, lengths, len(lengths), dtype)
    exact = [part.detach().double().requires_grad_() for part in states]
    found = with_gradients(attend(states, counts, lengths), states)
    expected = with_gradients(plain_attention(*exact, counts, lengths), exact)
    scale = max(part.norm().item() for part in expected[1:])
    assert error(found[0], expected[0]) < tolerance
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        # With one key the gradients of queries and keys are 0 but for rounding.
        assert (ours - theirs).norm() < tolerance * max(theirs.norm().item(), 1e-2 * scale)


@pytest.mark.parametrize(("counts", "lengths"), CASES.values(), ids=CASES)
def test_blocks_equal_plain_attention(counts: list[int], lengths: list[int]) -> None:
    assert_equal_plain(counts, lengths, torch.float32, 1e-5)
    assert_equal_plain(counts, lengths, torch.float64, 1e-13)


@LAW
@given(sizes())
def test_blocks_equal_plain_attention_for_any_lengths(case: tuple[list[int], list[int]]) -> None:
    counts, lengths = case
    # At least one query in each block.
    packing = pack(lengths)
    for block in packing.blocks:
        longest = int(packing.order[block.first])
        counts[longest] = max(1, counts[longest])
    assert_equal_plain(counts, lengths, torch.float32, 1e-5)


@pytest.mark.parametrize("counts", [[2, 0], [0, 2], [0, 0]])
def test_a_block_may_have_no_query(counts: list[int]) -> None:
    states = random_states(counts, [8, 3], 0)
    found = with_gradients(attend(states, counts, [8, 3]), states)
    expected = with_gradients(plain_attention(*states, counts, [8, 3]), states)
    assert all(error(*pair) < 1e-5 for pair in zip(found, expected, strict=True))


def test_no_sequence_at_all_has_no_attention() -> None:
    states = random_states([], [], 0)
    assert [part.numel() for part in with_gradients(attend(states, [], []), states)] == [0] * 4


@pytest.mark.parametrize(("counts", "lengths"), [([3, 1, 2], [3, 1, 3]), ([1, 0, 2, 1], [4, 4, 5, 1])])
def test_the_gradient_is_that_of_the_function(counts: list[int], lengths: list[int]) -> None:
    states = random_states(counts, lengths, 1, torch.double)
    assert torch.autograd.gradcheck(lambda *parts: attend(parts, counts, lengths), states)


def test_states_that_are_not_contiguous_and_large_scores() -> None:
    lengths = [5, 9, 8]
    states = [
        (30 * part.detach()).transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
        for part in random_states(lengths, lengths, 2)
    ]
    found = with_gradients(attend(states, lengths, lengths), states)
    expected = with_gradients(plain_attention(*states, lengths, lengths), states)
    assert all(part.isfinite().all() for part in found)
    assert error(found[0], expected[0]) < 1e-4


def test_attention_leaves_its_inputs_as_they_were() -> None:
    states = random_states([4, 2], [4, 3], 3)
    before = [part.detach().clone() for part in states]
    attend(states, [4, 2], [4, 3], dropout=0.5).sum().backward()
    assert all(torch.equal(one, other) for one, other in zip(states, before, strict=True))


# Dropout


@pytest.mark.parametrize(("counts", "lengths"), [CASES["all"], CASES["starts"], CASES["some"]])
def test_with_the_same_masks_dropout_equals_plain_dropout(
    counts: list[int], lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []

    def draw(states: Tensor, probability: float) -> Tensor:
        drawn.append((torch.rand(states.shape) >= probability).to(states.dtype))
        return drawn[-1].clone()

    monkeypatch.setattr(blocks, "keep_mask", draw)
    torch.manual_seed(0)
    states = random_states(counts, lengths, 4)
    found = with_gradients(attend(states, counts, lengths, dropout=0.25), states)
    packing = pack(lengths)
    kept: dict[int, Tensor] = {}
    (mask,), first = drawn, 0
    _, queries, keys = sides(counts, lengths)
    for block, (_, wide), (_, long) in zip(packing.blocks, queries.shapes, keys.shapes, strict=True):
        for member in packing.order[block.first : block.first + block.sequences].tolist():
            part = mask[first : first + HEADS * wide * long].view(HEADS, wide, long)
            kept[member] = part[:, : counts[member], : lengths[member]] / 0.75
            first += part.numel()
    assert first == len(mask)
    exact = [part.detach().double().requires_grad_() for part in states]
    by_sequence = [kept[i].double() for i in range(len(lengths))]
    expected = with_gradients(plain_attention(*exact, counts, lengths, kept=by_sequence), exact)
    assert all(error(*pair) < 1e-5 for pair in zip(found, expected, strict=True))


def test_the_gradient_with_dropout_is_that_of_the_function() -> None:
    states = random_states([3, 1, 2], [3, 2, 4], 5, torch.double)

    def same_masks(*parts: Tensor) -> Tensor:
        torch.manual_seed(6)
        return attend(parts, [3, 1, 2], [3, 2, 4], dropout=0.5)

    assert torch.autograd.gradcheck(same_masks, states)


SEQUENCES, LENGTH = 24, 48
RATE = 0.1


def kept_weights(seed: int | None = None) -> Tensor:
    """Which attention weights are kept, shape (sequences, queries, heads, keys), as 0 and 1.

    Queries of zero weigh all keys alike, and values that are one-hot show each weight.
    """
    lengths = [LENGTH] * SEQUENCES
    zeros = torch.zeros(sum(lengths), HEADS, LENGTH)
    values = torch.eye(LENGTH).repeat(SEQUENCES, 1)[:, None].expand(-1, HEADS, -1)
    if seed is not None:
        torch.manual_seed(seed)
    shown = attend((zeros, zeros, values), lengths, lengths, dropout=RATE)
    levels = shown.unique()
    # 0, or a weight of one LENGTH-th scaled up to the same mean.
    assert levels.tolist() == pytest.approx([0, 1 / (1 - RATE) / LENGTH], rel=2**-15)
    return (shown > 0).double().view(SEQUENCES, LENGTH, HEADS, LENGTH)


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's coefficient."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def test_weights_are_dropped_at_the_rate() -> None:
    kept = kept_weights(seed=0)
    for axis in range(4):
        means = kept.mean([other for other in range(4) if other != axis])
        deviation = (RATE * (1 - RATE) / (kept.numel() / len(means))) ** 0.5
        assert (means - (1 - RATE)).abs().max() < 4.5 * deviation


@pytest.mark.parametrize("axis", range(4), ids=["sequences", "queries", "heads", "keys"])
def test_neighbouring_weights_are_dropped_independently(axis: int) -> None:
    kept = kept_weights(seed=1)
    size = kept.shape[axis] - 1
    one, other = kept.narrow(axis, 0, size), kept.narrow(axis, 1, size)
    assert abs(correlation(one, other)) < 4.5 / one.numel() ** 0.5


def test_steps_and_processes_drop_independently() -> None:
    # Micro-batches 0 and 1 of a step fall to two processes.
    seeds = [seed_of("dropout", 0, step, i) for step in range(4) for i in range(2)]
    masks = torch.stack([kept_weights(seed).flatten() for seed in seeds])
    found = torch.corrcoef(masks).fill_diagonal_(0).abs()
    assert found.max() < 4.5 / masks.shape[1] ** 0.5


def test_two_layers_of_one_pass_drop_independently() -> None:
    one, other = kept_weights(seed=2), kept_weights()
    assert abs(correlation(one, other)) < 4.5 / one.numel() ** 0.5

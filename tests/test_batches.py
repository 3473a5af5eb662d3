"""Which rows make up each micro-batch: every row once an epoch, budgets kept, random access."""

from collections import Counter
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt.data.sampling.batches import (
    RowStream,
    cut_by_tokens,
    nested_subset,
    sorted_batches,
    validation_batches,
)

LAW = settings(deadline=None, max_examples=50, derandomize=True, database=None)


@st.composite
def streams(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int, int]:
    """Lengths of all rows, the rows in use, the budget, micro-batches in a step, and a seed."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=60))
    rows = draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))
    budget = draw(st.integers(max(lengths), 200))
    return (
        np.array(lengths),
        np.array(sorted(rows)),
        budget,
        draw(st.integers(1, 6)),
        draw(st.integers(0, 2**32)),
    )


def as_lists(pieces: list[np.ndarray]) -> list[list[int]]:
    """The pieces as plain lists."""
    return [piece.tolist() for piece in pieces]


def realistic(num_rows: int = 1500) -> np.ndarray:
    """Lengths with a long tail, 5 to 128 tokens."""
    return np.random.default_rng(1).gamma(2.0, 18.0, num_rows).clip(5, 128).astype(np.int32)


@LAW
@given(streams())
def test_steps_read_each_row_once_an_epoch(case: tuple[np.ndarray, np.ndarray, int, int, int]) -> None:
    lengths, rows, budget, parts, seed = case
    stream = RowStream(lengths, rows, budget, parts, seed, "task")
    seen: Counter[int] = Counter()
    for visit in range(30):
        assert stream.epochs_before(visit) == pytest.approx(seen.total() / len(rows), rel=1e-12)
        for piece in stream.step(visit):
            seen.update(piece.tolist())
        # Wherever a step ends, every row has been read as often as whole epochs have passed, or once more.
        whole, begun = divmod(seen.total(), len(rows))
        assert set(seen) <= set(rows.tolist())
        assert Counter(seen[row] for row in rows.tolist()) == Counter(
            {whole: len(rows) - begun, whole + 1: begun} if begun else {whole: len(rows)}
        )


@LAW
@given(streams())
def test_micro_batches_are_as_many_as_asked_none_empty_none_above_the_budget(
    case: tuple[np.ndarray, np.ndarray, int, int, int],
) -> None:
    lengths, rows, budget, parts, seed = case
    stream = RowStream(lengths, rows, budget, parts, seed, "task")
    for visit in range(20):
        pieces = stream.step(visit)
        assert len(pieces) == parts
        assert all(len(piece) > 0 for piece in pieces)
        assert all(lengths[piece].sum() <= budget for piece in pieces)


def smallest_largest(lengths: list[int], parts: int) -> int:
    """The least possible largest sum when a list is cut into at most so many runs: by trying every cut."""
    upto = [0, *accumulate(lengths)]
    best = [0] + [10**9] * len(lengths)
    for _ in range(parts):
        best = [
            min([best[end]] + [max(best[cut], upto[end] - upto[cut]) for cut in range(end)])
            for end in range(len(lengths) + 1)
        ]
    return best[-1]


@LAW
@given(
    st.lists(st.integers(1, 12), min_size=4, max_size=30),
    st.integers(12, 30),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_micro_batches_are_as_equal_as_whole_rows_sorted_by_length_allow(
    lengths: list[int], budget: int, parts: int, seed: int
) -> None:
    stream = RowStream(np.array(lengths), np.arange(len(lengths)), budget, parts, seed, "task")
    for visit in range(6):
        sizes = [[lengths[row] for row in piece] for piece in stream.step(visit)]
        in_order = [length for piece in sizes for length in piece]
        assert in_order == sorted(in_order, reverse=True)
        assert max(map(sum, sizes)) == smallest_largest(in_order, parts)


def test_steps_fill_their_budget() -> None:
    lengths = realistic()
    stream = RowStream(lengths, np.arange(len(lengths)), 1024, 8, 0, "task")
    filled = [sum(int(lengths[p].sum()) for p in stream.step(visit)) / (8 * 1024) for visit in range(60)]
    assert min(filled) > 0.85
    assert sum(filled) / 60 > 0.95


@LAW
@given(streams())
def test_a_fresh_stream_gives_step_57_as_a_sequential_one(
    case: tuple[np.ndarray, np.ndarray, int, int, int],
) -> None:
    lengths, rows, budget, parts, seed = case
    sequential = RowStream(lengths, rows, budget, parts, seed, "task")
    steps = [as_lists(sequential.step(visit)) for visit in range(58)]
    fresh = RowStream(lengths, rows, budget, parts, seed, "task")
    assert as_lists(fresh.step(57)) == steps[57]
    # And back again.
    assert as_lists(fresh.step(3)) == steps[3]
    assert as_lists(fresh.step(57)) == steps[57]


def test_the_order_depends_on_the_key_and_on_nothing_else() -> None:
    lengths = realistic(200)
    rows = np.arange(200)

    def first(*key: object) -> list[list[int]]:
        return as_lists(RowStream(lengths, rows, 512, 2, *key).step(0))

    assert first(0, "mnli") == first(0, "mnli")
    drawn = [first(seed, task) for seed in range(3) for task in ("mnli", "qqp")]
    assert all(one != other for i, one in enumerate(drawn) for other in drawn[:i])


def test_epochs_have_different_orders() -> None:
    lengths, rows = np.full(40, 10), np.arange(40)
    stream = RowStream(lengths, rows, 100, 1, 0, "task")
    epochs = [
        tuple(row for visit in range(4 * e, 4 * e + 4) for row in stream.step(visit)[0]) for e in range(5)
    ]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len(set(epochs)) == 5


def test_long_rows_come_no_sooner_than_short_ones() -> None:
    lengths = realistic()
    mean, deviation = lengths.mean(), lengths.std()
    for seed in range(20):
        pieces = RowStream(lengths, np.arange(len(lengths)), 1024, 8, seed, "task").step(0)
        drawn = lengths[np.concatenate(pieces)]
        assert abs(drawn.mean() - mean) < 4 * deviation / len(drawn) ** 0.5


def test_fewer_rows_than_micro_batches_repeat_within_a_step() -> None:
    stream = RowStream(np.array([9, 9]), np.array([0, 1]), 17, 5, 0, "task")
    pieces = stream.step(0)
    assert [len(piece) for piece in pieces] == [1] * 5
    counts = Counter(row for piece in pieces for row in piece.tolist())
    assert sorted(counts.values()) == [2, 3]
    assert stream.epochs_before(1) == 2.5


@LAW
@given(st.lists(st.integers(1, 50), min_size=1, max_size=50), st.integers(50, 120))
def test_cuts_are_greedy(lengths: list[int], budget: int) -> None:
    cuts = cut_by_tokens(np.cumsum(lengths).tolist(), budget)
    assert cuts[-1] == len(lengths)
    starts = [0, *cuts[:-1]]
    for start, end in zip(starts, cuts, strict=True):
        assert start < end
        assert sum(lengths[start:end]) <= budget
        assert end == len(lengths) or sum(lengths[start : end + 1]) > budget


@LAW
@given(streams())
def test_sorted_batches_hold_each_row_once_within_the_budget(
    case: tuple[np.ndarray, np.ndarray, int, int, int],
) -> None:
    lengths, rows, budget, _, _ = case
    batches = sorted_batches(lengths, rows, budget)
    assert sorted(row for batch in batches for row in batch.tolist()) == rows.tolist()
    assert all(len(batch) > 0 and lengths[batch].sum() <= budget for batch in batches)
    in_order = [int(lengths[row]) for batch in batches for row in batch]
    assert in_order == sorted(in_order, reverse=True)


@LAW
@given(streams())
def test_validation_deals_wider_batches_out_to_every_process(
    case: tuple[np.ndarray, np.ndarray, int, int, int],
) -> None:
    lengths, rows, budget, processes, _ = case
    dealt = validation_batches(lengths, rows, budget, processes)
    assert len(dealt) == processes
    assert len({len(batches) for batches in dealt}) == 1
    every = [batch for batches in dealt for batch in batches]
    assert sorted(row for batch in every for row in batch.tolist()) == rows.tolist()
    assert all(lengths[batch].sum() <= 2 * budget for batch in every)
    # As many as there would be of a micro-batch's size, where that leaves a process without rows.
    idle = sum(len(batch) == 0 for batch in every)
    if idle:
        assert len(every) - idle >= min(processes, len(sorted_batches(lengths, rows, budget)))


def test_validation_on_one_process_takes_twice_the_tokens_of_a_micro_batch() -> None:
    lengths = realistic()
    rows = np.arange(len(lengths))
    (mine,) = validation_batches(lengths, rows, 512, 1)
    assert max(lengths[batch].sum() for batch in mine) > 1000
    assert len(mine) < 0.55 * len(sorted_batches(lengths, rows, 512))


@LAW
@given(st.integers(1, 100), st.integers(0, 120), st.integers(0, 120), st.integers(0, 2**32))
def test_a_smaller_volume_lies_inside_a_larger(num: int, one: int, other: int, seed: int) -> None:
    small, large = sorted((one, other))
    inner, outer = nested_subset(num, small, seed, "task"), nested_subset(num, large, seed, "task")
    assert set(inner.tolist()) <= set(outer.tolist()) <= set(range(num))
    assert len(inner) == min(small, num)
    assert inner.tolist() == sorted(set(inner.tolist()))
    assert outer.tolist() == sorted(set(outer.tolist()))


def test_no_volume_means_every_row() -> None:
    assert nested_subset(7, None, 0, "task").tolist() == list(range(7))


def test_every_example_is_as_likely_in_a_volume() -> None:
    counts = Counter(row for seed in range(2000) for row in nested_subset(10, 3, seed, "task").tolist())
    assert all(abs(counts[row] - 600) < 4 * (2000 * 0.3 * 0.7) ** 0.5 for row in range(10))

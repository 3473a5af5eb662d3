"""The layout of a micro-batch: boundaries, order, blocks of like length."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt.packing import SHRINK, pack

LAW = settings(deadline=None, max_examples=100, derandomize=True, database=None)

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=30)


@LAW
@given(lengths)
def test_lengths_starts_and_boundaries_are_those_of_the_sequences(sizes: list[int]) -> None:
    packing = pack(sizes)
    ends = list(accumulate(sizes))
    assert packing.lengths.tolist() == sizes
    assert packing.starts.tolist() == [0, *ends[:-1]]
    assert packing.boundaries.tolist() == [0, *ends]
    assert packing.longest == max(sizes)


@LAW
@given(lengths)
def test_the_order_is_longest_first_and_equal_lengths_as_they_came(sizes: list[int]) -> None:
    assert pack(sizes).order.tolist() == sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))


@LAW
@given(lengths)
def test_blocks_cut_the_order_end_to_end(sizes: list[int]) -> None:
    blocks = pack(sizes).blocks
    assert blocks[0].first == 0
    assert all(block.sequences > 0 for block in blocks)
    assert all(one.first + one.sequences == other.first for one, other in pairwise(blocks))
    assert blocks[-1].first + blocks[-1].sequences == len(sizes)


@LAW
@given(lengths)
def test_a_block_holds_like_lengths_and_ends_only_where_one_falls_below_the_share(sizes: list[int]) -> None:
    descending = sorted(sizes, reverse=True)
    packing = pack(sizes)
    for block in packing.blocks:
        members = descending[block.first : block.first + block.sequences]
        assert block.length == members[0]
        assert members[-1] >= SHRINK * members[0]
        following = descending[block.first + block.sequences :]
        assert not following or following[0] < SHRINK * members[0]


@LAW
@given(lengths)
def test_rounding_up_costs_less_than_the_share(sizes: list[int]) -> None:
    assert sum(sizes) <= pack(sizes).num_slots <= sum(sizes) / SHRINK + 1e-6


def test_blocks_by_hand() -> None:
    # 0.92 x 25 = 23: 25, 24 and 23 share a block; 22 starts the next, with 21; 20 < 0.92 x 22 = 20.24.
    packing = pack([23, 22, 25, 21, 24, 20, 3])
    assert packing.order.tolist() == [2, 4, 0, 1, 3, 5, 6]
    assert packing.blocks == [(0, 3, 25), (3, 2, 22), (5, 1, 20), (6, 1, 3)]
    assert packing.num_slots == 75 + 44 + 20 + 3


@pytest.mark.parametrize("sizes", [[5], [7, 7, 7], [9, 4, 1], [1]])
def test_sequences_of_one_length_or_far_apart_are_not_rounded_up(sizes: list[int]) -> None:
    assert pack(sizes).num_slots == sum(sizes)


def test_no_sequence_at_all() -> None:
    packing = pack([])
    assert packing.blocks == []
    assert packing.num_slots == packing.longest == 0
    assert packing.boundaries.tolist() == [0]


def test_an_array_packs_as_a_list_does() -> None:
    one, other = pack(np.array([3, 9, 8], np.int32)), pack([3, 9, 8])
    assert one.starts.tolist() == other.starts.tolist() == [0, 3, 12]
    assert one.lengths.dtype == other.lengths.dtype

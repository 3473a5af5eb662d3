"""The layout of a micro-batch: boundaries, order, blocks of like length."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt.batch.packing import GRAIN, LONG, SHRINK, pack

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
def test_a_block_holds_as_many_like_lengths_as_a_power_of_two_allows(sizes: list[int]) -> None:
    descending = sorted(sizes, reverse=True)
    for block in pack(sizes).blocks:
        rest = descending[block.first :]
        grain = GRAIN if rest[0] <= LONG else 2 * GRAIN
        assert block.length % grain == 0
        assert 0 <= block.length - rest[0] < grain
        alike = 1 + sum(size >= SHRINK * block.length for size in rest[1:])
        assert block.sequences.bit_count() == 1
        assert block.sequences <= alike < 2 * block.sequences


@LAW
@given(lengths)
def test_rounding_up_is_bounded(sizes: list[int]) -> None:
    packing = pack(sizes)
    # Within the share, but for the first of a block, which may be up to a grain below its length.
    most = sum(sizes) / SHRINK + (2 * GRAIN - 1) * len(packing.blocks)
    assert sum(sizes) <= packing.num_slots <= most


def test_the_shapes_of_blocks_are_few() -> None:
    generator = np.random.default_rng(0)
    shapes = set()
    for _ in range(2000):
        sizes = generator.integers(8, 385, 24)
        shapes |= {(block.sequences, block.length) for block in pack(sizes).blocks}
    # 16 lengths up to 128 and 16 beyond, and 1, 2, 4, 8 or 16 sequences.
    assert len(shapes) <= 32 * 5


def test_blocks_by_hand() -> None:
    # 0.85 x 48 = 40.8: 45 to 41 are alike, four of them a power of two; 41 starts a block of its own, for
    # 40 and 3 are shorter than 40.8; 40 the next.
    packing = pack([43, 41, 45, 42, 44, 40, 3])
    assert packing.order.tolist() == [2, 4, 0, 3, 1, 5, 6]
    assert packing.blocks == [(0, 4, 48), (4, 1, 48), (5, 1, 40), (6, 1, 8)]
    assert packing.num_slots == 4 * 48 + 48 + 40 + 8


@pytest.mark.parametrize("sizes", [[8], [40, 40], [120, 64, 16], [512, 144]])
def test_whole_grains_are_not_rounded_up(sizes: list[int]) -> None:
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

"""The layout of a micro-batch: slots and places, padding, blocks."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt.packing import SHRINK, Packing, pack

LAW = settings(deadline=None, max_examples=100, derandomize=True, database=None)

lengths = st.lists(st.integers(1, 64), min_size=1, max_size=30)


def slots_of(packing: Packing, num_tokens: int) -> list[int]:
    """The token in each slot."""
    return list(range(num_tokens)) if packing.slots is None else packing.slots.tolist()


def places_of(packing: Packing, num_tokens: int) -> list[int]:
    """The slot of each token."""
    return list(range(num_tokens)) if packing.places is None else packing.places.tolist()


def padding_of(packing: Packing) -> list[bool]:
    """Whether each slot is rounded up."""
    found: list[bool] = []
    for block in packing.blocks:
        if block.is_padding is None:
            found += [False] * (block.sequences * block.length)
        else:
            assert block.is_padding.shape == (block.sequences, 1, 1, block.length)
            found += block.is_padding.flatten().tolist()
    return found


@LAW
@given(lengths)
def test_lengths_starts_and_boundaries_are_those_of_the_sequences(sizes: list[int]) -> None:
    packing = pack(sizes)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    assert packing.lengths.tolist() == sizes
    assert packing.starts.tolist() == [0, *ends[:-1]]
    assert packing.boundaries.tolist() == [0, *ends]
    assert packing.longest == max(sizes)


@LAW
@given(lengths)
def test_places_are_the_inverse_of_slots(sizes: list[int]) -> None:
    packing = pack(sizes)
    slots, places = slots_of(packing, sum(sizes)), places_of(packing, sum(sizes))
    assert (packing.slots is None) == (packing.places is None)
    assert len(slots) == packing.num_slots
    assert [slots[place] for place in places] == list(range(sum(sizes)))
    assert len(set(places)) == sum(sizes)


@LAW
@given(lengths)
def test_padding_stands_exactly_where_no_token_is(sizes: list[int]) -> None:
    packing = pack(sizes)
    padding, places = padding_of(packing), set(places_of(packing, sum(sizes)))
    assert len(padding) == packing.num_slots
    assert {slot for slot, is_padding in enumerate(padding) if not is_padding} == places


@LAW
@given(lengths)
def test_each_row_of_a_block_is_one_sequence_from_its_first_token(sizes: list[int]) -> None:
    packing = pack(sizes)
    slots, padding = slots_of(packing, sum(sizes)), padding_of(packing)
    sequence_of = np.repeat(np.arange(len(sizes)), sizes)
    seen = []
    for block in packing.blocks:
        for row in range(block.sequences):
            first = block.offset + row * block.length
            real = [slots[i] for i in range(first, first + block.length) if not padding[i]]
            sequence = int(sequence_of[real[0]])
            start = sum(sizes[:sequence])
            assert real == list(range(start, start + sizes[sequence]))
            # The row's own tokens come first, its padding last.
            assert padding[first : first + block.length] == [False] * len(real) + [True] * (
                block.length - len(real)
            )
            seen.append(sequence)
    assert sorted(seen) == list(range(len(sizes)))


@LAW
@given(lengths)
def test_blocks_lie_end_to_end_and_hold_sequences_of_like_length(sizes: list[int]) -> None:
    packing = pack(sizes)
    padding, offset = padding_of(packing), 0
    shortest_so_far = max(sizes) + 1
    for block in packing.blocks:
        assert block.offset == offset
        offset += block.sequences * block.length
        rows = np.array(padding[block.offset : offset]).reshape(block.sequences, block.length)
        members = (~rows).sum(1)
        assert members.max() == block.length
        assert all(Fraction(int(member), block.length) >= Fraction(SHRINK) for member in members)
        # A new block begins only where a sequence falls below the share.
        assert block.length < shortest_so_far
        shortest_so_far = int(members.min())
    assert offset == packing.num_slots


@LAW
@given(lengths)
def test_rounding_up_costs_less_than_the_share(sizes: list[int]) -> None:
    assert sum(sizes) <= pack(sizes).num_slots <= sum(sizes) / SHRINK


def test_blocks_by_hand() -> None:
    # 0.875 x 16 = 14: 16, 15 and 14 share a block; 13 starts the next, with 12 (0.875 x 13 = 11.4).
    packing = pack([14, 13, 16, 12, 15, 3])
    assert [(b.offset, b.sequences, b.length) for b in packing.blocks] == [
        (0, 3, 16),
        (48, 2, 13),
        (74, 1, 3),
    ]
    assert packing.num_slots == 77
    assert packing.blocks[2].is_padding is None
    # Tokens start at 0, 14, 27, 43, 55, 70; the longest sequence, tokens 27 to 42, fills the first row.
    assert packing.slots is not None
    assert packing.places is not None
    assert packing.slots[:16].tolist() == list(range(27, 43))
    assert packing.places[0].item() == 32
    assert packing.places[14].item() == 48
    assert packing.places[70].item() == 74


@pytest.mark.parametrize("sizes", [[5], [7, 7, 7], [9, 4, 1], [1]])
def test_sequences_already_in_place_need_no_gather(sizes: list[int]) -> None:
    packing = pack(sizes)
    assert packing.slots is None
    assert packing.places is None
    assert all(block.is_padding is None for block in packing.blocks)


def test_no_sequence_at_all() -> None:
    packing = pack([])
    assert packing.blocks == []
    assert packing.num_slots == packing.longest == 0
    assert packing.boundaries.tolist() == [0]


def test_an_array_packs_as_a_list_does() -> None:
    one, other = pack(np.array([3, 9, 8], np.int32)), pack([3, 9, 8])
    assert one.starts.tolist() == other.starts.tolist() == [0, 3, 12]
    assert one.lengths.dtype == other.lengths.dtype

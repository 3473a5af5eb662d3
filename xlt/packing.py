"""How the sequences of a micro-batch lie end to end, and in which blocks attention reads them.

N tokens, S sequences, P slots (N plus what the blocks round up). Built once a micro-batch from the
lengths alone; the collate fills it and the encoder's attention reads it, so it belongs to neither.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SHRINK = 0.875
"""A block ends where a sequence is shorter than this share of the block's longest."""


class Block(NamedTuple):
    """Sequences of like length that one batched product serves."""

    offset: int
    sequences: int
    length: int
    is_padding: Tensor | None
    """(sequences, 1, 1, length), true at rounded-up slots; None where the lengths are equal."""


class Packing(NamedTuple):
    """The layout of one micro-batch."""

    lengths: Tensor
    """(S,) tokens of each sequence."""
    starts: Tensor
    """(S,) index of the first token of each sequence."""
    boundaries: Tensor
    """(S + 1,) int32 cumulative lengths, as variable-length attention kernels take them."""
    longest: int
    slots: Tensor | None
    """(P,) the token in each slot; None where slots and tokens coincide."""
    places: Tensor | None
    """(N,) the slot of each token; None likewise."""
    blocks: list[Block]

    @property
    def num_slots(self) -> int:
        """Tokens that attention computes, those rounded up included."""
        return sum(block.sequences * block.length for block in self.blocks)


def pack(lengths: Sequence[int] | np.ndarray) -> Packing:
    """Layout of sequences of these lengths (tokens), in their order."""
    sizes = np.asarray(lengths, dtype=np.int64)
    boundaries = np.concatenate([[0], np.cumsum(sizes)])
    order = np.argsort(-sizes, kind="stable")
    blocks, slots, offset = [], [], 0
    for members in _split_by_length(sizes, order):
        length = int(sizes[members[0]])
        columns = np.arange(length)
        is_padding = columns >= sizes[members, None]
        slots.append(np.where(is_padding, 0, boundaries[members, None] + columns).ravel())
        mask = torch.from_numpy(is_padding[:, None, None, :]) if is_padding.any() else None
        blocks.append(Block(offset, len(members), length, mask))
        offset += is_padding.size
    slot_of = np.concatenate(slots) if slots else np.zeros(0, np.int64)
    in_place = np.array_equal(slot_of, np.arange(boundaries[-1]))
    return Packing(
        lengths=torch.from_numpy(sizes),
        starts=torch.from_numpy(boundaries[:-1].copy()),
        boundaries=torch.from_numpy(boundaries.astype(np.int32)),
        longest=int(sizes.max(initial=0)),
        slots=None if in_place else torch.from_numpy(slot_of),
        places=None if in_place else torch.from_numpy(_places(sizes, order, blocks, boundaries)),
        blocks=blocks,
    )


def _split_by_length(sizes: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """Cut the sequences, longest first, wherever one falls below SHRINK of its block's longest."""
    groups, first = [], 0
    while first < len(order):
        fits = sizes[order[first:]] >= SHRINK * sizes[order[first]]
        end = first + int(fits.sum())
        groups.append(order[first:end])
        first = end
    return groups


def _places(sizes: np.ndarray, order: np.ndarray, blocks: list[Block], boundaries: np.ndarray) -> np.ndarray:
    """The slot of each token: the inverse of the slots, padding left out."""
    row_starts = np.concatenate([b.offset + np.arange(b.sequences) * b.length for b in blocks])
    first_slot = np.empty_like(sizes)
    first_slot[order] = row_starts
    return np.repeat(first_slot - boundaries[:-1], sizes) + np.arange(boundaries[-1])

"""How the sequences of a micro-batch lie end to end, and which of them attention computes together.

N tokens, S sequences. Built once a micro-batch from the lengths alone; the collate fills it and the
encoder's attention reads it, so it belongs to neither.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GRAIN = 8
"""A block's length is a multiple of so many tokens, or of twice as many where it is above LONG."""

LONG = 128

SHRINK = 0.85
"""No sequence is shorter than this share of its block's length, but for the block's first."""


class Block(NamedTuple):
    """Sequences of like length that one batched product serves, each rounded up to the block's length."""

    first: int
    """Place of the first of them in the packing's order."""
    sequences: int
    length: int
    """Slots of each, at least the tokens of the longest."""


class Packing(NamedTuple):
    """The layout of one micro-batch."""

    lengths: Tensor
    """(S,) tokens of each sequence."""
    starts: Tensor
    """(S,) index of the first token of each sequence."""
    boundaries: Tensor
    """(S + 1,) int32 cumulative lengths, as variable-length attention kernels take them."""
    order: Tensor
    """(S,) the sequences, longest first."""
    longest: int
    blocks: list[Block]
    """Consecutive sequences of the order."""

    @property
    def num_slots(self) -> int:
        """Tokens that attention computes in blocks, those rounded up included."""
        return sum(block.sequences * block.length for block in self.blocks)


def pack(lengths: Sequence[int] | np.ndarray) -> Packing:
    """Layout of sequences of these lengths (tokens), in their order."""
    sizes = np.asarray(lengths, dtype=np.int64)
    boundaries = np.concatenate([[0], np.cumsum(sizes)])
    order = np.argsort(-sizes, kind="stable")
    return Packing(
        lengths=torch.from_numpy(sizes),
        starts=torch.from_numpy(boundaries[:-1].copy()),
        boundaries=torch.from_numpy(boundaries.astype(np.int32)),
        order=torch.from_numpy(order),
        longest=int(sizes.max(initial=0)),
        blocks=_blocks(sizes[order].tolist()),
    )


def _blocks(descending: list[int]) -> list[Block]:
    """Cut the sequences, longest first, into blocks of few different shapes.

    A library that compiles its products for their shapes, as oneDNN does, meets most of them again: lengths
    are rounded up, and the sequences of a block as many as the largest power of two that are no
    shorter than SHRINK of its length.
    """
    blocks, first = [], 0
    while first < len(descending):
        length = round_up(descending[first])
        alike = 1
        while first + alike < len(descending) and descending[first + alike] >= SHRINK * length:
            alike += 1
        sequences = 1 << alike.bit_length() - 1
        blocks.append(Block(first, sequences, length))
        first += sequences
    return blocks


def round_up(tokens: int) -> int:
    """The length of a block whose longest sequence has so many tokens."""
    grain = GRAIN if tokens <= LONG else 2 * GRAIN
    return -(-tokens // grain) * grain

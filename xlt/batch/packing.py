"""Packing: the layout of a micro-batch's sequences, and the blocks that attention computes together.

N tokens, S sequences. A packing follows from the lengths alone. Collating builds it, attention reads it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GRAIN = 8
"""A block's length is a multiple of GRAIN tokens, or of 2 x GRAIN tokens above LONG tokens."""

LONG = 128
"""Length above which blocks are rounded up more coarsely, in tokens."""

SHRINK = 0.85
"""Minimum length of a sequence as a share of its block's length. The block's first may be shorter."""


class Block(NamedTuple):
    """Sequences of similar length in one batched product, each rounded up to the block's length."""

    first: int
    """Index of the first sequence in the packing's order."""
    sequences: int
    """Number of sequences."""
    length: int
    """Slots of each sequence, at least the tokens of the longest."""


class Packing(NamedTuple):
    """The layout of one micro-batch."""

    lengths: Tensor
    """(S,) number of tokens of each sequence."""
    starts: Tensor
    """(S,) index of the first token of each sequence."""
    boundaries: Tensor
    """(S + 1,) int32 cumulative lengths, for variable-length attention kernels."""
    order: Tensor
    """(S,) indices of the sequences, longest first."""
    longest: int
    """Number of tokens of the longest sequence."""
    blocks: list[Block]
    """Blocks of consecutive sequences in `order`."""

    @property
    def num_slots(self) -> int:
        """Number of slots that attention computes in blocks, rounding included."""
        return sum(block.sequences * block.length for block in self.blocks)


def pack(lengths: Sequence[int] | np.ndarray) -> Packing:
    """Return the packing of sequences of these lengths, in tokens, in the given order."""
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
    """Split the sequences, longest first, into blocks of few different shapes.

    Lengths are rounded up. The number of sequences is the largest power of two whose sequences are no shorter
    than SHRINK of the block's length. Few shapes help libraries that compile products by shape, as
    oneDNN does.
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
    """Return the length of a block whose longest sequence has this number of tokens."""
    grain = GRAIN if tokens <= LONG else 2 * GRAIN
    return -(-tokens // grain) * grain

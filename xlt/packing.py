"""How the sequences of a micro-batch lie end to end, and which of them attention computes together.

N tokens, S sequences. Built once a micro-batch from the lengths alone; the collate fills it and the
encoder's attention reads it, so it belongs to neither.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SHRINK = 0.92
"""A block ends where a sequence is shorter than this share of the block's longest."""


class Block(NamedTuple):
    """Sequences of like length that one batched product serves, each rounded up to the longest."""

    first: int
    """Place of the first of them in the packing's order."""
    sequences: int
    length: int
    """Tokens of the longest."""


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
    """Cut the sequences, longest first, wherever one falls below SHRINK of its block's longest."""
    blocks, first = [], 0
    for place, size in enumerate(descending):
        if size < SHRINK * descending[first]:
            blocks.append(Block(first, place - first, descending[first]))
            first = place
    if descending:
        blocks.append(Block(first, len(descending) - first, descending[first]))
    return blocks

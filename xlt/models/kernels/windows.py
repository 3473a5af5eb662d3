"""Blocks for local attention: a query sees the keys of its sequence up to a distance, its reach.

A sequence that is much longer than the reach is cut into chunks of queries. Each chunk sees its own keys and
those in reach before and after it, so that the work grows with the length and not with its square. The keys
lie in memory once: the slots of neighbouring chunks overlap. A shorter sequence is one chunk with a mask of
the band, and a sequence within the reach needs no mask but for padding.

S sequences, C chunks of a sequence, Q queries and K keys of a chunk.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xlt.batch.packing import Packing, round_up
from xlt.models.kernels.blocks import Side, num_slots, padding_floor, slots_of


class LocalBlocks:
    """Blocks of the local layers of a micro-batch, laid out once, by the first layer that needs them.

    Args:
        packing: Lengths of the sequences.
        heads: Number of attention heads.
    """

    def __init__(self, packing: Packing, heads: int) -> None:
        self._packing, self._heads = packing, heads
        self._sides: dict[int, tuple[Side, Side]] = {}

    def sides(self, reach: int, device: torch.device) -> tuple[Side, Side]:
        """Return the blocks of queries and of keys, on a device.

        Args:
            reach: Largest distance from a query to a key that it sees, in tokens.
            device: The device of the states.
        """
        if reach not in self._sides:
            queries, keys = lay_out_local(self._packing, self._heads, reach)
            self._sides[reach] = queries.to(device), keys.to(device)
        return self._sides[reach]


class Chunks(NamedTuple):
    """The chunks of each sequence of a block."""

    number: int
    """Chunks of a sequence."""
    length: int
    """Queries of a chunk."""
    margin: int
    """Keys before the first query of a chunk, and after the last."""


def chunks_of(slots: int, reach: int) -> Chunks:
    """Return the chunks of sequences of a length.

    Args:
        slots: Length of the sequences, padding included.
        reach: Largest distance from a query to a key that it sees, in tokens.
    """
    length = round_up(max(reach, 1))
    if slots <= length + 2 * reach:
        return Chunks(1, slots, 0)
    return Chunks(-(-slots // length), length, reach)


def lay_out_local(packing: Packing, heads: int, reach: int) -> tuple[Side, Side]:
    """Return the blocks of queries and of keys. Every token is both.

    Args:
        packing: Lengths of the sequences, at least one.
        heads: Number of attention heads.
        reach: Largest distance from a query to a key that it sees, in tokens.
    """
    lengths, order = packing.lengths.cpu(), packing.order.cpu()
    begins, head = torch.cumsum(lengths, 0) - lengths, torch.arange(heads)[:, None]
    chunks: list[Chunks] = []
    rows: list[Tensor] = []
    real: list[Tensor] = []
    floors: list[Tensor | None] = []
    for block in packing.blocks:
        members = order[block.first : block.first + block.sequences]
        sizes = lengths[members]
        chunks.append(cut := chunks_of(num_slots(int(sizes.max()), block), reach))
        column = torch.arange(cut.number * cut.length)
        padding = column >= sizes[:, None]
        tokens = (begins[members, None] + column).masked_fill_(padding, 0)
        rows.append((tokens[:, None] * heads + head).flatten())
        real.append((~padding)[:, None].expand(-1, heads, -1).flatten())
        is_within = int(sizes.max()) <= reach + 1
        floors.append(padding_floor(padding, int(sizes.min())) if is_within else _band(sizes, cut, reach))
    products = [len(part) // cut.length for part, cut in zip(rows, chunks, strict=True)]
    steps = [cut.length for cut in chunks]

    def side(margins: list[int], floors: list[Tensor | None]) -> Side:
        """Return the blocks of a side, whose products have margins before and after their own slots."""
        wide = [step + 2 * margin for step, margin in zip(steps, margins, strict=True)]
        joined, is_token = (
            torch.cat([F.pad(part, (margin, margin)) for part, margin in zip(parts, margins, strict=True)])
            for parts in (rows, real)
        )
        shapes = list(zip(products, wide, strict=True))
        return Side(joined, slots_of(joined, is_token), shapes, floors, steps)

    queries = side([0] * len(chunks), [None] * len(chunks))
    return queries, side([cut.margin for cut in chunks], floors)


def _band(sizes: Int[Tensor, " S"], cut: Chunks, reach: int) -> Float[Tensor, "S 1 C Q K"]:
    """Return the values to add to the scores: -inf for keys out of reach and for padding, else 0.

    Queries of padding see every key, because the softmax of no key is not a number.
    """
    first = torch.arange(cut.number)[:, None, None] * cut.length
    query = first + torch.arange(cut.length)[:, None]
    key = first - cut.margin + torch.arange(cut.length + 2 * cut.margin)
    size = sizes[:, None, None, None]
    is_seen = ((query - key).abs() <= reach) & (key >= 0) & (key < size) | (query >= size)
    return torch.zeros(is_seen.shape).masked_fill_(~is_seen, -torch.inf)[:, None]

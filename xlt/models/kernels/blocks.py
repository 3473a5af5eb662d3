"""Attention over packed sequences in blocks of similar length: batched products, the fastest way on a CPU.

Rows of queries, keys and values are gathered once into blocks (sequence, head, position). A batched product
takes the slice of a block without another copy. `xlt.models.kernels.windows` lays out the blocks of local
attention, in which the keys of neighbouring products overlap. M query tokens, N key tokens, S sequences, H
heads, K width of a head, P slots of the blocks: tokens and padding.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from xlt.batch.packing import Block, Packing, round_up
from xlt.models.kernels.dropout import keep_mask, scale_of


class Side(NamedTuple):
    """The blocks of a side of attention (queries or keys).

    Args:
        rows: Row in the tokens' (N · H) rows of each slot of each head, shape (P · H,). Any row for padding.
        slots: The inverse: slot of each of the tokens' rows, shape (N · H,).
        shapes: For each block, the number of products (sequences · heads) and the number of slots of each.
        floors: For each block, values to add to the scores, shape (sequences, 1, 1, last slots): -inf for
            padding, else 0. None if the block has no padding. Local attention has other shapes.
        steps: For each block, the number of slots from the first slot of a product to that of the next. Below
            the number of slots of a product if the products overlap.
    """

    rows: Tensor
    slots: Tensor
    shapes: list[tuple[int, int]]
    floors: list[Tensor | None]
    steps: list[int]

    def to(self, device: torch.device) -> "Side":
        """Return the blocks on a device."""
        floors = [floor if floor is None else floor.to(device) for floor in self.floors]
        return self._replace(rows=self.rows.to(device), slots=self.slots.to(device), floors=floors)


def lay_out(counts: Int[Tensor, " S"], packing: Packing, heads: int) -> Side:
    """Return the blocks for some tokens of each sequence, which are end to end.

    Args:
        counts: Number of tokens of each sequence.
        packing: Lengths and blocks of all tokens of the sequences.
        heads: Number of attention heads.
    """
    begins, head = torch.cumsum(counts, 0) - counts, torch.arange(heads)[:, None]
    rows, real, shapes, floors = [], [], [], []
    for block in packing.blocks:
        members = packing.order[block.first : block.first + block.sequences]
        sizes = counts[members]
        least, most = int(sizes.min()), int(sizes.max())
        column = torch.arange(num_slots(most, block))
        padding = column >= sizes[:, None]
        tokens = (begins[members, None] + column).masked_fill_(padding, 0)
        rows.append((tokens[:, None] * heads + head).flatten())
        real.append((~padding)[:, None].expand(-1, heads, -1).flatten())
        shapes.append((block.sequences * heads, len(column)))
        floors.append(padding_floor(padding, least))
    joined = torch.cat(rows) if rows else begins
    slots = slots_of(joined, torch.cat(real)) if rows else begins
    return Side(joined, slots, shapes, floors, [slots for _, slots in shapes])


def num_slots(most: int, block: Block) -> int:
    """Return the number of slots for each sequence of a block.

    Args:
        most: Largest number of tokens that a sequence has in the block.
        block: The block of all tokens.
    """
    return most if most <= 1 else min(round_up(most), block.length)


def padding_floor(padding: Bool[Tensor, "S L"], least: int) -> Float[Tensor, "S 1 1 _"] | None:
    """Return the values to add to the scores of a block. None if the block has no padding.

    Args:
        padding: True for slots without a token.
        least: Smallest number of tokens of a sequence.
    """
    floor = torch.zeros(padding.shape).masked_fill_(padding, -torch.inf)[:, None, None, least:]
    return floor if floor.numel() else None


def slots_of(rows: Int[Tensor, " P"], real: Bool[Tensor, " P"]) -> Int[Tensor, " N"]:
    """Return the slot of each of the tokens' rows.

    Args:
        rows: Row of each slot.
        real: True for slots with a token.
    """
    kept = real.nonzero().squeeze(1)
    slots = torch.empty_like(kept)
    slots[rows[kept]] = kept
    return slots


def block_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    queries: Side,
    keys: Side,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "M H K"]:
    """Compute scaled dot-product attention of each sequence's queries to the sequence's keys."""
    flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in (query, key, value)]
    return _Blocks.apply(*flat, queries, keys, scaling, dropout).view(query.shape)


class _Blocks(torch.autograd.Function):
    """Attention of all blocks with a backward pass of its own: no zero-filled slices, no copies, one mask.

    The weights of all blocks are end to end, so that elementwise work takes one operation for all blocks. The
    scale of dropout is applied to the values and their gradient, which are smaller than the weights.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        queries: Side,
        keys: Side,
        scaling: float,
        dropout: float,
    ) -> Tensor:
        q = query.index_select(0, queries.rows).mul_(scaling)
        k, v = key.index_select(0, keys.rows), value.index_select(0, keys.rows)
        scale = scale_of(dropout)
        if dropout > 0:
            v.mul_(scale)
        shapes = [(*one, other[1]) for one, other in zip(queries.shapes, keys.shapes, strict=True)]
        weights = q.new_empty(sum(map(prod, shapes)))
        blocks = zip(_cut(weights, shapes), _rows(q, queries), _rows(k, keys), keys.floors, strict=True)
        for scores, q_block, k_block, floor in blocks:
            torch.bmm(q_block, k_block.transpose(1, 2), out=scores)
            if floor is not None:
                rounded = scores[..., -floor.shape[-1] :]
                shape = len(floor), -1, *floor.shape[2:-2]
                rounded.unflatten(0, shape).add_(floor.to(scores.dtype))
            torch.softmax(scores, -1, out=scores)
        kept = keep_mask(weights, dropout).mul_(weights) if dropout > 0 else weights
        attended = torch.empty_like(q)
        blocks = zip(_cut(kept, shapes), _rows(v, keys), _rows(attended, queries), strict=True)
        for weight, v_block, out in blocks:
            torch.bmm(weight, v_block, out=out)
        ctx.save_for_backward(q, k, v, weights, kept)
        ctx.plan = queries, keys, shapes, scaling, scale
        return attended.index_select(0, queries.slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, shapes, scaling, scale = ctx.plan
        q, k, v, weights, kept = ctx.saved_tensors
        grad_out = torch.zeros_like(q).index_copy_(0, queries.slots, grad.to(q.dtype))
        grad_q, grad_k, grad_v, slopes = map(torch.empty_like, (q, k, v, weights))
        outs, to_values = _rows(grad_out, queries), _rows(grad_v, keys)
        blocks = zip(_cut(kept, shapes), _cut(slopes, shapes), outs, _rows(v, keys), to_values, strict=True)
        for weight, slope, out, v_block, to_value in blocks:
            _multiply(weight.transpose(1, 2), out, to_value)
            torch.bmm(out, v_block.transpose(1, 2), out=slope)
        # Gradient of the softmax with dropout: kept · slope - weight · (sum of kept · slope).
        slopes.mul_(kept)
        queried, keyed = (_rows(q, queries), _rows(grad_q, queries)), (_rows(k, keys), _rows(grad_k, keys))
        blocks = zip(_cut(weights, shapes), _cut(slopes, shapes), *queried, *keyed, strict=True)
        for weight, slope, q_block, to_query, k_block, to_key in blocks:
            slope.addcmul_(weight, slope.sum(-1, keepdim=True), value=-1)
            torch.bmm(slope, k_block, out=to_query)
            _multiply(slope.transpose(1, 2), q_block, to_key)
        return (
            grad_q.index_select(0, queries.slots).mul_(scaling),
            grad_k.index_select(0, keys.slots),
            grad_v.index_select(0, keys.slots).mul_(scale),
            *(None,) * 4,
        )


def _multiply(one: Tensor, other: Tensor, out: Tensor) -> None:
    """Write the batched product into `out`. Slots that belong to several products get the sum."""
    step = out.stride(0) // out.shape[2]
    if step >= out.shape[1]:
        torch.bmm(one, other, out=out)
        return
    product = torch.bmm(one, other)
    out.zero_()
    # No two products share a slot in a part of `step` slots.
    for first in range(0, out.shape[1], step):
        out[:, first : first + step].add_(product[:, first : first + step])


def _rows(states: Tensor, side: Side) -> list[Tensor]:
    """Return the rows of each block, shape (products, slots, K)."""
    found, first, width = [], 0, states.shape[1]
    for (products, slots), step in zip(side.shapes, side.steps, strict=True):
        shape, strides = (products, slots, width), (step * width, width, 1)
        found.append(states.as_strided(shape, strides, first * width))
        first += (products - 1) * step + slots
    return found


def _cut(values: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Return values that are end to end as tensors of these shapes."""
    parts = values.view(-1).split([prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

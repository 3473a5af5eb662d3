"""Attention over packed sequences in blocks of like length: plain batched products, fastest on a CPU.

Rows of queries, keys and values are gathered once into blocks (sequence, head, position), where each
block's slice is what a batched product takes, without another copy. M query tokens, N key tokens, H heads,
K width of a head, P slots: tokens plus those rounded up in blocks.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from xlt.models.dropout import keep_mask, scale_of
from xlt.packing import Packing


class Side(NamedTuple):
    """Where the tokens of one side of attention, queries or keys, lie in the blocks."""

    rows: Tensor
    """(P · H,) for each slot of each head its row among the tokens' (N · H); any row where rounded up."""
    places: Tensor
    """(N · H,) the inverse."""
    spans: list[tuple[int, int, int]]
    """Of each block: its first row, its products (sequences · heads), and the slots of each."""
    floors: list[Tensor | None]
    """Of each block: (sequences, 1, 1, slots), added to its scores, -inf where rounded up, else 0; None where
    no slot is."""


def lay_out(counts: Int[Tensor, " S"], packing: Packing, heads: int) -> Side:
    """The blocks of a packing for so many tokens of each sequence, which lie end to end."""
    begins, head = torch.cumsum(counts, 0) - counts, torch.arange(heads)[:, None]
    rows, real, spans, floors, first = [], [], [], [], 0
    for block in packing.blocks:
        members = packing.order[block.first : block.first + block.sequences]
        column = torch.arange(int(counts[members].max()))
        padding = column >= counts[members, None]
        tokens = (begins[members, None] + column).masked_fill_(padding, 0)
        rows.append((tokens[:, None] * heads + head).flatten())
        real.append((~padding)[:, None].expand(-1, heads, -1).flatten())
        spans.append((first, block.sequences * heads, len(column)))
        floor = torch.zeros(padding.shape).masked_fill_(padding, -torch.inf)[:, None, None]
        floors.append(floor if bool(padding.any()) else None)
        first += len(rows[-1])
    joined = torch.cat(rows) if rows else begins
    places = torch.empty(int(counts.sum()) * heads, dtype=torch.long)
    if rows:
        kept = torch.cat(real).nonzero().squeeze(1)
        places[joined[kept]] = kept
    return Side(joined, places, spans, floors)


def block_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    queries: Side,
    keys: Side,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "M H K"]:
    """Scaled dot-product attention of each sequence's queries to its own keys."""
    flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in (query, key, value)]
    return _Blocks.apply(*flat, queries, keys, scaling, dropout).view(query.shape)


class _Blocks(torch.autograd.Function):
    """Attention of all blocks with its own backward: no zero-filled slices, no copies, one mask a block.

    What is kept of the weights is scaled up on the narrower side, in the values and their gradient.
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
        attended = torch.empty_like(q)
        weights, all_kept = [], []
        for number, floor in enumerate(keys.floors):
            scores = torch.bmm(_block(q, queries, number), _block(k, keys, number).transpose(1, 2))
            if floor is not None:
                scores.unflatten(0, (len(floor), len(scores) // len(floor))).add_(floor.to(scores.dtype))
            weight = torch.softmax(scores, -1).to(v.dtype)
            weights.append(weight)
            if dropout > 0:
                weight = keep_mask(weight, dropout).mul_(weight)
                all_kept.append(weight)
            torch.bmm(weight, _block(v, keys, number), out=_block(attended, queries, number))
        ctx.save_for_backward(q, k, v, *weights, *all_kept)
        ctx.plan = queries, keys, scaling, scale
        return attended.index_select(0, queries.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, scaling, scale = ctx.plan
        q, k, v, *saved = ctx.saved_tensors
        weights = saved[: len(keys.spans)]
        all_kept = saved[len(keys.spans) :] or weights
        grad_out = torch.zeros_like(q).index_copy_(0, queries.places, grad.to(q.dtype))
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for number, (weight, kept) in enumerate(zip(weights, all_kept, strict=True)):
            out = _block(grad_out, queries, number)
            torch.bmm(kept.transpose(1, 2), out, out=_block(grad_v, keys, number))
            slope = torch.bmm(out, _block(v, keys, number).transpose(1, 2))
            # Of the softmax, from what is kept of its weights: kept · slope - weight · (sum of kept · slope).
            slope.mul_(kept)
            slope.addcmul_(weight, slope.sum(-1, keepdim=True), value=-1)
            torch.bmm(slope, _block(k, keys, number), out=_block(grad_q, queries, number))
            torch.bmm(slope.transpose(1, 2), _block(q, queries, number), out=_block(grad_k, keys, number))
        return (
            grad_q.index_select(0, queries.places).mul_(scaling),
            grad_k.index_select(0, keys.places),
            grad_v.index_select(0, keys.places).mul_(scale),
            *(None,) * 4,
        )


def _block(rows: Tensor, side: Side, number: int) -> Tensor:
    """A block's rows, shape (sequences · heads, slots, K)."""
    first, products, slots = side.spans[number]
    return rows[first : first + products * slots].view(products, slots, rows.shape[1])

"""Attention over packed sequences, as an attention function of `transformers`.

The encoder's linear layers, norms and embeddings see (1, N) real tokens. Here queries, keys and values
are laid out in blocks of sequences of like length (xlt.packing), each served by plain batched products,
and the result is laid back. N tokens, P slots, H heads, K width of a head.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface

from xlt.packing import Block, Packing

NAME = "xlt_packed"


class _Permute(torch.autograd.Function):
    """Gather rows forward and, by the inverse gather, backward: no scatter-add."""

    @staticmethod
    def forward(ctx, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class _Restore(torch.autograd.Function):
    """Gather the real tokens out of the slots; rounded-up slots get zero gradients."""

    @staticmethod
    def forward(ctx, rows: Tensor, places: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.num_slots = rows.shape[0]
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        slots = grad.new_zeros(ctx.num_slots, *grad.shape[1:])
        slots[places] = grad
        return slots, None, None


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 H N K"],
    key: Float[Tensor, "1 H N K"],
    value: Float[Tensor, "1 H N K"],
    attention_mask: Tensor | None,
    *,
    packing: Packing,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Float[Tensor, "1 N H K"], None]:
    """Scaled dot-product attention within each sequence of the packing.

    `attention_mask` is not used: the packing says which tokens see each other.
    """
    parts = [_to_slots(tensor[0].transpose(0, 1), packing) for tensor in (query, key, value)]
    outputs = [_attend(*parts, block, scaling, dropout) for block in packing.blocks]
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    if packing.places is not None and packing.slots is not None:
        joined = _Restore.apply(joined, packing.places, packing.slots)
    return joined.unsqueeze(0), None


def _to_slots(states: Float[Tensor, "N H K"], packing: Packing) -> Float[Tensor, "P H K"]:
    """Each slot's token state."""
    if packing.slots is None or packing.places is None:
        return states
    return _Permute.apply(states, packing.slots, packing.places)


def _attend(
    query: Float[Tensor, "P H K"],
    key: Float[Tensor, "P H K"],
    value: Float[Tensor, "P H K"],
    block: Block,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "block H K"]:
    """Attention of one block's sequences, laid out as (sequences, H, length, K)."""
    end = block.offset + block.sequences * block.length
    shape = (block.sequences, block.length, *query.shape[1:])
    q, k, v = (t[block.offset : end].view(shape).transpose(1, 2) for t in (query, key, value))
    scores = torch.matmul(q * scaling, k.transpose(-1, -2))
    if block.is_padding is not None:
        scores = scores.masked_fill(block.is_padding, torch.finfo(scores.dtype).min)
    weights = F.dropout(torch.softmax(scores, dim=-1), dropout, training=dropout > 0)
    return torch.matmul(weights, v).transpose(1, 2).reshape(-1, *query.shape[1:])


AttentionInterface.register(NAME, packed_attention)

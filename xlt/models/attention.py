"""Attention over packed sequences, as an attention function of `transformers`.

The encoder's linear layers, norms and embeddings see (1, N) real tokens. Here queries, keys and values
are laid out in blocks of sequences of like length (xlt.packing), each served by plain batched products,
and the result is laid back. N tokens, P slots, H heads, K width of a head.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

from xlt.models.dropout import dropout as drop
from xlt.packing import Block, Packing

NAME = "xlt_packed"


class _Permute(torch.autograd.Function):
    """Gather rows forward and, by the inverse gather, backward: no scatter-add."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class _Restore(torch.autograd.Function):
    """Gather the real tokens out of the slots; rounded-up slots get zero gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.num_slots = rows.shape[0]
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        slots = grad.new_zeros(ctx.num_slots, *grad.shape[1:])
        slots[places] = grad
        return slots, None


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
    outputs = [_attend(parts, block, scaling, dropout) for block in packing.blocks]
    joined = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    if packing.places is not None and packing.slots is not None:
        joined = _Restore.apply(joined, packing.places)
    return joined.unsqueeze(0), None


def _to_slots(states: Float[Tensor, "N H K"], packing: Packing) -> Float[Tensor, "P H K"]:
    """Each slot's token state."""
    if packing.slots is None or packing.places is None:
        return states
    return _Permute.apply(states, packing.slots, packing.places)


def _attend(
    parts: list[Tensor],
    block: Block,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "block H K"]:
    """Attention of one block's sequences; `parts` are query, key and value, each (P, H, K)."""
    end = block.offset + block.sequences * block.length
    width = parts[0].shape[1:]
    shape = (block.sequences, block.length, *width)
    q, k, v = (part[block.offset : end].view(shape).transpose(1, 2) for part in parts)
    scores = torch.matmul(q * scaling, k.transpose(-1, -2))
    if block.is_padding is not None:
        scores = scores.masked_fill(block.is_padding, torch.finfo(scores.dtype).min)
    weights = drop(torch.softmax(scores, dim=-1), dropout)
    return torch.matmul(weights, v).transpose(1, 2).reshape(-1, *width)


AttentionInterface.register(NAME, packed_attention)

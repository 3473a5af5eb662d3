"""Attention over packed sequences, as an attention function of `transformers`.

The encoder's linear layers, norms and embeddings read (1, N) tokens. Here the queries of each sequence see
only the sequence's own keys. `packed_attention` chooses the kernel. On the CPU: batched products over blocks
of similar length. On CUDA: flash attention in half precision, else memory-efficient attention. Elsewhere:
torch's jagged nested tensors. Local layers use flash attention with a window, or blocks on every device. N
tokens, M of them queries, S sequences, H heads, K width of a head, D hidden width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nested import nested_tensor_from_jagged
from transformers import AttentionInterface

from xlt.batch.packing import Packing
from xlt.models.kernels.blocks import Side, block_attention, lay_out
from xlt.models.kernels.dropout import HALVES
from xlt.models.kernels.windows import LocalBlocks
from xlt.system.torch_private import EFFICIENT_ATTENTION, FLASH_ATTENTION

NAME = "xlt_packed"

AMPERE = (8, 0)
"""Smallest compute capability for flash attention."""


class Tokens(NamedTuple):
    """The tokens of a side of attention (queries or keys), by sequence.

    Args:
        boundaries: Cumulative numbers of tokens, int32, shape (S + 1,).
        longest: Upper bound of the number of tokens of a sequence.
        side: Indices of the tokens in blocks, on the CPU.
    """

    boundaries: Tensor
    longest: int
    side: Side | None


class Layout(NamedTuple):
    """The layout of a micro-batch for attention.

    Args:
        tokens: All tokens: the keys of all layers, and the queries of all layers but the last.
        read: Queries of the last layer: the tokens whose states are read.
        token_indices: Indices of these tokens, ascending, shape (M,). None for all tokens.
        local: Blocks of the layers whose attention is local.
    """

    tokens: Tokens
    read: Tokens
    token_indices: Tensor | None
    local: LocalBlocks


def layout_of(
    packing: Packing, heads: int, token_indices: Int[Tensor, " M"] | None = None, in_blocks: bool = False
) -> Layout:
    """Return the layout of a micro-batch.

    Args:
        packing: Lengths of the sequences.
        heads: Number of attention heads.
        token_indices: Indices of the tokens whose states are read, ascending. If None, all tokens.
        in_blocks: Lay out blocks on every device. By default on the CPU alone.
    """
    device = packing.lengths.device
    has_blocks = in_blocks or device.type == "cpu"

    def blocks(counts: Int[Tensor, " S"]) -> Side | None:
        """Return the blocks for these numbers of tokens of each sequence, on the device."""
        if not has_blocks:
            return None
        return lay_out(counts.cpu(), packing._replace(order=packing.order.cpu()), heads).to(device)

    side = blocks(packing.lengths)
    tokens, local = Tokens(packing.boundaries, packing.longest, side), LocalBlocks(packing, heads)
    if token_indices is None:
        return Layout(tokens, tokens, None, local)
    if token_indices is packing.starts:
        ends = torch.arange(len(token_indices) + 1, device=token_indices.device)
        longest = 1
    else:
        ends = torch.searchsorted(token_indices, packing.boundaries.long())
        longest = min(packing.longest, len(token_indices))
    side = blocks(ends.diff())
    return Layout(tokens, Tokens(ends.int(), longest, side), token_indices, local)


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 H M K"],
    key: Float[Tensor, "1 H N K"],
    value: Float[Tensor, "1 H N K"],
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Float[Tensor, "1 M H K"], None]:
    """Compute scaled dot-product attention within each sequence of the layout.

    `attention_mask` is not used, because the layout tells which tokens see each other. `sliding_window` is
    the number of tokens that a query sees on each side, itself included. If None, all tokens of its sequence.

    Source: transformers/models/modernbert/modeling_modernbert.py, whose layers pass half of the config's
    local_attention, plus 1.
    """
    q, k, v = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    keys = layout.tokens
    queries = keys if len(q) == len(k) else layout.read
    if sliding_window is not None and sliding_window < keys.longest:
        attended = local_attention(q, k, v, layout, sliding_window - 1, scaling, dropout)
    elif queries.side is not None and keys.side is not None:
        attended = block_attention(q, k, v, queries.side, keys.side, scaling, dropout)
    elif q.device.type != "cuda":
        attended = jagged_attention(q, k, v, queries, keys, scaling, dropout)
    elif has_flash(q):
        attended = flash_attention(q, k, v, queries, keys, scaling, dropout)
    else:
        attended = efficient_attention(q, k, v, queries, keys, scaling, dropout)
    return attended.unsqueeze(0), None


def local_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    layout: Layout,
    reach: int,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "M H K"]:
    """Compute attention in which a query sees the keys of its sequence up to a distance.

    A kernel knows the distance only if all tokens are queries. If only some tokens are queries, the others
    get queries of zeros, whose states are dropped.

    Args:
        query: Queries of all tokens, or of the layout's token indices.
        key: Keys of all tokens.
        value: Values of all tokens.
        layout: The layout of the micro-batch.
        reach: Largest distance from a query to a key that it sees, in tokens.
        scaling: Factor on the scores.
        dropout: Probability to drop a weight.
    """
    places = layout.token_indices if len(query) != len(key) else None
    if places is not None:
        query = torch.zeros_like(key).index_copy(0, places, query)
    if query.device.type == "cuda" and has_flash(query):
        tokens = layout.tokens
        attended = flash_attention(query, key, value, tokens, tokens, scaling, dropout, reach)
    else:
        sides = layout.local.sides(reach, query.device)
        attended = block_attention(query, key, value, *sides, scaling, dropout)
    return attended if places is None else attended.index_select(0, places)


def has_flash(query: Tensor) -> bool:
    """Return True if flash attention takes the states: half precision, K a multiple of 8, a recent GPU."""
    fits = query.dtype in HALVES and query.shape[-1] % 8 == 0
    return fits and torch.cuda.get_device_capability(query.device) >= AMPERE


def flash_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    queries: Tokens,
    keys: Tokens,
    scaling: float,
    dropout: float,
    reach: int | None = None,
) -> Float[Tensor, "M H K"]:
    """Compute flash attention over sequences end to end, by the operator that torch's functions use on CUDA.

    torch's `varlen_attn` has no dropout, and jagged nested tensors take the host longer than attention
    itself. `reach` is the largest distance from a query to a key that it sees, in tokens, and needs all
    tokens as queries. If None, a query sees all keys of its sequence.
    """
    return FLASH_ATTENTION(
        query,
        key,
        value,
        queries.boundaries,
        keys.boundaries,
        queries.longest,
        keys.longest,
        dropout,
        False,  # no causal mask
        False,  # no dropout mask is returned
        scale=scaling,
        window_size_left=reach,
        window_size_right=reach,
    )[0]


def efficient_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    queries: Tokens,
    keys: Tokens,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "M H K"]:
    """Compute memory-efficient attention, which works in single precision and on older GPUs."""
    return EFFICIENT_ATTENTION(
        query[None],
        key[None],
        value[None],
        None,  # no bias
        queries.boundaries,
        keys.boundaries,
        queries.longest,
        keys.longest,
        dropout,
        0,  # no causal mask
        True,  # keep the sums that the backward pass needs
        scale=scaling,
    )[0][0]


def jagged_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    queries: Tokens,
    keys: Tokens,
    scaling: float,
    dropout: float,
) -> Float[Tensor, "M H K"]:
    """Compute attention by torch's jagged nested tensors, which work on every device."""
    # torch knows that tensors with the same offsets have the same shape.
    key_offsets = keys.boundaries.long()
    query_offsets = key_offsets if queries is keys else queries.boundaries.long()

    def jagged(states: Tensor, offsets: Tensor, longest: int) -> Tensor:
        return nested_tensor_from_jagged(states, offsets, min_seqlen=1, max_seqlen=longest).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        jagged(query, query_offsets, queries.longest),
        jagged(key, key_offsets, keys.longest),
        jagged(value, key_offsets, keys.longest),
        dropout_p=dropout,
        scale=scaling,
    )
    return attended.transpose(1, 2).values()


AttentionInterface.register(NAME, packed_attention)

"""Attention over packed sequences, as an attention function of `transformers`.

The encoder's linear layers, norms and embeddings see (1, N) real tokens; here each sequence's queries meet
its own keys alone. The kernel is chosen in one place, `packed_attention`: on the CPU batched products over
blocks of like length; on CUDA flash attention in half precision, else the memory-efficient kind; elsewhere
torch's jagged nested tensors. N tokens, M of them queries, H heads, K width of a head, D hidden width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nested import nested_tensor_from_jagged
from transformers import AttentionInterface
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLayer

from xlt.batch.packing import Packing
from xlt.models.kernels.blocks import Side, block_attention, lay_out
from xlt.models.kernels.dropout import HALVES
from xlt.system.torch_private import EFFICIENT_ATTENTION, FLASH_ATTENTION

NAME = "xlt_packed"

AMPERE = (8, 0)
"""The first compute capability that flash attention runs on."""


class Tokens(NamedTuple):
    """One side of attention, queries or keys: which tokens are whose."""

    boundaries: Tensor
    """(S + 1,) int32 cumulative counts."""
    longest: int
    """At least the most tokens of a sequence."""
    side: Side | None
    """Their token indices in blocks, on the CPU."""


class Layout(NamedTuple):
    """What attention needs to know of a micro-batch."""

    tokens: Tokens
    """All tokens: keys everywhere, queries but in the last layer."""
    read: Tokens
    """Queries of the last layer: the tokens whose states are read."""
    token_indices: Tensor | None
    """(M,) which tokens these are, ascending; None for all."""


def layout_of(packing: Packing, heads: int, token_indices: Int[Tensor, " M"] | None = None) -> Layout:
    """The layout of a micro-batch whose states are read at these token indices, ascending, or all."""
    on_cpu = packing.lengths.device.type == "cpu"
    side = lay_out(packing.lengths, packing, heads) if on_cpu else None
    tokens = Tokens(packing.boundaries, packing.longest, side)
    if token_indices is None:
        return Layout(tokens, tokens, None)
    if token_indices is packing.starts:
        ends = torch.arange(len(token_indices) + 1, device=token_indices.device)
        longest = 1
    else:
        ends = torch.searchsorted(token_indices, packing.boundaries.long())
        longest = min(packing.longest, len(token_indices))
    side = lay_out(ends.diff(), packing, heads) if on_cpu else None
    return Layout(tokens, Tokens(ends.int(), longest, side), token_indices)


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
    **_: object,
) -> tuple[Float[Tensor, "1 M H K"], None]:
    """Scaled dot-product attention within each sequence of the layout.

    `attention_mask` is not used: the layout says which tokens see each other.
    """
    q, k, v = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    keys = layout.tokens
    queries = keys if len(q) == len(k) else layout.read
    if queries.side is not None and keys.side is not None:
        attended = block_attention(q, k, v, queries.side, keys.side, scaling, dropout)
    elif q.device.type != "cuda":
        attended = jagged_attention(q, k, v, queries, keys, scaling, dropout)
    elif has_flash(q):
        attended = flash_attention(q, k, v, queries, keys, scaling, dropout)
    else:
        attended = efficient_attention(q, k, v, queries, keys, scaling, dropout)
    return attended.unsqueeze(0), None


def has_flash(query: Tensor) -> bool:
    """Whether flash attention takes such states: halves, in heads of eights, on a GPU that has it."""
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
) -> Float[Tensor, "M H K"]:
    """Flash attention over end-to-end sequences: the operator below torch's own for CUDA.

    Above it, `varlen_attn` has no dropout, and jagged nested tensors cost the host more than attention takes.
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
        False,  # the mask of what is dropped is not returned
        scale=scaling,
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
    """Memory-efficient attention likewise, which knows single precision and older GPUs."""
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
        True,  # keep what the backward pass needs
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
    """Attention through torch's jagged nested tensors, which any device has."""
    # Tensors that share their offsets are known to be alike.
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


class ReadLayer(XLMRobertaLayer):
    """An encoder's last layer, computed only for the tokens whose states are read.

    Every token is a key and a value, but only those read are queries and pass the feed-forward part: five
    sixths of the layer's products are left out for a head that reads one token of each sequence.
    """

    def forward(
        self,
        hidden_states: Float[Tensor, "1 N D"],
        attention_mask: Tensor | None = None,
        *args: object,
        layout: Layout,
        **kwargs: object,
    ) -> Float[Tensor, "1 M D"]:
        """The states of the layout's token indices."""
        if layout.token_indices is None:
            return super().forward(hidden_states, attention_mask, *args, layout=layout, **kwargs)  # type: ignore[arg-type]
        own = self.attention.self
        read = hidden_states.index_select(1, layout.token_indices)
        query, key, value = (
            linear(states).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)
            for linear, states in ((own.query, read), (own.key, hidden_states), (own.value, hidden_states))
        )
        attended, _ = packed_attention(
            own,
            query,
            key,
            value,
            None,
            layout=layout,
            scaling=own.scaling,
            dropout=own.dropout.p if self.training else 0.0,
        )
        return self.feed_forward_chunk(self.attention.output(attended.flatten(2), read))


AttentionInterface.register(NAME, packed_attention)

"""The last layer of an encoder of BERT's kind, which computes only the states that are read.

Every token is a key and a value. Only tokens that are read are queries and pass the feed-forward part. A head
that reads one token of each sequence saves five sixths of the layer's products. N tokens, M of them read, D
hidden width.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from xlt.models.kernels.attention import Layout, packed_attention


class Reading(nn.Module):
    """Mixin of a layer class whose parts have the names of BERT's."""

    attention: Any
    feed_forward_chunk: Any

    def forward(
        self,
        hidden_states: Float[Tensor, "1 N D"],
        attention_mask: Tensor | None = None,
        *args: object,
        layout: Layout,
        **kwargs: object,
    ) -> Float[Tensor, "1 M D"]:
        """Return the states at the layout's token indices."""
        if layout.token_indices is None:
            return super().forward(hidden_states, attention_mask, *args, layout=layout, **kwargs)  # type: ignore[misc]
        own = self.attention.self
        read = hidden_states.index_select(1, layout.token_indices)
        states, asked = self.normed(hidden_states), self.normed(read)
        query, key, value = (
            linear(states).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)
            for linear, states in ((own.query, asked), (own.key, states), (own.value, states))
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

    def normed(self, states: Float[Tensor, "1 N D"]) -> Float[Tensor, "1 N D"]:
        """Return the states that queries, keys and values are made of."""
        return states

"""ModernBERT and mmBERT: rotary positions, and layers that see a window of tokens beside layers that see all.

There is no table of positions. A token at position -1, such as a part of an image, is rotated as if it stood
one place before the first token. N tokens, M of them read, D hidden width.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel
from transformers.models.modernbert.modeling_modernbert import ModernBertEncoderLayer, apply_rotary_pos_emb

from xlt.models.encoders.family import Family, MaskedNames, counted_facts
from xlt.models.kernels.attention import Layout, packed_attention


class ModernBertReadLayer(ModernBertEncoderLayer):
    """The last layer of a ModernBERT, which computes only the states that are read.

    Only tokens that are read are queries and pass the feed-forward part. A layer with a window computes the
    states of all tokens, because the window is counted from a query's place in its sequence.
    """

    def forward(
        self,
        hidden_states: Float[Tensor, "1 N D"],
        attention_mask: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        *,
        layout: Layout,
        **kwargs: Any,
    ) -> Float[Tensor, "1 M D"]:
        """Return the states at the layout's token indices."""
        indices, own = layout.token_indices, self.attn
        if indices is None or own.sliding_window is not None or position_embeddings is None:
            kwargs |= {"layout": layout, "position_embeddings": position_embeddings}
            states = super().forward(hidden_states, attention_mask, **kwargs)
            return states if indices is None else states.index_select(1, indices)
        products = own.Wqkv(self.attn_norm(hidden_states)).unflatten(-1, (3, -1, own.head_dim))
        query, key, value = (states.transpose(1, 2) for states in products.unbind(-3))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        attended, _ = packed_attention(
            own,
            query.index_select(2, indices),
            key,
            value,
            None,
            layout=layout,
            scaling=own.head_dim**-0.5,
            dropout=own.attention_dropout if self.training else 0.0,
        )
        read = hidden_states.index_select(1, indices) + own.out_drop(own.Wo(attended.flatten(2)))
        return read + self.mlp(self.mlp_norm(read))


def _derived(config: ModernBertConfig) -> Mapping[str, object]:
    """Return the kind of rotary positions: the first that is not the default, if any."""
    kinds = {str(found["rope_type"]) for found in (config.rope_parameters or {}).values() if found}
    return {"rope_type": min(kinds, key=lambda kind: kind == "default", default="default")}


MODERNBERT = Family(
    model_type="modernbert",
    model=ModernBertModel,
    masked=ModernBertForMaskedLM,
    facts=counted_facts,
    read_layer=ModernBertReadLayer,
    words="embeddings.tok_embeddings",
    layers="layers",
    final_norm="final_norm",
    has_segments=False,
    arguments={},
    dropouts=("attention_dropout", "mlp_dropout", "embedding_dropout"),
    settings={
        "hidden_activation": ("gelu",),
        "classifier_activation": ("gelu",),
        "decoder_bias": (True,),
        "rope_type": ("default",),
    },
    derived=_derived,
    masked_names=MaskedNames("head.dense", "head.norm", "decoder.bias", "decoder", "norm_eps"),
    longest=8192,
    tested="lengths 1 to 8,192, windows",
    examples=("jhu-clsp/mmBERT-base", "jhu-clsp/mmBERT-small", "answerdotai/ModernBERT-base"),
)

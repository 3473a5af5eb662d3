"""DeBERTa v2 and v3, mDeBERTa: attention to distances between tokens, without positions in the embeddings.

A token at position -1, such as a part of an image, stands one before the first token. N tokens, M of them
read, D hidden width, B buckets of distances.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from transformers import DebertaV2Config, DebertaV2ForMaskedLM, DebertaV2Model
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Layer

from xlt.models.encoders.bert import MASKED_NAMES
from xlt.models.encoders.family import Family, counted_facts
from xlt.models.kernels.attention import Layout
from xlt.models.kernels.blocks import Side
from xlt.models.kernels.relative import Buckets, Distances, relative_attention


class Relative(NamedTuple):
    """The distances of a micro-batch.

    Args:
        vectors: A vector for each bucket of distances, shape (B, D).
        whole: Buckets between all tokens, for each block.
        read: Buckets from the tokens that are read to all tokens.
    """

    vectors: Tensor
    whole: list[Buckets]
    read: list[Buckets]


class DebertaLayer(DebertaV2Layer):
    """A layer of a DeBERTa whose attention stays within each packed sequence."""

    def forward(  # type: ignore[override]
        self, hidden_states: Float[Tensor, "1 N D"], relative: Relative, layout: Layout
    ) -> Float[Tensor, "1 N D"]:
        """Return the states of all tokens."""
        side = _side(layout.tokens.side)
        return self.attend(hidden_states, hidden_states, relative.vectors, side, side, relative.whole)

    def attend(
        self,
        read: Float[Tensor, "1 M D"],
        states: Float[Tensor, "1 N D"],
        vectors: Float[Tensor, "B D"],
        queries: Side,
        keys: Side,
        buckets: list[Buckets],
    ) -> Float[Tensor, "1 M D"]:
        """Return the new states of the tokens that are read.

        Args:
            read: States of the tokens that are read.
            states: States of all tokens.
            vectors: A vector for each bucket of distances.
            queries: Blocks of the tokens that are read.
            keys: Blocks of all tokens.
            buckets: Buckets from the tokens that are read to all tokens.
        """
        own: Any = self.attention.self
        vectors = own.pos_dropout(vectors)
        to_key: Any = own.key_proj if own.share_att_key else getattr(own, "pos_key_proj", None)
        to_query: Any = own.query_proj if own.share_att_key else getattr(own, "pos_query_proj", None)

        def split(states: Float[Tensor, "*N D"]) -> Float[Tensor, "_ H K"]:
            """Return states by head."""
            return states.view(-1, own.num_attention_heads, own.attention_head_size)

        attended = relative_attention(
            split(own.query_proj(read)),
            split(own.key_proj(states)),
            split(own.value_proj(states)),
            split(to_key(vectors)) if "c2p" in own.pos_att_type else None,
            split(to_query(vectors)) if "p2c" in own.pos_att_type else None,
            queries,
            keys,
            buckets,
            own.dropout,
        )
        between = self.attention.output(attended.flatten(1)[None], read)
        return self.output(self.intermediate(between), between)


class DebertaReadLayer(DebertaLayer):
    """The last layer of a DeBERTa, which computes only the states that are read."""

    def forward(  # type: ignore[override]
        self, hidden_states: Float[Tensor, "1 N D"], relative: Relative, layout: Layout
    ) -> Float[Tensor, "1 M D"]:
        """Return the states at the layout's token indices."""
        if layout.token_indices is None:
            return super().forward(hidden_states, relative, layout)
        read = hidden_states.index_select(1, layout.token_indices)
        sides = _side(layout.read.side), _side(layout.tokens.side)
        return self.attend(read, hidden_states, relative.vectors, *sides, relative.read)


class Deberta(DebertaV2Model):
    """A DeBERTa that reads packed sequences."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Int[Tensor, "1 N"] | None = None,
        inputs_embeds: Float[Tensor, "1 N D"] | None = None,
        token_type_ids: Int[Tensor, "1 N"] | None = None,
        position_ids: Int[Tensor, "1 N"] | None = None,
        output_hidden_states: bool = False,
        *,
        layout: Layout,
    ) -> BaseModelOutput:
        """Return the last layer's states, and those of all layers if they are asked for."""
        assert position_ids is not None
        states = self.embeddings(
            input_ids=input_ids, inputs_embeds=inputs_embeds, token_type_ids=token_type_ids
        )
        relative = self.relative(position_ids[0], layout)
        found = [states]
        for layer in self.encoder.layer:
            states = layer(states, relative, layout)
            found.append(states)
        return BaseModelOutput(
            last_hidden_state=states,  # type: ignore[arg-type]
            hidden_states=tuple(found) if output_hidden_states else None,  # type: ignore[arg-type]
        )

    def relative(self, places: Int[Tensor, " N"], layout: Layout) -> Relative:
        """Return the distances of a micro-batch.

        Args:
            places: Positions of the tokens.
            layout: The layout of the micro-batch.
        """
        encoder: Any = self.encoder
        heads = self.config.num_attention_heads
        distances = Distances(encoder.position_buckets, encoder.max_relative_positions)
        keys, indices = _side(layout.tokens.side), layout.token_indices
        whole = distances.in_blocks(places, places, keys, keys, heads)
        read = whole
        if indices is not None:
            asked = places.index_select(0, indices)
            read = distances.in_blocks(asked, places, _side(layout.read.side), keys, heads)
        return Relative(encoder.get_rel_embedding()[: 2 * distances.span], whole, read)


def _side(side: Side | None) -> Side:
    """Return the blocks of some tokens, which the layout of a family with `in_blocks` has."""
    assert side is not None
    return side


WIDTHS = "embedding_size - hidden_size"
"""Name of a setting that follows from two others: embeddings of a width of their own are not tested."""


def _derived(config: DebertaV2Config) -> Mapping[str, object]:
    """Return the products of distances, and the difference of the embeddings' width and the layers'."""
    products: Any = config.pos_att_type or []
    width = getattr(config, "embedding_size", config.hidden_size)
    return {"pos_att_type": "|".join(products), WIDTHS: width - config.hidden_size}


DEBERTA = Family(
    model_type="deberta-v2",
    model=DebertaV2Model,
    masked=DebertaV2ForMaskedLM,
    facts=counted_facts,
    read_layer=DebertaReadLayer,
    own_classes={DebertaV2Model: Deberta, DebertaV2Layer: DebertaLayer},
    below=("embeddings", "encoder.rel_embeddings", "encoder.LayerNorm"),
    arguments={},
    settings={
        "hidden_act": ("gelu",),
        "pooler_hidden_act": ("gelu",),
        "relative_attention": (True,),
        "position_biased_input": (False,),
        "conv_kernel_size": (0, None),
        "pos_att_type": ("p2c|c2p", "c2p|p2c", "c2p", "p2c"),
        WIDTHS: (0,),
        "legacy": (True,),
    },
    derived=_derived,
    masked_names=MASKED_NAMES,
    tested="lengths 1 to 512",
    examples=("microsoft/mdeberta-v3-base", "microsoft/deberta-v3-base", "microsoft/deberta-v3-large"),
)

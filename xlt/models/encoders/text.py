"""The shared encoder: a model of `transformers` without a head, which reads packed sequences.

N tokens, S sequences, M tokens read, L layers (the embeddings count as one), D hidden width.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig

from xlt.batch.images import BatchImages, put_tokens
from xlt.batch.packing import Packing
from xlt.models.encoders.bert import Positions
from xlt.models.encoders.families import check_config, check_type, family_of
from xlt.models.encoders.family import EncoderFacts, Family
from xlt.models.encoders.loading import load_model
from xlt.models.kernels.attention import layout_of
from xlt.models.kernels.dropout import replace_dropout
from xlt.models.kernels.embedding import WordEmbedding, hold_gradients
from xlt.models.kernels.linear import replace_linear
from xlt.models.transformers_private import recompute
from xlt.system.encoder_files import reading, type_in
from xlt.system.folders import check_encoder_exists, model_folder
from xlt.system.torch_private import become, set_recompile_limit

VARIANTS = 32
"""Largest number of variants of a layer that are compiled."""


NEUTRAL = {
    "return_dict": True,
    "chunk_size_feed_forward": 0,
    "output_attentions": False,
    "output_hidden_states": False,
}
"""Settings of a config that change how states are computed or returned, and not the states."""


class Encoder(nn.Module):
    """A model of a known family whose attention stays within each packed sequence.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run. With `from_scratch` a folder needs
            only a config.
        from_scratch: Draw random weights for the config instead of loading weights.
        dropout: Dropout probability in the layers and on attention weights. If None, the config's own.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: The model is of no family that xlt packs.
    """

    def __init__(self, name: str, from_scratch: bool = False, dropout: float | None = None) -> None:
        super().__init__()
        self._pretrained = None if from_scratch else model_folder(name)
        config = load_config(name)
        family = family_of(config)
        if dropout is not None:
            family.drop_with(config, dropout)
        self.transformer = family.bare(config) if from_scratch else load_model(name, config)
        family.pack(self.transformer)
        replace_dropout(self.transformer)
        replace_linear(self.transformer)
        become(self.layers[-1], family.read_layer)
        hold_gradients(self.transformer.get_submodule(family.words))  # type: ignore[arg-type]
        if family.positions:
            become(self.transformer.get_submodule(family.positions), Positions)
        # Loading weights leaves a model without dropout.
        self.transformer.train()

    @property
    def family(self) -> Family:
        """Return the family, which names the parts of the transformer."""
        return family_of(self.config)

    @property
    def words(self) -> WordEmbedding:
        """Return the table of word embeddings."""
        table = self.transformer.get_submodule(self.family.words)
        assert isinstance(table, WordEmbedding)
        return table

    @property
    def below(self) -> list[nn.Module]:
        """Return the modules below the lowest layer, such as the embeddings and their norm."""
        modules = dict(self.transformer.named_modules())
        return [modules[path] for path in self.family.below if path in modules]

    @property
    def layers(self) -> nn.ModuleList:
        """Return the layers, the lowest first."""
        return self.family.layers_of(self.transformer)

    @property
    def config(self) -> PretrainedConfig:
        """Return the config, which holds the sizes and dropout probabilities."""
        return self.transformer.config

    @property
    def facts(self) -> EncoderFacts:
        """Return the first position and the longest input."""
        return self.family.facts(self.config)

    @property
    def shape(self) -> dict[str, int]:
        """Return the sizes that weights must have."""
        return shape_of(self.config)

    def masked_head(self) -> dict[str, Tensor]:
        """Return the weights of the encoder's own head for masked tokens; empty if it has none.

        The names are those of `MaskedHead`. The head's output weights are the word embeddings and are left
        out.

        Raises:
            ValueError: The head has output weights of its own.
        """
        if not getattr(self.config, "tie_word_embeddings", True):
            raise ValueError(
                "tie_word_embeddings is false in the config.json of model.encoder: its head for masked "
                "tokens has output weights of its own, which xlt does not train. Name another encoder"
            )
        if self._pretrained is None:
            return {}
        with reading(self._pretrained, "weights"):
            loaded: Any = self.family.masked.from_pretrained(
                self._pretrained, output_loading_info=True, dtype="float32"
            )
        model, report = loaded
        names, state = self.family.masked_names.parts, model.state_dict()
        found = {own: name for own, name in names.items() if name in state}
        if not set(report["missing_keys"]).isdisjoint(found.values()):
            return {}
        return {own: state[name] for own, name in found.items()}

    def cut(self, layers: int) -> None:
        """Drop the upper layers, so that the states of a layer inside the network can be read.

        The states are those that transformers returns as `hidden_states`: below the last layer, without the
        norm that some families have after the last layer.

        Args:
            layers: Number of layers to keep.

        Raises:
            ValueError: The encoder has fewer layers.
        """
        if not 1 <= layers <= len(self.layers):
            raise ValueError(f"layer {layers} does not exist: the encoder has layers 1 to {len(self.layers)}")
        self.family.cut(self.transformer, layers)
        become(self.layers[-1], self.family.read_layer)

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the layers. On CUDA, a single kernel then does the work between two matrix products.

        All layers but the last share the compiled code, for any number of tokens. torch compiles in the first
        steps.

        Args:
            backend: Backend of torch.compile.

        Raises:
            ValueError: The family computes attention in blocks, each of which would be compiled.
        """
        if self.family.in_blocks:
            kind = self.config.model_type
            raise ValueError(
                f"model.compile is True: it must be false for an encoder of the type {kind}, whose attention "
                "is computed in blocks of many shapes"
            )
        # One variant each for training and evaluation, each kind of layer, and each way to read states.
        set_recompile_limit(VARIANTS)
        for layer in self.layers:
            layer.compile(fullgraph=True, dynamic=True, backend=backend)

    def recompute_activations(self) -> None:
        """Compute the layers' activations again in the backward pass instead of keeping them.

        A layer then keeps only its input. Gradients and dropout masks stay the same, bit for bit.
        """
        recompute(self.transformer)

    def forward(
        self,
        input_ids: Int[Tensor, "1 N"],
        position_ids: Int[Tensor, "1 N"],
        packing: Packing,
        token_indices: Int[Tensor, " M"] | None = None,
        images: BatchImages | None = None,
        segment_ids: Int[Tensor, "1 N"] | None = None,
    ) -> Float[Tensor, "M D"]:
        """Return the last layer's states of all tokens, or of the tokens at `token_indices`.

        The last layer does not compute states that nobody asks for.

        Args:
            input_ids: Token ids of the sequences end to end.
            position_ids: Position ids of the tokens. Each sequence begins at `facts.first_position`.
            packing: Lengths of the sequences.
            token_indices: Indices of the tokens to read, ascending. If None, all tokens.
            images: Projected images, which replace the embeddings of their placeholders. Defaults to none.
            segment_ids: Numbers of the segments of the tokens. Defaults to 0. A family without segments does
                not read them.
        """
        heads = self.config.num_attention_heads
        layout = layout_of(packing, heads, token_indices, self.family.in_blocks)
        read: dict[str, Any] = {"input_ids": input_ids}
        if images is not None:
            read = {"inputs_embeds": put_tokens(self.words(input_ids), images)}
        if self.family.has_segments:
            read["token_type_ids"] = self.family.segments(self.config, input_ids, segment_ids)
        position_ids = self.family.position_ids_read(self.config, input_ids, position_ids, packing)
        output = self.transformer(**read, position_ids=position_ids, layout=layout)
        return output.last_hidden_state.squeeze(0)

    @torch.no_grad()
    def means(
        self, input_ids: Int[Tensor, "1 N"], position_ids: Int[Tensor, "1 N"], packing: Packing
    ) -> Float[Tensor, "L S D"]:
        """Return each sequence's mean state after the embeddings and every layer, special tokens included."""
        output = self.transformer(
            input_ids=input_ids,
            position_ids=self.family.position_ids_read(self.config, input_ids, position_ids, packing),
            layout=layout_of(packing, self.config.num_attention_heads, in_blocks=self.family.in_blocks),
            output_hidden_states=True,
        )
        sums = [sum_by_sequence(states.squeeze(0), packing) for states in output.hidden_states]
        return torch.stack(sums) / packing.lengths[:, None]


def sum_by_sequence(states: Float[Tensor, "N D"], packing: Packing) -> Float[Tensor, "S D"]:
    """Return the sum of each sequence's states, in single precision."""
    sequence = torch.repeat_interleave(packing.lengths, output_size=len(states))
    sums = states.new_zeros(len(packing.lengths), states.shape[1], dtype=torch.float32)
    return sums.index_add(0, sequence, states.float())


def load_config(name: str) -> PretrainedConfig:
    """Return the config of an encoder.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.

    Raises:
        FileNotFoundError: There is no such model, or its config.json is damaged.
        ValueError: xlt cannot train this type of model.
    """
    check_encoder_exists(name)
    kind = type_in(name)
    if kind is not None:
        check_type(name, kind)
    with reading(name, "config"):
        # transformers would ask on the terminal whether to run code that comes with a model.
        config = AutoConfig.from_pretrained(model_folder(name), trust_remote_code=False)
    for key, value in NEUTRAL.items():
        setattr(config, key, value)
    check_config(name, config)
    return config


def shape_of(config: PretrainedConfig) -> dict[str, int]:
    """Return the sizes that the weights of a config must have."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    return {name: getattr(config, name) for name in names}


def check_vocabulary(name: str, num_ids: int) -> None:
    """Check that an encoder has a word embedding for each token id of its tokenizer.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.
        num_ids: The tokenizer's largest token id plus one.

    Raises:
        ValueError: The tokenizer has more ids than the table has rows.
    """
    rows = load_config(name).vocab_size
    if num_ids > rows:
        raise ValueError(
            f"the tokenizer of {name} has {num_ids:,} token ids, but its embedding has {rows:,} rows "
            "(vocab_size in config.json). Enlarge the embedding, with transformers by "
            f"model.resize_token_embeddings({num_ids}) and model.save_pretrained, or take the added tokens "
            "out of the tokenizer's files"
        )

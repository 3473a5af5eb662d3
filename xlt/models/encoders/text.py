"""The shared encoder: the XLM-R of `transformers`, which reads packed sequences.

N tokens, S sequences, M tokens read, L layers (the embeddings count as one), D hidden width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaModel
from transformers.utils import logging

from xlt.batch.images import BatchImages, put_tokens
from xlt.batch.packing import Packing
from xlt.models.encoders.facts import KNOWN, EncoderFacts, facts_of
from xlt.models.finite import check_finite
from xlt.models.kernels.attention import NAME, ReadLayer, layout_of
from xlt.models.kernels.dropout import replace_dropout
from xlt.models.kernels.embedding import WordEmbedding, hold_gradients
from xlt.models.kernels.linear import replace_linear
from xlt.system.file_errors import raise_of_file
from xlt.system.folders import WITHOUT_NETWORK, check_encoder_exists, model_folder
from xlt.system.tables import counted
from xlt.system.torch_private import become, set_recompile_limit

VARIANTS = 32
"""Largest number of variants of a layer that are compiled."""


class Encoder(nn.Module):
    """XLM-R whose attention stays within each packed sequence.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run. With `from_scratch` a folder needs
            only a config.
        from_scratch: Draw random weights for the config instead of loading weights.
        dropout: Dropout probability in the layers and on attention weights. If None, the config's own.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: The model is not an XLM-R.
    """

    def __init__(self, name: str, from_scratch: bool = False, dropout: float | None = None) -> None:
        super().__init__()
        self._pretrained = None if from_scratch else model_folder(name)
        config = load_config(name)
        if dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        if from_scratch:
            self.transformer = XLMRobertaModel(config, add_pooling_layer=False)
        else:
            self.transformer = _pretrained(name, config)
        self.transformer.set_attn_implementation(NAME)
        replace_dropout(self.transformer)
        replace_linear(self.transformer)
        become(self.transformer.encoder.layer[-1], ReadLayer)
        hold_gradients(self.transformer.embeddings.word_embeddings)
        # Loading weights leaves a model without dropout.
        self.transformer.train()

    @property
    def words(self) -> WordEmbedding:
        """Return the table of word embeddings."""
        table = self.transformer.embeddings.word_embeddings
        assert isinstance(table, WordEmbedding)
        return table

    @property
    def embeddings(self) -> nn.Module:
        """Return the module below the lowest layer: the embeddings and their norm."""
        return self.transformer.embeddings

    @property
    def layers(self) -> nn.ModuleList:
        """Return the layers, the lowest first."""
        return self.transformer.encoder.layer

    @property
    def config(self) -> XLMRobertaConfig:
        """Return the config, which holds the sizes and dropout probabilities."""
        return self.transformer.config

    @property
    def facts(self) -> EncoderFacts:
        """Return the first position and the longest input."""
        return facts_of(self.config)

    @property
    def shape(self) -> dict[str, int]:
        """Return the sizes that weights must have."""
        return shape_of(self.config)

    def masked_head(self) -> dict[str, Tensor]:
        """Return the weights of the encoder's own head for masked tokens; empty if it has none.

        The head's output weights are the word embeddings and are left out.
        """
        if self._pretrained is None:
            return {}
        with quietly():
            loaded: Any = XLMRobertaForMaskedLM.from_pretrained(
                self._pretrained, output_loading_info=True, dtype="float32"
            )
        model, report = loaded
        state = model.lm_head.state_dict()
        found = {name: tensor for name, tensor in state.items() if not name.startswith("decoder")}
        return {} if any(f"lm_head.{name}" in report["missing_keys"] for name in found) else found

    def cut(self, layers: int) -> None:
        """Drop the upper layers, so that the states of a layer inside the network can be read.

        Args:
            layers: Number of layers to keep.

        Raises:
            ValueError: The encoder has fewer layers.
        """
        stack = self.transformer.encoder.layer
        if not 1 <= layers <= len(stack):
            raise ValueError(f"layer {layers} is asked for, but the encoder has 1 to {len(stack)}")
        self.transformer.encoder.layer = stack[:layers]
        become(self.transformer.encoder.layer[-1], ReadLayer)

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the layers. On CUDA, a single kernel then does the work between two matrix products.

        All layers but the last share the compiled code, for any number of tokens. torch compiles in the first
        steps.

        Args:
            backend: Backend of torch.compile.
        """
        # One variant each for training and evaluation, each kind of layer, and each way to read states.
        set_recompile_limit(VARIANTS)
        for layer in self.transformer.encoder.layer:
            layer.compile(fullgraph=True, dynamic=True, backend=backend)

    def forward(
        self,
        input_ids: Int[Tensor, "1 N"],
        position_ids: Int[Tensor, "1 N"],
        packing: Packing,
        token_indices: Int[Tensor, " M"] | None = None,
        images: BatchImages | None = None,
    ) -> Float[Tensor, "M D"]:
        """Return the last layer's states of all tokens, or of the tokens at `token_indices`.

        The last layer does not compute states that nobody asks for.

        Args:
            input_ids: Token ids of the sequences end to end.
            position_ids: Position ids of the tokens. Each sequence begins at `facts.first_position`.
            packing: Lengths of the sequences.
            token_indices: Indices of the tokens to read, ascending. If None, all tokens.
            images: Projected images, which replace the embeddings of their placeholders. Defaults to none.
        """
        layout = layout_of(packing, self.config.num_attention_heads, token_indices)
        read: dict[str, Any] = {"input_ids": input_ids}
        if images is not None:
            read = {"inputs_embeds": put_tokens(self.words(input_ids), images)}
        output = self.transformer(**read, position_ids=position_ids, layout=layout)
        return output.last_hidden_state.squeeze(0)

    @torch.no_grad()
    def means(
        self, input_ids: Int[Tensor, "1 N"], position_ids: Int[Tensor, "1 N"], packing: Packing
    ) -> Float[Tensor, "L S D"]:
        """Return each sequence's mean state after the embeddings and every layer, special tokens included."""
        output = self.transformer(
            input_ids=input_ids,
            position_ids=position_ids,
            layout=layout_of(packing, self.config.num_attention_heads),
            output_hidden_states=True,
        )
        sums = [sum_by_sequence(states.squeeze(0), packing) for states in output.hidden_states]
        return torch.stack(sums) / packing.lengths[:, None]


def sum_by_sequence(states: Float[Tensor, "N D"], packing: Packing) -> Float[Tensor, "S D"]:
    """Return the sum of each sequence's states, in single precision."""
    sequence = torch.repeat_interleave(packing.lengths, output_size=len(states))
    sums = states.new_zeros(len(packing.lengths), states.shape[1], dtype=torch.float32)
    return sums.index_add(0, sequence, states.float())


def load_config(name: str) -> XLMRobertaConfig:
    """Return the config of an encoder.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: xlt cannot train this type of model.
    """
    check_encoder_exists(name)
    try:
        config = AutoConfig.from_pretrained(model_folder(name))
    except (OSError, ValueError) as error:
        raise_of_file(f"model.encoder {name!r}", error)
        raise FileNotFoundError(
            f"model.encoder {name!r} is neither a folder with a config.json nor a model that the hub "
            f"gave ({str(error).strip().splitlines()[0]}). {WITHOUT_NETWORK}"
        ) from error
    if config.model_type not in KNOWN:
        raise ValueError(
            f"model.encoder {name!r} is a {config.model_type}, not an {' or '.join(KNOWN)}. Name "
            "another model"
        )
    return config  # type: ignore[return-value]


def shape_of(config: XLMRobertaConfig) -> dict[str, int]:
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


@contextmanager
def quietly() -> Iterator[None]:
    """Hide the progress bars and the table of missing weights of transformers inside the block."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _pretrained(name: str, config: XLMRobertaConfig) -> XLMRobertaModel:
    """Return the model with its weights in single precision.

    Raises:
        FileNotFoundError: The weights cannot be loaded, or some are missing.
        NotFiniteError: A weight is NaN or infinite.
    """
    try:
        with quietly():
            loaded: Any = XLMRobertaModel.from_pretrained(
                model_folder(name),
                config=config,
                add_pooling_layer=False,
                dtype="float32",
                output_loading_info=True,
            )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise_of_file(f"the weights of model.encoder {name!r}", error)
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights cannot be loaded "
            f"({str(error).strip().splitlines()[0]}). "
            "Name a model with weights. xlt.fit can draw random weights (model.from_scratch)"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights lack {counted(len(missing), 'tensor')}, such as "
            f"{missing[0]}. Name a model with weights. xlt.fit can draw random weights (model.from_scratch)"
        )
    check_finite(model.state_dict(), f"model.encoder {name!r}", "name a model with finite weights")
    return model

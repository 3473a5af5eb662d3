"""The shared encoder: `transformers`' own XLM-R, reading packed sequences.

N tokens, S sequences, M tokens read, L layers with the embeddings before them, D hidden width.
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

from xlt.batch.packing import Packing
from xlt.models.finite import check_finite
from xlt.models.kernels.attention import NAME, ReadLayer, layout_of
from xlt.models.kernels.dropout import replace_dropout
from xlt.models.kernels.embedding import WordEmbedding, hold_gradients
from xlt.models.kernels.linear import replace_linear
from xlt.system.file_errors import raise_of_file
from xlt.system.folders import model_folder
from xlt.system.torch_private import become, set_recompile_limit

RESERVED_POSITIONS = 2
"""Positions that XLM-R's table holds but no token takes (fairseq's padding id + 1)."""

VARIANTS = 32
"""Most variants of a layer that are compiled."""


class Encoder(nn.Module):
    """XLM-R with attention kept within each packed sequence.

    Args:
        name: A name on the hub, a folder, or a finished run's; a config alone will do with `from_scratch`.
        from_scratch: Draw random weights for the config instead of loading them.
        dropout: Probability in the layers and on attention's weights; the config's own where not given.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: It is not an XLM-R.
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
        """The table of word embeddings."""
        table = self.transformer.embeddings.word_embeddings
        assert isinstance(table, WordEmbedding)
        return table

    @property
    def config(self) -> XLMRobertaConfig:
        """Sizes and dropout."""
        return self.transformer.config

    @property
    def shape(self) -> dict[str, int]:
        """The sizes that weights must agree on."""
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        return {name: getattr(self.config, name) for name in (*names, "vocab_size")}

    def masked_head(self) -> dict[str, Tensor]:
        """The head for hidden tokens that the encoder was pretrained with; empty where it has none.

        Its output weights, which are the word embeddings, are left out.
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
        """Drop the layers above the first so many, for whoever reads a state inside the network.

        Raises:
            ValueError: There are fewer.
        """
        stack = self.transformer.encoder.layer
        if not 1 <= layers <= len(stack):
            raise ValueError(f"layer {layers} is asked for, but the encoder has 1 to {len(stack)}")
        self.transformer.encoder.layer = stack[:layers]
        become(self.transformer.encoder.layer[-1], ReadLayer)

    def compile_layers(self, backend: str = "inductor") -> None:
        """Compile the layers: on CUDA, one kernel then does what lies between two matrix products.

        One layer's code serves all but the last, and any number of tokens. It is made in the first steps.

        Args:
            backend: Of torch.compile.
        """
        # A variant each for training and evaluation, for each layer's kind, and for each way to read states.
        set_recompile_limit(VARIANTS)
        for layer in self.transformer.encoder.layer:
            layer.compile(fullgraph=True, dynamic=True, backend=backend)

    def forward(
        self,
        input_ids: Int[Tensor, "1 N"],
        position_ids: Int[Tensor, "1 N"],
        packing: Packing,
        token_indices: Int[Tensor, " M"] | None = None,
    ) -> Float[Tensor, "M D"]:
        """The last layer's state of each token, or of those at `token_indices`, which ascend.

        States that are not asked for are not computed where they can be left out.
        """
        layout = layout_of(packing, self.config.num_attention_heads, token_indices)
        output = self.transformer(input_ids=input_ids, position_ids=position_ids, layout=layout)
        return output.last_hidden_state.squeeze(0)

    @torch.no_grad()
    def means(
        self, input_ids: Int[Tensor, "1 N"], position_ids: Int[Tensor, "1 N"], packing: Packing
    ) -> Float[Tensor, "L S D"]:
        """The mean over each sequence's tokens, special ones included, of the embeddings and every layer."""
        output = self.transformer(
            input_ids=input_ids,
            position_ids=position_ids,
            layout=layout_of(packing, self.config.num_attention_heads),
            output_hidden_states=True,
        )
        sums = [sum_by_sequence(states.squeeze(0), packing) for states in output.hidden_states]
        return torch.stack(sums) / packing.lengths[:, None]


def sum_by_sequence(states: Float[Tensor, "N D"], packing: Packing) -> Float[Tensor, "S D"]:
    """Each sequence's states added up, in single precision."""
    sequence = torch.repeat_interleave(packing.lengths, output_size=len(states))
    sums = states.new_zeros(len(packing.lengths), states.shape[1], dtype=torch.float32)
    return sums.index_add(0, sequence, states.float())


def load_config(name: str) -> XLMRobertaConfig:
    """The encoder's config.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: It is not an XLM-R.
    """
    try:
        config = AutoConfig.from_pretrained(model_folder(name))
    except (OSError, ValueError) as error:
        raise_of_file(f"model.encoder {name!r}", error)
        raise FileNotFoundError(
            f"model.encoder {name!r} is neither a folder with a config.json nor a model that the hub "
            f"gave ({str(error).strip().splitlines()[0]})"
        ) from error
    if not isinstance(config, XLMRobertaConfig):
        raise ValueError(f"model.encoder {name!r} is a {config.model_type}, not an xlm-roberta")
    return config


def most_tokens(config: XLMRobertaConfig) -> int:
    """The longest sequence that the encoder has positions for, in tokens."""
    return config.max_position_embeddings - RESERVED_POSITIONS


def check_vocabulary(name: str, num_ids: int) -> None:
    """Refuse an encoder whose table of word embeddings is too small for its tokenizer.

    Args:
        name: The encoder: a name on the hub, a folder, or a finished run's.
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
    """Within, transformers keeps its bars and its table of missing weights to itself."""
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
    """The model with its weights in single precision."""
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
            "Name a model with weights, or set model.from_scratch to draw random ones"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights lack {len(missing)} tensors, such as {missing[0]}. Name "
            "a model with weights, or set model.from_scratch to draw random ones"
        )
    check_finite(model.state_dict(), f"model.encoder {name!r}", "name a model with finite weights")
    return model

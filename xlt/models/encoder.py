"""The shared encoder: `transformers`' own XLM-R, reading packed sequences. N tokens, D hidden width."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, XLMRobertaConfig, XLMRobertaModel

from xlt.models.attention import NAME, ReadLayer, layout_of
from xlt.models.dropout import replace_dropout
from xlt.models.embedding import WordEmbedding, hold_gradients
from xlt.packing import Packing

RESERVED_POSITIONS = 2
"""Positions that XLM-R's table holds but no token takes (fairseq's padding id + 1)."""


class Encoder(nn.Module):
    """XLM-R with attention kept within each packed sequence.

    Args:
        name: A name on the hub or a folder, of weights, or of a config alone with `from_scratch`.
        from_scratch: Draw random weights for the config instead of loading them.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: It is not an XLM-R.
    """

    def __init__(self, name: str, from_scratch: bool = False) -> None:
        super().__init__()
        config = load_config(name)
        if from_scratch:
            self.transformer = XLMRobertaModel(config, add_pooling_layer=False)
        else:
            self.transformer = _pretrained(name, config)
        self.transformer.set_attn_implementation(NAME)
        replace_dropout(self.transformer)
        self.transformer.encoder.layer[-1].__class__ = ReadLayer
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

    def forward(
        self,
        input_ids: Int[Tensor, "1 N"],
        position_ids: Int[Tensor, "1 N"],
        packing: Packing,
        places: Int[Tensor, " M"] | None = None,
    ) -> Float[Tensor, "M D"]:
        """The last layer's state of each token, or of those at `places`, which ascend.

        States that are not asked for are not computed where they can be left out.
        """
        layout = layout_of(packing, self.config.num_attention_heads, places)
        output = self.transformer(input_ids=input_ids, position_ids=position_ids, layout=layout)
        return output.last_hidden_state.squeeze(0)


def load_config(name: str) -> XLMRobertaConfig:
    """The encoder's config.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: It is not an XLM-R.
    """
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
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


def _pretrained(name: str, config: XLMRobertaConfig) -> XLMRobertaModel:
    """The model with its weights in single precision."""
    try:
        return XLMRobertaModel.from_pretrained(name, config=config, add_pooling_layer=False, dtype="float32")
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights cannot be loaded "
            f"({str(error).strip().splitlines()[0]}). "
            "Name a model with weights, or set model.from_scratch to draw random ones"
        ) from error

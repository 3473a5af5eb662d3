"""Facts that the config of an encoder tells: the first position and the longest input.

The tokenizer of an encoder tells its special ids: `xlt.data.encode.TextEncoder.special_ids`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from transformers import PretrainedConfig


class EncoderFacts(NamedTuple):
    """Facts about an encoder that batches depend on.

    Args:
        first_position: Position id of the first token of a sequence.
        max_tokens: Largest number of tokens in a sequence, special tokens included.
    """

    first_position: int
    max_tokens: int


def _xlm_roberta(config: PretrainedConfig) -> EncoderFacts:
    """Return the facts about an XLM-R, whose position table begins with rows that no token uses.

    Source: `create_position_ids_from_input_ids` of transformers' XLM-R, which follows fairseq.
    """
    first = int(config.pad_token_id) + 1  # type: ignore[arg-type]
    return EncoderFacts(first, config.max_position_embeddings - first)


KNOWN: Mapping[str, Callable[[PretrainedConfig], EncoderFacts]] = {"xlm-roberta": _xlm_roberta}
"""For each `model_type` of a config that xlt can train, the function that tells the facts."""


def facts_of(config: PretrainedConfig) -> EncoderFacts:
    """Return the facts about an encoder.

    Args:
        config: The config that `load_config` gave.
    """
    return KNOWN[config.model_type](config)

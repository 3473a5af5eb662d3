"""Facts that the config of an encoder tells: the first position and the longest input.

The tokenizer of an encoder tells its special ids: `xlt.data.encode.TextEncoder.special_ids`.
"""

from transformers import PretrainedConfig

from xlt.models.encoders.families import family_of
from xlt.models.encoders.family import EncoderFacts


def facts_of(config: PretrainedConfig) -> EncoderFacts:
    """Return the facts about an encoder.

    Args:
        config: The config that `load_config` gave.
    """
    return family_of(config).facts(config)

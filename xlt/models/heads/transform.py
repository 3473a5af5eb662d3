"""Transform of states that an encoder's heads begin with, as transformers defines them for some encoders."""

from torch import nn
from transformers import PretrainedConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertPredictionHead


def head_transform(config: PretrainedConfig) -> nn.Module | None:
    """Return a new transform for a head, or None if the encoder's heads in transformers have none.

    All heads of ModernBERT begin with a linear layer, an activation and a norm.

    Args:
        config: Config of the encoder.
    """
    return ModernBertPredictionHead(config) if config.model_type == "modernbert" else None  # type: ignore[arg-type]

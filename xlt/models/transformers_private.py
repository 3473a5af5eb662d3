"""Private parts of transformers, read in version 5.23: the only module of xlt that touches them."""

from torch import nn
from transformers import PreTrainedModel


def initialise(module: nn.Module, model: PreTrainedModel) -> None:
    """Draw a module's first weights as the model draws those of its own layers, from torch's generator.

    Args:
        module: The module, such as a head.
        model: The model, whose config has the standard deviation.
    """
    module.apply(model._init_weights)

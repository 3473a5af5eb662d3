"""Private parts of transformers, read in version 5.23: the only module of xlt that touches them."""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


def initialise(module: nn.Module, model: PreTrainedModel) -> None:
    """Draw a module's first weights as the model draws those of its own layers, from torch's generator.

    Args:
        module: The module, such as a head.
        model: The model, whose config has the standard deviation.
    """
    module.apply(model._init_weights)


def recompute(model: PreTrainedModel) -> None:
    """Let the layers of a model compute their activations again in the backward pass, with the same dropout.

    transformers' own method also lets the embeddings require gradients, which frozen embeddings must not.

    Args:
        model: The model.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert layers
    for layer in layers:
        layer.gradient_checkpointing = True
        function: Any = partial(checkpoint, use_reentrant=False)
        layer._gradient_checkpointing_func = function

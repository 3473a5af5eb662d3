"""Frozen weights of an encoder. Checkpoints hold their hash instead of the weights."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from xlt.models.encoders.text import Encoder
from xlt.system.checks import require


def freeze(encoder: Encoder, layers: int) -> None:
    """Freeze the embeddings and the lowest layers of an encoder. torch then has no backward pass below them.

    Args:
        encoder: The encoder.
        layers: Number of the lowest layers to freeze. 0 freezes the embeddings alone.

    Raises:
        ValueError: The encoder has fewer layers.
    """
    most = len(encoder.layers)
    rule = f"be a number of layers from 0 to {most}, the encoder's number of layers"
    require(0 <= layers <= most, "model.frozen_layers", layers, rule)
    for part in (*encoder.below, *encoder.layers[:layers]):
        part.requires_grad_(False)


def frozen_parameters(encoder: Encoder) -> dict[str, nn.Parameter]:
    """Return the parameters of an encoder that are not trained, by their names in the transformer."""
    named = encoder.transformer.named_parameters()
    return {name: parameter for name, parameter in named if not parameter.requires_grad}


def hash_of_parameters(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of parameters with their names, in hexadecimal digits.

    Args:
        parameters: Names and values, in any order.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(parameters, key=lambda pair: pair[0]):
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.numpy().data)
    return digest.hexdigest()


def check_same(theirs: Mapping[str, Any], ours: Mapping[str, Any], encoder: str, language_lora: str) -> None:
    """Compare the frozen weights of a checkpoint with those that a run has loaded.

    Args:
        theirs: Hashes in the checkpoint, by part.
        ours: Hashes of the weights that were loaded, by part.
        encoder: Name of the encoder.
        language_lora: Folder of the language LoRA. Empty if there is none.

    Raises:
        ValueError: The weights have changed.
    """
    for part, key, name in (
        ("encoder", "model.encoder", encoder),
        ("language_lora", "model.language_lora", language_lora),
    ):
        there, here = theirs.get(part, ""), ours[part]
        if there != here:
            raise ValueError(
                f"the weights of {key} {name} have changed since the run was started (hash {there[:12]} in "
                f"the checkpoint, {here[:12]} now). Checkpoints do not hold frozen weights: restore the "
                f"files of {name}, or start a new run with another --name"
            )

"""Parts of the transfer model: one shared encoder, and a head for each task."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig
from transformers.models.modernbert.modeling_modernbert import ModernBertPredictionHead

from xlt.batch.batch import Batch
from xlt.models.encoders.text import Encoder
from xlt.models.finite import has_nan
from xlt.models.heads.classification import Pooler
from xlt.models.heads.head import Columns, Head

TrainedHeads = tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Sequence[str]]]
"""Weights of heads and names of their classes, both by head, as returned by `load_heads`."""


def logits_of(encoder: Encoder, head: Head, batch: Batch) -> Tensor:
    """Return the head's logits for a micro-batch whose images are projected."""
    token_indices = head.token_indices(batch.packing, batch.columns)
    tokens = batch.input_ids, batch.position_ids, batch.packing
    states = encoder(*tokens, token_indices, batch.images, batch.segment_ids)
    return head(states, batch.packing, batch.columns)


def outputs_of(encoder: Encoder, head: Head, batch: Batch) -> tuple[Columns, Tensor]:
    """Return the head's outputs for a micro-batch, and True (on the device) if a logit is NaN or +inf."""
    logits = logits_of(encoder, head, batch)
    return head.predict(logits, batch.packing, batch.columns), has_nan(logits)


def adapted(head: Head, config: PretrainedConfig) -> Head:
    """Return a new head in the form that transformers gives to heads on an encoder.

    All heads of ModernBERT begin with a linear layer, an activation and a norm. The hidden layer of
    DeBERTa's heads has GELU.

    Args:
        head: The head, before its weights are drawn or loaded.
        config: Config of the encoder.
    """
    if config.model_type == "modernbert":
        head.adapt(ModernBertPredictionHead(config))  # type: ignore[arg-type]
    if config.model_type == "deberta-v2":
        for module in head.modules():
            if isinstance(module, Pooler):
                module.activation = F.gelu
    return head


def load_weights(head: Head, key: str, labels: Sequence[str], trained: TrainedHeads) -> None:
    """Load the weights that a run trained for a head.

    Args:
        head: The head.
        key: Key of the head.
        labels: Names of the classes that the head must have, in order.
        trained: Weights of the heads that the run trained, and names of their classes.

    Raises:
        ValueError: The run did not train the head, or trained the head with other classes.
    """
    weights, classes = trained
    if key not in weights:
        known = ", ".join(sorted(weights)) or "none"
        raise ValueError(
            f"the head {key} is not among the trained heads: {known}. Name a run that trained {key}"
        )
    if list(labels) != list(classes[key]):
        raise ValueError(
            f"the head {key} was trained with the classes {list(classes[key])}, but the task has "
            f"{list(labels)}. Name the classes in the task's file as in the run"
        )
    head.load_state_dict(weights[key])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator with this seed inside the block, and restore its state after."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def check_shape(theirs: Mapping[str, int], ours: Mapping[str, int]) -> None:
    """Compare the sizes of the encoder in a checkpoint with those of model.encoder.

    Raises:
        ValueError: A size differs.
    """
    differ = {
        name: f"{theirs.get(name)} in the checkpoint, {size} in model.encoder"
        for name, size in ours.items()
        if theirs.get(name) != size
    }
    if differ:
        raise ValueError(
            f"the checkpoint is of another encoder: {differ}. Name the encoder that the run was "
            "started with, or another trainer.default_root_dir"
        )

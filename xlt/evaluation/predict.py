"""Predictions of a model for encoded rows: packed batches sorted by length, each row once.

R rows.
"""

from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from xlt.batch.batch import Batch
from xlt.batch.host_copy import DeferredHostCopy
from xlt.batch.prediction_buffer import PredictionBuffer
from xlt.data.features import Features
from xlt.data.sampling.batches import sorted_batches
from xlt.data.sampling.steps import TaskRows, ValidationBatches, as_is
from xlt.kinds.task import Outputs, Task
from xlt.models.encoders.text import Encoder
from xlt.models.finite import has_nan
from xlt.models.heads.head import Head
from xlt.models.saving import load_heads
from xlt.module import put_weights
from xlt.system.checks import NotFiniteError


class EvaluationModel(nn.Module):
    """An encoder and the heads that belong to it, ready to predict.

    Args:
        name: The encoder's name, or a finished run's folder.
        layer: The layer that is read; the last where not given.

    Raises:
        ValueError: The encoder has no such layer.
    """

    def __init__(self, name: str, layer: int | None = None) -> None:
        super().__init__()
        self.encoder = Encoder(name)
        if layer is not None:
            self.encoder.cut(layer)
        self.heads = nn.ModuleDict()
        self._trained = load_heads(name)
        self.name = name
        self.spoiled: Tensor | bool = False
        """True once a logit is NaN or +inf; stays on the device."""

    def add_head(self, task: Task[Any]) -> None:
        """Give a task its head, with the weights that the run trained.

        Raises:
            ValueError: The run trained none for it, or on other classes.
        """
        if task.head_key not in self.heads:
            head = task.head(self.encoder.config.hidden_size, 0.0)
            if task.needs_training:
                put_weights(head, task, *self._trained)
            self.heads[task.head_key] = head

    def forward(self, head_key: str, batch: Batch) -> dict[str, Tensor]:
        """What the head predicts for a batch."""
        head = self.heads[head_key]
        assert isinstance(head, Head)
        token_indices = head.token_indices(batch.packing, batch.columns)
        states = self.encoder(batch.input_ids, batch.position_ids, batch.packing, token_indices)
        logits = head(states, batch.packing, batch.columns)
        self.spoiled |= has_nan(logits)
        return head.predict(logits, batch.packing, batch.columns)


@torch.no_grad()
def predict(
    model: EvaluationModel,
    task: Task[Any],
    features: Features,
    rows: np.ndarray,
    tokens_per_micro_batch: int,
    fabric: Fabric,
) -> Outputs:
    """What the model predicts for the rows, in their order.

    Args:
        model: The model, on the fabric's device.
        task: The task, whose head the model has.
        features: Where the rows are.
        rows: Their numbers, ascending, shape (R,).
        tokens_per_micro_batch: Most tokens in a batch.
        fabric: Device and precision.

    Raises:
        NotFiniteError: A logit is NaN or infinite.
    """
    model.spoiled = False
    longest = int(features.counts("input_ids")[rows].max())
    batches = sorted_batches(features.counts("input_ids"), rows, max(tokens_per_micro_batch, longest))
    used = TaskRows(features, rows, task.inputs, model.encoder.facts.first_position)
    data = ValidationBatches(task.name, used, batches)
    kept = PredictionBuffer(rows)
    copies = DeferredHostCopy(lambda _, found: kept.add(found.pop("rows"), found))
    pins = fabric.device.type == "cuda"
    for batch in DataLoader(data, batch_size=None, collate_fn=as_is, pin_memory=pins):
        batch = fabric.to_device(batch)
        with fabric.autocast():
            found = model(task.head_key, batch)
        copies.add(task.name, {**found, "rows": batch.rows})
    copies.finish()
    if model.spoiled:
        raise NotFiniteError(
            f"{model.name} gives logits that are not finite for {task.name}, and is not scored: take another "
            "run or checkpoint, or precision 32-true"
        )
    return kept.outputs

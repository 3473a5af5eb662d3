"""Device and predictions of a model for encoded rows, in packed batches sorted by length. R rows."""

from typing import Any, Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from xlt.batch.batch import Batch
from xlt.batch.host_copy import DeferredHostCopy
from xlt.batch.predictions import PredictionBuffer, Predictions
from xlt.data.features import Features
from xlt.data.sampling.batches import sorted_batches
from xlt.data.sampling.steps import TaskRows, ValidationBatches, as_is
from xlt.kinds.task import Task
from xlt.models.adapters import exchanged
from xlt.models.encoders.multimodal import project_images
from xlt.models.encoders.text import Encoder
from xlt.models.finite import has_nan
from xlt.models.heads.head import Columns, Head
from xlt.models.saving import load_heads, load_vision
from xlt.models.transfer_model import adapted, load_weights, logits_of
from xlt.splits.encoded_split import EncodedSplit
from xlt.system.checks import NotFiniteError
from xlt.system.memory import keep_freed_memory
from xlt.system.precision import Precision, chosen_precision, warn_of_slow_bf16


class EvaluationModel(nn.Module):
    """An encoder and the trained heads beside it.

    Args:
        name: The encoder: a name on the hub, a folder, or a finished run's folder.
        layer: Layer whose states the heads read, 1 the lowest. Defaults to the last.
        language_lora: Language LoRA below the run's own LoRA. Defaults to that of the run's training.

    Raises:
        ValueError: The encoder has no such layer, or the language LoRA is of another encoder.
    """

    def __init__(self, name: str, layer: int | None = None, language_lora: str | None = None) -> None:
        super().__init__()
        self.name = name
        self.encoder = Encoder(name) if language_lora is None else exchanged(name, language_lora)
        if layer is not None:
            self.encoder.cut(layer)
        self.heads = nn.ModuleDict()
        self._trained, self.vision = load_heads(name), load_vision(name)

    def head(self, task: Task[Any]) -> Head:
        """Return a task's head, with the weights that the run trained.

        Raises:
            ValueError: The run did not train the head, or trained the head with other classes.
        """
        if task.head_key not in self.heads:
            head = adapted(task.head(self.encoder.config.hidden_size, 0.0), self.encoder.config)
            if task.needs_training:
                load_weights(head, task.head_key, task.labels, self._trained)
            self.heads[task.head_key] = head.to(self.encoder.words.weight.device).eval()
        head = self.heads[task.head_key]
        assert isinstance(head, Head)
        return head


def open_device(accelerator: str, precision: Precision) -> Fabric:
    """Return Fabric on one device.

    Raises:
        ValueError: The machine has no such accelerator, or the accelerator lacks the precision.
    """
    precision = chosen_precision(precision, accelerator)
    try:
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    except RuntimeError as error:
        raise ValueError(f"accelerator {accelerator!r} with precision {precision!r}: {error}") from error
    warn_of_slow_bf16(precision, fabric.device.type, "precision")
    keep_freed_memory(fabric.device.type)
    return fabric


def predict(
    model: EvaluationModel,
    task: Task[Any],
    stored: EncodedSplit,
    rows: np.ndarray,
    tokens_per_micro_batch: int,
    fabric: Fabric,
) -> Predictions:
    """Return the model's predictions for rows of a split.

    Args:
        model: The model, on the fabric's device.
        task: The task.
        stored: The split.
        rows: Row numbers in the split, ascending, shape (R,).
        tokens_per_micro_batch: Maximum number of tokens per micro-batch. A longer row is a micro-batch alone.
        fabric: Device and precision.

    Raises:
        NotFiniteError: A logit is NaN or infinite.
    """
    buffer = run_model(model, task, stored.features, rows, tokens_per_micro_batch, fabric)
    return buffer.predictions(stored.features, stored.references())


@torch.no_grad()
def run_model(
    model: EvaluationModel,
    task: Task[Any],
    features: Features,
    rows: np.ndarray,
    tokens_per_micro_batch: int,
    fabric: Fabric,
    probabilities: Literal["gold", "all", "predicted"] = "gold",
) -> PredictionBuffer:
    """Return the outputs of the task's head for encoded rows, with the probability of each prediction.

    Args:
        model: The model, on the fabric's device.
        task: The task.
        features: The encoded rows.
        rows: Numbers of the rows to predict, ascending, shape (R,).
        tokens_per_micro_batch: Maximum number of tokens per micro-batch. A longer row is a micro-batch alone.
        fabric: Device and precision.
        probabilities: Further probabilities to keep: those of the gold classes, those of all classes, or
            none. Defaults to the gold classes.

    Raises:
        NotFiniteError: A logit is NaN or infinite.
    """
    head, is_spoiled = model.head(task), torch.zeros((), dtype=torch.bool, device=fabric.device)
    longest = int(features.counts("input_ids")[rows].max())
    batches = sorted_batches(features.counts("input_ids"), rows, max(tokens_per_micro_batch, longest))
    used = TaskRows(features, rows, task.inputs, model.encoder.facts.first_position)
    data = ValidationBatches(task.name, used, batches)
    buffer = PredictionBuffer(rows)
    copies = DeferredHostCopy(lambda _, outputs: buffer.add(outputs.pop("rows"), outputs))
    is_cuda = fabric.device.type == "cuda"
    for batch in DataLoader(data, batch_size=None, collate_fn=as_is, pin_memory=is_cuda):
        batch = fabric.to_device(batch)
        with fabric.autocast():
            batch = project_images(batch, model.vision)
            logits = logits_of(model.encoder, head, batch)
            outputs = head.predict(logits, batch.packing, batch.columns)
        is_spoiled |= has_nan(logits)
        outputs |= _probabilities(head, logits, outputs, batch, probabilities)
        copies.add(task.name, {**outputs, "rows": batch.rows})
    copies.finish()
    if is_spoiled:
        raise NotFiniteError(
            f"{model.name} gives logits that are not finite for {task.name}, so the task is not scored. Use "
            "another run or checkpoint, or precision 32-true"
        )
    return buffer


def _probabilities(head: Head, logits: Tensor, outputs: Columns, batch: Batch, kept: str) -> Columns:
    """Return the probabilities to keep, by name; none for a head that does not choose among classes.

    The probability of a gold answer that is not a class is NaN.
    """
    found = head.probabilities(logits)
    if found is None:
        return {}
    chosen = {"probability": found.gather(-1, outputs["prediction"][:, None])[:, 0]}
    if kept == "all":
        return chosen | {"probabilities": found}
    if kept == "predicted":
        return chosen
    targets = batch.columns["targets"]
    gold = found.gather(-1, targets.clamp(min=0)[:, None])[:, 0]
    return chosen | {"gold_probability": gold.masked_fill(targets < 0, torch.nan)}

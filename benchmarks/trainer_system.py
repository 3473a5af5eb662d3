"""`transformers.Trainer` as a measured system, with its defaults or at its best."""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    XLMRobertaForSequenceClassification,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.measuring import Measured, Setting, Stopwatch, Turn, alone
from benchmarks.workload import TOKENIZER, encode_rows
from xlt.data.features import Features
from xlt.system.memory import keep_freed_memory

GOLDEN = (5**0.5 - 1) / 2
"""Inverse of the golden ratio. Its multiples, modulo 1, are spread evenly, however many are taken."""


class _Batches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches of encoded rows in a given order, padded beforehand, so that padding is not measured."""

    def __init__(self, features: Features, order: Sequence[int], batch_size: int) -> None:
        ids, counts = features.gather("input_ids", np.asarray(order))
        labels = features.gather("targets", np.asarray(order))[0].tolist()
        parts = np.split(ids, np.cumsum(counts)[:-1])
        rows = [
            {"input_ids": part.tolist(), "labels": label} for part, label in zip(parts, labels, strict=True)
        ]
        collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(TOKENIZER))
        starts = range(0, len(rows), batch_size)
        self._batches = [dict(collator(rows[start : start + batch_size])) for start in starts]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Return a batch by its number."""
        return self._batches[number]


def _only(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the only batch in a list. The loader takes whole batches of `_Batches`, one at a time."""
    (batch,) = batches
    return batch


def _grouped(features: Features, batch_size: int, batches: int, seed: int, warm_up: int) -> list[int]:
    """Return the rows of some of the batches that the Trainer's own length grouping makes of all rows.

    The grouping sorts each 50 batches by length, the longest first. Therefore the first batches of a short
    run would not be a sample of all lengths. The batches after the first `warm_up` are spread evenly over all
    batches, from the shortest to the longest, wherever the run stops.

    Args:
        features: Encoded rows.
        batch_size: Number of rows in a batch.
        batches: Number of batches to return.
        seed: Seed of the grouping and of the choice of batches.
        warm_up: Number of first batches that are drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = features.counts("input_ids")
    indices = get_length_grouped_indices(lengths.tolist(), batch_size, generator=generator)
    whole = [indices[i : i + batch_size] for i in range(0, len(indices) - batch_size + 1, batch_size)]
    whole.sort(key=lambda rows: lengths[rows].sum())
    first = torch.randint(len(whole), (warm_up,), generator=generator).tolist()
    offset = torch.rand((), generator=generator).item()
    spread = [int((offset + number * GOLDEN) % 1 * len(whole)) for number in range(batches - warm_up)]
    return [row for number in first + spread for row in whole[number]]


class _TokenCounter:
    """Counts the real tokens that a model reads."""

    def __init__(self, model: nn.Module) -> None:
        self._tokens: int | Tensor = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: nn.Module, __: Any, keywords: dict[str, Any]) -> None:
        self._tokens = self._tokens + keywords["attention_mask"].sum()

    def take(self) -> int | Tensor:
        """Return the number of tokens since the last call."""
        found, self._tokens = self._tokens, 0
        return found


class _TrainerWatch(TrainerCallback):
    """Callback that records each training step and each evaluation batch of the Trainer."""

    def __init__(
        self, train: Stopwatch, evaluation: Stopwatch, tokens: Callable[[], int | Tensor], turn: Turn
    ) -> None:
        self._train, self._evaluation, self._tokens, self._turn = train, evaluation, tokens, turn

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record an optimizer step, and stop training if the turn says so."""
        tokens = self._tokens()
        self._train.step(tokens)
        if not self._turn("train", tokens):
            control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record an evaluated batch."""
        tokens = self._tokens()
        self._evaluation.step(tokens)
        self._turn("evaluation", tokens)


def trainer_run(
    setting: Setting,
    batch_size: int = 8,
    attention: str = "sdpa",
    *,
    evaluated_by: tuple[int, str] | None = None,
    best: bool,
    seed: int,
    turn: Turn = alone,
) -> Measured:
    """Train and evaluate with `transformers.Trainer`, and return the measurements.

    Args:
        setting: Settings that all systems share.
        batch_size: Number of rows in a batch.
        attention: Attention function of `transformers`: `sdpa` or `eager`.
        evaluated_by: Batch size in rows and attention function of the evaluation. Defaults to the values of
            training.
        best: True for the precision of `setting`, length grouping over all rows, the fused optimizer and an
            allocator that keeps freed memory. False for the Trainer's defaults.
        seed: Seed of the weights and of the order of the rows.
        turn: Function to call after each step. By default, the system does not share the machine.
    """
    if best:
        keep_freed_memory(setting.device)
    evaluation_size, evaluation_attention = evaluated_by or (batch_size, attention)
    train, validation = _draw_batches(setting, batch_size, evaluation_size, best, seed)
    model = _draw_model(setting, attention, seed)
    counter = _TokenCounter(model)
    watches = Stopwatch(warm_up=setting.warm_up), Stopwatch.of_evaluation()
    with TemporaryDirectory(dir=setting.root) as folder, redirect_stdout(StringIO()):
        trainer = Trainer(
            model=model,
            args=_arguments(setting, best, folder),
            train_dataset=train,
            eval_dataset=validation,
            data_collator=_only,
            callbacks=[_TrainerWatch(*watches, counter.take, turn)],
        )
        trainer.train()
        counter.take()
        model.set_attn_implementation(evaluation_attention)
        watches[1].step(0)
        turn("evaluation", 0)
        trainer.evaluate()
    return Measured(*watches, [])


def _draw_batches(
    setting: Setting, batch_size: int, evaluation_size: int, best: bool, seed: int
) -> tuple[_Batches, _Batches]:
    """Return the batches of training and of evaluation: grouped by length at best, otherwise at random."""
    train, validation = encode_rows(setting.root)
    if best:
        order = _grouped(train, batch_size, setting.steps, seed, setting.warm_up)
        num_batches = setting.validation_rows // evaluation_size
        validation_order = _grouped(validation, evaluation_size, num_batches, seed, warm_up=0)
    else:
        generator = np.random.default_rng(seed)
        order = generator.integers(0, train.num_rows, setting.steps * batch_size).tolist()
        validation_order = generator.permutation(validation.num_rows)[: setting.validation_rows].tolist()
    return _Batches(train, order, batch_size), _Batches(validation, validation_order, evaluation_size)


def _draw_model(setting: Setting, attention: str, seed: int) -> XLMRobertaForSequenceClassification:
    """Return a classifier with random weights on the device, compiled if the setting says so."""
    torch.manual_seed(seed)
    config = setting.size.config
    config.num_labels = 3
    config._attn_implementation = attention
    with torch.device("cuda" if setting.device == "gpu" else setting.device):
        model = XLMRobertaForSequenceClassification(config)
    if setting.compile:
        for layer in model.roberta.encoder.layer:
            layer.compile(dynamic=True)
    return model


def _arguments(setting: Setting, best: bool, folder: str) -> TrainingArguments:
    """Return the Trainer's arguments. Each item of its data sets is a whole batch."""
    is_half = best and setting.precision == "bf16-mixed"
    return TrainingArguments(
        output_dir=folder,
        max_steps=setting.steps,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1,
        optim="adamw_torch_fused" if best else TrainingArguments.optim,
        bf16=is_half,
        bf16_full_eval=is_half,
        use_cpu=setting.device == "cpu",
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )

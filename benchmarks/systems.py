"""The systems that are measured, each through its own front door: xlt's command, and `transformers.Trainer`.

A system trains or evaluates the same rows with an encoder of the same size from random weights, all
dropouts at 0.1, AdamW. What is counted are real tokens: no padding, special tokens included.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    XLMRobertaForSequenceClassification,
)
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLayer
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.workload import MAX_LENGTH, TOKENIZER, Size, encode_rows
from xlt.batch.packing import Packing
from xlt.config.cli import CommandLine
from xlt.data.features import Features
from xlt.system.memory import keep_freed_memory

Turn = Callable[[Literal["train", "evaluation"], int | Tensor], bool]
"""Called after a step of so many tokens, and with none as evaluation begins; whether to train on."""

LEARNING_RATE = 1e-4
GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, are spread evenly, however many there are."""
WARM_UP = 2
"""Steps left out at the beginning of a measurement."""


@dataclass
class Stopwatch:
    """Real tokens and moments of successive steps; on a GPU the moments are its own, and nothing waits."""

    tokens: list[int | Tensor] = field(default_factory=list)
    moments: list[float | torch.cuda.Event] = field(default_factory=list)
    warm_up: int = WARM_UP

    @classmethod
    def of_evaluation(cls) -> "Stopwatch":
        """Of all batches of an evaluation, whose beginning is told as a step of no tokens.

        xlt's are sorted by length, so without the first they would not be a sample.
        """
        return cls(warm_up=1)

    def step(self, tokens: int | Tensor) -> None:
        """A step of so many tokens is done, or queued on the GPU."""
        if torch.cuda.is_available():
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.tokens.append(tokens)
            self.moments.append(event)
        else:
            self.tokens.append(int(tokens))
            self.moments.append(time.perf_counter())

    @property
    def rate(self) -> float:
        """Tokens a second after the first steps.

        On a GPU without the steps that a compilation held up: those slower than a fifth of the median speed.
        """
        tokens = [int(count) for count in self.tokens[self.warm_up :]]
        seconds = [_seconds(*pair) for pair in pairwise(self.moments[self.warm_up - 1 :])]
        if isinstance(self.moments[0], torch.cuda.Event):
            return rate_without_stalls(tokens, seconds)
        return sum(tokens) / sum(seconds)


def rate_without_stalls(tokens: Sequence[int], seconds: Sequence[float]) -> float:
    """Tokens a second over the steps that reach a fifth of the median step's speed."""
    speeds = [count / duration for count, duration in zip(tokens, seconds, strict=True)]
    least = statistics.median(speeds) / 5
    kept = [number for number, speed in enumerate(speeds) if speed >= least]
    return sum(tokens[number] for number in kept) / sum(seconds[number] for number in kept)


def _seconds(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    """Between two moments."""
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        end.synchronize()
        return begin.elapsed_time(end) / 1000
    assert isinstance(begin, float)
    assert isinstance(end, float)
    return end - begin


class Measured(NamedTuple):
    """A run of a system."""

    train: Stopwatch
    evaluation: Stopwatch
    losses: list[float]
    """Of each training step, where the system tells."""
    slots: int = 0
    """Tokens that attention computed in training, those rounded up included."""
    first_step_seconds: float = 0.0
    """Of xlt's first step, in which its layers are compiled where they are."""


# xlt


class _Watch(Callback):
    """Tells the stopwatches of each step or evaluation batch."""

    def __init__(self, warm_up: int, turn: Turn) -> None:
        self._turn = turn
        self.train, self.evaluation = Stopwatch(warm_up=warm_up), Stopwatch.of_evaluation()
        self.losses: list[Tensor] = []
        self.slots = 0
        self.first_step_seconds = 0.0
        self._begun = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """An optimizer step begins."""
        self._begun = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """An optimizer step is done."""
        self.first_step_seconds = self.first_step_seconds or time.perf_counter() - self._begun
        tokens = sum(part.num_tokens for part in batch)
        self.train.step(tokens)
        self.losses.append(pl_module.step_loss)
        self.slots += sum(part.packing.num_slots for part in batch)
        if not self._turn("train", tokens):
            trainer.should_stop = True

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """An evaluation begins."""
        self.evaluation.step(0)
        self._turn("evaluation", 0)

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch is evaluated."""
        self.evaluation.step(batch.num_tokens)
        self._turn("evaluation", batch.num_tokens)


@dataclass(frozen=True)
class Setting:
    """What every system is given."""

    root: Path
    """Folder of the rows (benchmarks/workload.py) and of the cache."""
    encoder: Path
    size: Size
    steps: int
    """Optimizer steps to train, warm-up included."""
    precision: str
    """Of the systems at their best: `32-true` or `bf16-mixed`, whichever is faster on the device."""
    validation_rows: int = 1500
    tokens_per_micro_batch: int = 4096
    micro_batches_per_step: int = 1
    device: str = "cpu"
    warm_up: int = WARM_UP
    """Steps of training that are left out at the beginning."""
    compile: bool = False
    """Compile the encoder's layers, each system's own."""

    @property
    def has_weights(self) -> bool:
        """Whether the encoder's weights are in its folder, or are drawn by each run."""
        return (self.encoder / "model.safetensors").exists()


def alone(*_: object) -> bool:
    """The turn of a system that has the machine for itself."""
    return True


def xlt_run(
    setting: Setting,
    padded: bool = False,
    options: Sequence[str] = (),
    *,
    turn: Turn = alone,
) -> Measured:
    """Train and evaluate with xlt's own command; `padded` puts a padded encoder in the packed one's place."""
    watch = _Watch(setting.warm_up, turn)
    with TemporaryDirectory(dir=setting.root) as folder, redirect_stdout(StringIO()):
        cli = CommandLine(
            [
                f"--model.encoder={setting.encoder}",
                f"--model.from_scratch={not setting.has_weights}",
                f"--model.compile={setting.compile}",
                f"--model.learning_rate={LEARNING_RATE}",
                "--data.tasks=[benchmarks.mixed]",
                f"--data.root={setting.root / 'rows'}",
                f"--data.cache={setting.root / 'cache'}",
                f"--data.max_length={MAX_LENGTH}",
                f"--data.validation_volume={setting.validation_rows}",
                f"--data.tokens_per_micro_batch={setting.tokens_per_micro_batch}",
                f"--data.micro_batches_per_step={setting.micro_batches_per_step}",
                f"--trainer.accelerator={setting.device}",
                "--trainer.devices=1",
                f"--trainer.max_steps={setting.steps}",
                f"--trainer.precision={setting.precision}",
                "--trainer.gradient_clip_val=1.0",
                f"--trainer.default_root_dir={folder}/run",
                "--trainer.logger=false",
                "--trainer.enable_progress_bar=false",
                "--checkpoints.every_n_steps=1000000",
                *options,
            ]
        )
        if padded:
            pad(cli.model.encoder)
        # Nothing is measured of saving.
        kept = [one for one in cli.trainer.callbacks if not isinstance(one, Checkpoint)]  # type: ignore[attr-defined]
        cli.trainer.callbacks = [*kept, watch]  # type: ignore[attr-defined]
        cli.trainer.fit(cli.model, cli.datamodule)
    losses = [float(loss) for loss in watch.losses]
    return Measured(watch.train, watch.evaluation, losses, watch.slots, watch.first_step_seconds)


class _Padded(nn.Module):
    """The packed encoder's interface on `transformers`' padded form with its SDPA attention."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        packing: Packing,
        token_indices: Tensor | None = None,
        images: None = None,
        segment_ids: None = None,
    ) -> Tensor:
        """The last layer's state of each real token, or of those at `token_indices`."""
        column = torch.arange(packing.longest, device=input_ids.device)
        is_token = column < packing.lengths[:, None].to(input_ids.device)
        # Padding has the first token's id, because only ids of the data have a trained word embedding.
        padded = torch.full_like(is_token, int(input_ids[0, 0]), dtype=torch.long)
        padded[is_token] = input_ids[0]
        positions = torch.zeros_like(padded)
        positions[is_token] = position_ids[0]
        output = self.transformer(padded, is_token.long(), position_ids=positions)
        states = output.last_hidden_state[is_token]
        return states if token_indices is None else states[token_indices]


def pad(encoder: Any) -> None:
    """Make an xlt encoder compute every micro-batch padded to its longest sequence."""
    encoder.transformer.set_attn_implementation("sdpa")
    encoder.transformer.encoder.layer[-1].__class__ = XLMRobertaLayer
    encoder.forward = _Padded(encoder.transformer).forward


# transformers.Trainer


class _Batches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches of encoded rows in this order, padded beforehand: no time is counted for it."""

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
        """Number of batches."""
        return len(self._batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """A batch."""
        return self._batches[number]


def _only(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The one batch that a loader of one at a time has got."""
    (batch,) = batches
    return batch


def _grouped(features: Features, batch_size: int, batches: int, seed: int, warm_up: int) -> list[int]:
    """The rows of some of the batches that the Trainer's own length grouping makes of all rows.

    Its batches descend in length within 50 of them, so the first few of a short run would not be a sample.
    Those after the first `warm_up`, however few, are spread evenly over all batches, from the shortest to
    the longest.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = features.counts("input_ids")
    indices = get_length_grouped_indices(lengths.tolist(), batch_size, generator=generator)
    whole = [indices[i : i + batch_size] for i in range(0, len(indices) - batch_size + 1, batch_size)]
    whole.sort(key=lambda rows: lengths[rows].sum())
    counted = batches - warm_up
    first = torch.randint(len(whole), (batches - counted,), generator=generator).tolist()
    offset = torch.rand((), generator=generator).item()
    spread = [int((offset + number * GOLDEN) % 1 * len(whole)) for number in range(counted)]
    return [row for number in first + spread for row in whole[number]]


class _TrainerWatch(TrainerCallback):
    """Tells the stopwatch of each step or evaluation batch of the Trainer."""

    def __init__(
        self, train: Stopwatch, evaluation: Stopwatch, tokens: Callable[[], int | Tensor], turn: Turn
    ) -> None:
        self._train, self._evaluation, self._tokens, self._turn = train, evaluation, tokens, turn

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An optimizer step is done."""
        tokens = self._tokens()
        self._train.step(tokens)
        if not self._turn("train", tokens):
            control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch is evaluated."""
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
    """Train and evaluate with `transformers.Trainer`, as it comes or at its best.

    At its best: the faster precision, length grouping over all rows, the fused optimizer, an allocator that
    keeps its memory; rows in a batch and attention of an evaluation as `evaluated_by` says, else those of
    training.
    """
    if best:
        keep_freed_memory(setting.device)
    train, validation = encode_rows(setting.root)
    half = best and setting.precision == "bf16-mixed"
    evaluation_size, evaluation_attention = evaluated_by or (batch_size, attention)
    if best:
        order = _grouped(train, batch_size, setting.steps, seed, setting.warm_up)
        batches = setting.validation_rows // evaluation_size
        validation_order = _grouped(validation, evaluation_size, batches, seed, warm_up=0)
    else:
        generator = np.random.default_rng(seed)
        order = generator.integers(0, train.num_rows, setting.steps * batch_size).tolist()
        validation_order = generator.permutation(validation.num_rows)[: setting.validation_rows].tolist()
    torch.manual_seed(seed)
    config = setting.size.config
    config.num_labels = 3
    config._attn_implementation = attention
    with torch.device("cuda" if setting.device == "gpu" else setting.device):
        model = XLMRobertaForSequenceClassification(config)
    if setting.compile:
        for layer in model.roberta.encoder.layer:
            layer.compile(dynamic=True)
    watches = Stopwatch(warm_up=setting.warm_up), Stopwatch.of_evaluation()
    tokens: int | Tensor = 0

    def count(_: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens = tokens + kwargs["attention_mask"].sum()

    def taken() -> int | Tensor:
        nonlocal tokens
        found, tokens = tokens, 0
        return found

    model.register_forward_pre_hook(count, with_kwargs=True)
    with TemporaryDirectory(dir=setting.root) as folder, redirect_stdout(StringIO()):
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=setting.steps,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=1,
            per_device_eval_batch_size=1,
            optim="adamw_torch_fused" if best else TrainingArguments.optim,
            bf16=half,
            bf16_full_eval=half,
            use_cpu=setting.device == "cpu",
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=_Batches(train, order, batch_size),
            eval_dataset=_Batches(validation, validation_order, evaluation_size),
            data_collator=_only,
            callbacks=[_TrainerWatch(*watches, taken, turn)],
        )
        trainer.train()
        taken()
        model.set_attn_implementation(evaluation_attention)
        watches[1].step(0)
        turn("evaluation", 0)
        trainer.evaluate()
    return Measured(*watches, [])

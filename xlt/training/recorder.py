"""The record of a run: one JSON object a log event in metrics.jsonl, and the same to every other logger.

Every optimizer step is an event, and every validation. Tensors stay on their device until a flush, every
trainer.log_every_n_steps steps, where one transfer and one sum over the processes serve them all.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from xlt.batch.batch import Batch
from xlt.data.sampling.steps import TrainingSteps
from xlt.datamodule import TransferData
from xlt.module import TransferModule, score_record
from xlt.system.checks import NotFiniteError
from xlt.training.metrics_file import MetricsFile, read_events
from xlt.training.wandb_logger import Dashboard

log = logging.getLogger(__name__)


@dataclass
class Totals:
    """What has been trained so far, on all processes."""

    tokens: int = 0
    slots: int = 0
    seconds: float = 0.0

    @property
    def padding_share(self) -> float:
        """Share of the tokens that attention computes which are rounded up, 0 to 1."""
        return 1 - self.tokens / self.slots if self.slots else 0.0


class Recorder(Callback):
    """Turns steps and validations into events.

    Args:
        at_start: Called on the first process when training starts: the run is real from here on.
    """

    def __init__(self, at_start: Callable[[TransferData], None]) -> None:
        self._at_start = at_start
        self.totals = Totals()
        self.tokens_per_second = 0.0
        self.loss = float("nan")
        """Of the last step logged."""
        self.started = False
        """Whether all checks have passed and steps are being trained."""
        self._learning_rate = 0.0
        self._pending: list[dict[str, Any]] = []
        self._tensors: list[Tensor] = []
        self._counts: list[tuple[int, int]] = []
        self._visits: dict[str, int] = {}
        self._since = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: TransferModule) -> None:  # type: ignore[override]
        """Begin where the checkpoint ends; log the mixture."""
        step, self.started = trainer.global_step, True
        if trainer.is_global_zero:
            self._at_start(pl_module.data)
            log.info("%s", mixture_table(pl_module.data))
        if trainer.is_global_zero:
            self._rejoin(trainer, step)
        schedule = _steps(pl_module.data).schedule
        self._visits = dict.fromkeys(schedule.tasks, 0) | _count(schedule[s][0] for s in range(step))
        if step == 0:
            self._log(trainer, mixture_record(pl_module.data), 0)
        self._since = time.perf_counter()

    @staticmethod
    def _rejoin(trainer: Trainer, step: int) -> None:
        """Cut the record after the step, and tell the dashboard what is left of it."""
        (file,) = (logger for logger in trainer.loggers if isinstance(logger, MetricsFile))
        # Without a checkpoint the run starts over, its first event included.
        file.cut_after(step if step else -1)
        last = max((event["step"] for event in read_events(file.path)), default=0)
        if last < step:
            log.warning(
                "%s ends at step %s, but the checkpoint is of step %s: the events in between are missing",
                file.path,
                last,
                step,
            )
        for logger in trainer.loggers:
            if isinstance(logger, Dashboard):
                logger.replay(read_events(file.path))

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: TransferModule,
        outputs: Any,
        batch: list[Batch],
        batch_idx: int,
    ) -> None:
        """Keep the step's figures."""
        step, task = trainer.global_step, batch[0].task
        self._visits[task] += 1
        tokens = sum(part.num_tokens for part in batch)
        # Kernels for variable lengths, on other devices, round nothing up.
        on_cpu = pl_module.device.type == "cpu"
        slots = sum(part.packing.num_slots for part in batch) if on_cpu else tokens
        norm = pl_module.gradient_norm.to(pl_module.device) / trainer.world_size
        self._tensors.append(torch.stack([pl_module.step_loss.double(), norm.double()]))
        self._counts.append((tokens, slots))
        self._pending.append(
            {
                "step": step,
                "task": task,
                "train/learning_rate": self._learning_rate,
                f"mixture/{task}/steps": self._visits[task],
                f"mixture/{task}/epochs": _steps(pl_module.data).epochs_after(step - 1),
            }
        )
        if step % trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            self.flush(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: list[Batch], batch_idx: int
    ) -> None:
        """Note the learning rate of the step; afterwards it is the next one's.

        Raises:
            MisconfigurationException: A callback has made Lightning accumulate gradients over steps.
        """
        if trainer.accumulate_grad_batches != 1:
            raise MisconfigurationException(
                f"a callback has set trainer.accumulate_grad_batches to {trainer.accumulate_grad_batches}: "
                "leave it 1, for data.micro_batches_per_step is the number of micro-batches in a step"
            )
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def flush(self, trainer: Trainer) -> None:
        """Log the steps kept since the last flush; called at the same step on every process."""
        if self._pending:
            tensors = torch.stack(self._tensors)
            figures = torch.cat([tensors, tensors.new_tensor(self._counts)], 1)
            if trainer.world_size > 1:
                torch.distributed.all_reduce(figures)
            seconds = time.perf_counter() - self._since
            found = figures.tolist()
            fine = _num_finite(found, getattr(trainer.precision_plugin, "scaler", None) is not None)
            bad, self._pending = self._pending[fine:], self._pending[:fine]
            self._emit(trainer, found[:fine], seconds)
            if bad:
                self._break_off(bad[0], *found[fine][:2])
            self._pending, self._tensors, self._counts = [], [], []
            self._since = time.perf_counter()
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.sync()

    def _break_off(self, step: Mapping[str, Any], loss: float, norm: float) -> None:
        """Raise NotFiniteError that names the first step that is not finite; the same on every process."""
        self._pending, self._tensors, self._counts = [], [], []
        what, value = ("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)
        raise NotFiniteError(
            f"the {what} of step {step['step']:,} is not finite ({value}), in task {step['task']} at "
            f"learning rate {step['train/learning_rate']:.3g}"
        )

    def _emit(self, trainer: Trainer, figures: list[list[float]], seconds: float) -> None:
        """One event a step; times are shared out by tokens."""
        if not figures:
            return
        tokens = sum(row[2] for row in figures)
        self.tokens_per_second = tokens / seconds
        for pending, (loss, norm, step_tokens, slots) in zip(self._pending, figures, strict=True):
            self.totals.tokens += int(step_tokens)
            self.totals.slots += int(slots)
            self.totals.seconds += seconds * step_tokens / tokens
            task, step, self.loss = pending.pop("task"), pending.pop("step"), loss
            event = {
                "train/task": task,
                "train/loss": loss,
                f"train/{task}/loss": loss,
                "train/gradient_norm": norm,
                **pending,
                "train/tokens": self.totals.tokens,
                "train/tokens_per_second": self.tokens_per_second,
                "train/padding_share": 1 - step_tokens / slots,
            }
            self._log(trainer, event, step)

    def on_validation_start(self, trainer: Trainer, pl_module: TransferModule) -> None:
        """Log what is kept, so that the validation's time counts for no step."""
        if trainer.state.fn == "fit":
            self.flush(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: TransferModule) -> None:
        """Log the scores."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._log(trainer, score_record(pl_module.scores), trainer.global_step)
        self._since = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: TransferModule) -> None:  # type: ignore[override]
        """Log the last steps."""
        self.flush(trainer)

    @staticmethod
    def _log(trainer: Trainer, event: Mapping[str, Any], step: int) -> None:
        """Log an event; loggers other than the run's own are told its numbers, for few of them take text."""
        numbers = {key: value for key, value in event.items() if not isinstance(value, str)}
        for logger in trainer.loggers:
            if isinstance(logger, Dashboard):
                logger.record(event, step)
            else:
                logger.log_metrics(
                    dict(event) if isinstance(logger, MetricsFile) else dict(numbers), step=step
                )

    def state_dict(self) -> dict[str, Any]:
        """Tokens, slots and seconds so far."""
        return asdict(self.totals)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.totals = Totals(**state_dict)


def _num_finite(figures: Sequence[Sequence[float]], is_scaled: bool) -> int:
    """The steps before the first whose loss or gradient norm is not finite.

    Args:
        figures: Loss and norm of each step.
        is_scaled: The loss is scaled, as in fp16: a norm that overflows then only makes the scaler skip the
            step and lower its scale.
    """
    for number, (loss, norm, *_) in enumerate(figures):
        if not math.isfinite(loss) or not (is_scaled or math.isfinite(norm)):
            return number
    return len(figures)


def mixture_record(data: TransferData) -> dict[str, float]:
    """The mixture by log key: each task's examples, share, and steps planned."""
    schedule, examples = _steps(data).schedule, data.num_examples()
    return {
        key: value
        for task, share in data.shares().items()
        for key, value in {
            f"mixture/{task}/share": share,
            f"mixture/{task}/examples": examples[task],
            f"mixture/{task}/planned_steps": schedule.steps_of(task),
        }.items()
    }


def mixture_table(data: TransferData) -> str:
    """The mixture as text: a line a task."""
    record = mixture_record(data)
    lines = [f"{'task':<16} {'examples':>10} {'share':>7} {'steps':>7}"]
    for task in data.tasks:
        examples, share = record[f"mixture/{task}/examples"], record[f"mixture/{task}/share"]
        steps = record[f"mixture/{task}/planned_steps"]
        lines.append(f"{task:<16} {examples:>10,} {share:>6.1%} {steps:>7,}")
    return "\n".join(lines)


def _steps(data: TransferData) -> TrainingSteps:
    assert data.steps is not None
    return data.steps


def _count(names: Any) -> dict[str, int]:
    """How often each name occurs."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts

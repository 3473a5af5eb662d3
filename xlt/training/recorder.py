"""The record of a run: events for metrics.jsonl and for every other logger.

Each optimizer step and each validation is an event. Tensors stay on their device until a flush, every
trainer.log_every_n_steps steps, which needs a single transfer and a single sum over the ranks.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from xlt.batch.batch import Batch
from xlt.datamodule import TransferData
from xlt.kinds.log_record import score_record
from xlt.module import TransferModule
from xlt.system.checks import NotFiniteError
from xlt.training.gradient_watch import GradientWatch
from xlt.training.metrics_file import MetricsFile, read_events
from xlt.training.mixture_record import mixture_record, mixture_table, training_steps
from xlt.training.wandb_logger import RunWandbLogger

log = logging.getLogger(__name__)


@dataclass
class Totals:
    """Sums over the training so far, on all ranks.

    Args:
        tokens: Trained tokens.
        slots: Tokens that attention computes, after rounding up.
        seconds: Seconds of training, without validations.
    """

    tokens: int = 0
    slots: int = 0
    seconds: float = 0.0

    @property
    def padding_share(self) -> float:
        """Share of the tokens in attention that rounding adds, 0 to 1."""
        return 1 - self.tokens / self.slots if self.slots else 0.0


class Recorder(Callback):
    """Callback that logs an event for each step and each validation.

    Args:
        at_start: Called on rank 0 with the data when training starts, after all checks.
    """

    def __init__(self, at_start: Callable[[TransferData], None]) -> None:
        self._at_start = at_start
        self.totals = Totals()
        self.tokens_per_second = 0.0
        self.loss = float("nan")
        """Loss of the last logged step."""
        self.has_started = False
        """True once all checks have passed and training has started."""
        self._learning_rate = 0.0
        self._pending: list[dict[str, Any]] = []
        self._tensors: list[Tensor] = []
        self._counts: list[tuple[int, int]] = []
        self._steps_by_task: Counter[str] = Counter()
        self._watch = GradientWatch()
        self._since = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: TransferModule) -> None:  # type: ignore[override]
        """Cut the record after the checkpoint's step, and log the mixture of a new run."""
        step, self.has_started = trainer.global_step, True
        if trainer.is_global_zero:
            self._at_start(pl_module.data)
            log.info("%s", mixture_table(pl_module.data))
            self._resume_record(trainer, step)
        schedule = training_steps(pl_module.data).schedule
        self._steps_by_task = Counter(schedule[s][0] for s in range(step))
        if step == 0:
            self._log(trainer, mixture_record(pl_module.data), 0)
        self._since = time.perf_counter()

    def _resume_record(self, trainer: Trainer, step: int) -> None:
        """Cut the record after a step, and log to W&B the events that it does not have."""
        (file,) = (logger for logger in trainer.loggers if isinstance(logger, MetricsFile))
        # Without a checkpoint the run starts over, with its event of step 0.
        file.cut_after(step if step else -1)
        last = max((event["step"] for event in read_events(file.path)), default=0)
        for event in read_events(file.path):
            if "train/gradient_norm" in event:
                self._watch.add(
                    event["step"], event["train/task"], event["train/loss"], event["train/gradient_norm"]
                )
        if last < step:
            log.warning(
                "%s ends at step %s, but the checkpoint is from step %s: the events between them are missing",
                file.path,
                last,
                step,
            )
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.replay(read_events(file.path))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: list[Batch], batch_idx: int
    ) -> None:
        """Store the learning rate of the step. After the step, the optimizer has the rate of the next step.

        Raises:
            MisconfigurationException: A callback has made Lightning accumulate gradients over steps.
        """
        if trainer.accumulate_grad_batches != 1:
            raise MisconfigurationException(
                f"a callback has set trainer.accumulate_grad_batches to {trainer.accumulate_grad_batches}: "
                "leave it 1, because data.micro_batches_per_step is the number of micro-batches per step"
            )
        self._learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: TransferModule,
        outputs: Any,
        batch: list[Batch],
        batch_idx: int,
    ) -> None:
        """Store the figures of the step until the next flush."""
        # In meta-learning the last micro-batches, the query, are in the step's language.
        step, task = trainer.global_step, batch[-1].task
        self._steps_by_task[task] += 1
        tokens = sum(part.num_tokens for part in batch)
        # Kernels for variable lengths, on other devices, round nothing up.
        on_cpu = pl_module.device.type == "cpu"
        slots = sum(part.packing.num_slots for part in batch) if on_cpu else tokens
        norm = pl_module.gradient_norm.to(pl_module.device) / trainer.world_size
        has_support = pl_module.meta.is_used
        support = pl_module.support_loss if has_support else pl_module.step_loss
        self._tensors.append(torch.stack([pl_module.step_loss.double(), norm.double(), support.double()]))
        self._counts.append((tokens, slots))
        self._pending.append(
            {
                "step": step,
                "task": task,
                "has_support": has_support,
                "train/learning_rate": self._learning_rate,
                f"mixture/{task}/steps": self._steps_by_task[task],
                f"mixture/{task}/epochs": training_steps(pl_module.data).epochs_after(step - 1),
            }
        )
        if step % trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            self.flush(trainer)

    def flush(self, trainer: Trainer) -> None:
        """Log the stored steps. Must be called at the same step on every rank.

        Args:
            trainer: The run's Trainer.

        Raises:
            NotFiniteError: A loss or a gradient norm is NaN or infinite.
        """
        if self._pending:
            tensors = torch.stack(self._tensors)
            figures = torch.cat([tensors, tensors.new_tensor(self._counts)], 1)
            if trainer.world_size > 1:
                torch.distributed.all_reduce(figures)
            seconds = time.perf_counter() - self._since
            found = figures.tolist()
            num_good = _num_finite(found, getattr(trainer.precision_plugin, "scaler", None) is not None)
            pending, self._pending = self._pending, []
            self._tensors, self._counts = [], []
            self._log_steps(trainer, pending[:num_good], found[:num_good], seconds)
            if num_good < len(pending):
                _raise_not_finite(pending[num_good], *found[num_good][:2])
            self._since = time.perf_counter()
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.sync()

    def _log_steps(
        self, trainer: Trainer, steps: list[dict[str, Any]], figures: list[list[float]], seconds: float
    ) -> None:
        """Log an event per step. The seconds are divided among the steps by their tokens."""
        if not figures:
            return
        tokens = sum(row[3] for row in figures)
        self.tokens_per_second = tokens / seconds
        for fields, (loss, norm, support, step_tokens, slots) in zip(steps, figures, strict=True):
            self.totals.tokens += int(step_tokens)
            self.totals.slots += int(slots)
            self.totals.seconds += seconds * step_tokens / tokens
            task, step, self.loss = fields.pop("task"), fields.pop("step"), loss
            event = {
                "train/task": task,
                "train/loss": loss,
                f"train/{task}/loss": loss,
                "train/gradient_norm": norm,
                **({"train/support_loss": support} if fields.pop("has_support") else {}),
                **fields,
                "train/tokens": self.totals.tokens,
                "train/tokens_per_second": self.tokens_per_second,
                "train/padding_share": 1 - step_tokens / slots,
            }
            self._log(trainer, event, step)
            warning = self._watch.add(step, task, loss, norm)
            if warning and trainer.is_global_zero:
                log.warning("%s", warning)

    def on_validation_start(self, trainer: Trainer, pl_module: TransferModule) -> None:
        """Log the stored steps, so that the time of the validation counts for no step."""
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
        """Log an event. Loggers of the user receive its numbers alone, because few of them accept text."""
        numbers = {key: value for key, value in event.items() if not isinstance(value, str)}
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.record(event, step)
            else:
                logger.log_metrics(
                    dict(event) if isinstance(logger, MetricsFile) else dict(numbers), step=step
                )

    def state_dict(self) -> dict[str, Any]:
        """Return the totals."""
        return asdict(self.totals)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the totals."""
        self.totals = Totals(**state_dict)


def _raise_not_finite(step: Mapping[str, Any], loss: float, norm: float) -> None:
    """Raise NotFiniteError for a step, on every rank, because the figures are sums over the ranks."""
    name, value = ("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)
    raise NotFiniteError(
        f"the {name} of step {step['step']:,} is not finite ({value}), in task {step['task']} at "
        f"learning rate {step['train/learning_rate']:.3g}"
    )


def _num_finite(figures: Sequence[Sequence[float]], is_scaled: bool) -> int:
    """Return the number of steps before the first with a loss or a gradient norm that is not finite.

    Args:
        figures: Loss and norm of each step.
        is_scaled: True if the loss is scaled, as in fp16. The scaler then skips a step whose norm overflows.
    """
    for number, (loss, norm, *_) in enumerate(figures):
        if not math.isfinite(loss) or not (is_scaled or math.isfinite(norm)):
            return number
    return len(figures)

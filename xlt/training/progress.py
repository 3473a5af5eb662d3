"""Progress of a run: step, remaining time, loss, current task and tokens per second.

A terminal shows a bar. A file or a pipe gets a line now and then.
"""

import math
import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, convert_inf

from xlt.batch.batch import Batch
from xlt.kinds.log_record import score_record
from xlt.module import TransferModule
from xlt.training.recorder import Recorder

LINES = 10
"""Number of lines of a short run in a file or a pipe."""

SECONDS_PER_LINE = 30.0
"""Maximum number of seconds between two lines of a long run in a file or a pipe."""


def progress_callback(recorder: Recorder) -> LightningProgressBar:
    """Return the callback that shows the progress: a bar in a terminal, lines in a file or a pipe.

    Args:
        recorder: Source of the loss and the tokens per second.
    """
    return ProgressBar(recorder) if sys.stdout.isatty() else ProgressLines(recorder)


def _figures(recorder: Recorder, module: LightningModule, task: str) -> dict[str, str]:
    """Return the figures of the current step, by name."""
    assert isinstance(module, TransferModule)
    found = {"task": task}
    if math.isfinite(recorder.loss):  # no step is recorded yet
        speed = f"{recorder.tokens_per_second:,.0f}"
        found = {"loss": f"{recorder.loss:.3f}", **found, "tokens/s": speed}
    if module.scores:
        found["score"] = f"{score_record(module.scores)['val/score']:.1f}"
    return found


class ProgressLines(LightningProgressBar):
    """Lines for a file or a pipe: one for each tenth of the run, and one every 30 seconds.

    Args:
        recorder: Source of the loss and the tokens per second.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._is_enabled = True
        self._first_step, self._begin, self._last_line = 0, 0.0, 0.0

    def enable(self) -> None:
        """Print lines again."""
        self._is_enabled = True

    def disable(self) -> None:
        """Print no more lines."""
        self._is_enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock for the remaining time."""
        self._first_step = trainer.global_step
        self._begin = self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line if one is due."""
        step, steps, now = trainer.global_step, trainer.max_steps, time.monotonic()
        is_tenth = step * LINES // steps > (step - 1) * LINES // steps
        if not self._is_enabled or not (is_tenth or now - self._last_line >= SECONDS_PER_LINE):
            return
        self._last_line = now
        left = (now - self._begin) / max(1, step - self._first_step) * (steps - step)
        figures = _figures(self._recorder, pl_module, batch[0].task)
        told = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"step {step:,} of {steps:,}, {Tqdm.format_interval(left)} left, {told}", flush=True)


class ProgressBar(TQDMProgressBar):
    """Progress bars: one for the steps of the run, and one during a validation.

    Args:
        recorder: Source of the loss and the tokens per second.
    """

    BAR_FORMAT = "{desc}{n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._task = ""

    def init_train_tqdm(self) -> Tqdm:
        """Return the bar of the steps, which starts at the step of the checkpoint."""
        return Tqdm(
            desc="step: ",
            initial=self.trainer.global_step,
            total=self.trainer.max_steps,
            disable=self.is_disabled,
            dynamic_ncols=True,
            file=sys.stdout,
            smoothing=0.05,
            bar_format=self.BAR_FORMAT,
        )

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Do nothing: the bar covers the whole run, and Lightning begins no epoch in a resumed run."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Store the task of the step, then redraw the bar."""
        self._task = batch[0].task
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the figures after the bar, by name."""
        return {**_figures(self._recorder, pl_module, self._task)}

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the name of the task in validation."""
        if self.has_dataloader_changed(dataloader_idx):
            self.val_progress_bar.set_description(f"validating {batch.task}", refresh=False)
            self.val_progress_bar.reset(convert_inf(self.total_val_batches_current_dataloader))

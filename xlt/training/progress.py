"""Progress bar with the step, the remaining time, the loss, the current task and the tokens per second."""

import math
import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, convert_inf

from xlt.batch.batch import Batch
from xlt.kinds.log_record import score_record
from xlt.module import TransferModule
from xlt.training.recorder import Recorder


class ProgressBar(TQDMProgressBar):
    """Progress bars: one for the steps of the run, and one during a validation.

    Args:
        recorder: Source of the loss and the tokens per second.
        refresh_rate: Steps between two updates; 50 times as many without a terminal. Defaults to 1.
    """

    BAR_FORMAT = "{desc}{n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"

    def __init__(self, recorder: Recorder, refresh_rate: int = 1) -> None:
        # In a file or a pipe every update adds a line.
        super().__init__(refresh_rate if sys.stdout.isatty() else 50 * refresh_rate)
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
        assert isinstance(pl_module, TransferModule)
        found: dict[str, int | str | float | dict[str, float]] = {"task": self._task}
        if math.isfinite(self._recorder.loss):  # no step is recorded yet
            speed = f"{self._recorder.tokens_per_second:,.0f}"
            found = {"loss": f"{self._recorder.loss:.3f}", **found, "tokens/s": speed}
        if pl_module.scores:
            found["score"] = f"{score_record(pl_module.scores)['val/score']:.1f}"
        return found

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

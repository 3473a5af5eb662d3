"""Callback that saves and deletes checkpoints, and that saves and stops a run after a signal.

A step is saved after its validation if it has one, so a run that is killed anywhere repeats or skips no
validation. Each rank receives its own signals. The ranks agree at the end of a step, so all stop after the
same step.
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from xlt.models.finite import spoiled
from xlt.system.checks import NotFiniteError, require
from xlt.system.command_words import command_to_repeat
from xlt.system.signals import STOPPED, SignalWatcher
from xlt.training.checkpoint_files import (
    SUFFIX,
    VerifiedCheckpointIO,
    fault_of,
    path_of,
    step_of,
    weights_fault,
)
from xlt.training.checkpoint_state import check_readable, finish_step

log = logging.getLogger("xlt.training.checkpoint_callback")


class CheckpointCallback(Checkpoint):
    """Callback that saves and deletes checkpoints, and that saves and stops the run after a signal.

    Args:
        folder: Folder of the checkpoints, which are named step-<number>.ckpt.
        every_n_steps: Steps between two checkpoints.
        keep_last: Number of newest checkpoints to keep; the best is kept too.
        keep_every_n_steps: Save a checkpoint every this many steps and never delete it. None for none.
        before_save: Called with the trainer before a save, to write what must reach the disk first.
        watcher: Listener for the signals of this process.
        check_every_n_steps: Steps between two checks for a signal on any rank. Defaults to 1.

    Raises:
        ValueError: A number of steps or checkpoints is below 1.
    """

    def __init__(
        self,
        folder: Path,
        every_n_steps: int,
        keep_last: int,
        keep_every_n_steps: int | None,
        before_save: Callable[[Trainer], None],
        watcher: SignalWatcher,
        check_every_n_steps: int = 1,
    ) -> None:
        for key, value in (
            ("checkpoints.every_n_steps", every_n_steps),
            ("checkpoints.keep_last", keep_last),
            ("checkpoints.keep_every_n_steps", keep_every_n_steps),
            ("preemption.check_every_n_steps", check_every_n_steps),
        ):
            require(value is None or value >= 1, key, value, "be at least 1")
        self._folder, self._every_n_steps = folder, every_n_steps
        self._keep_last, self._keep_every_n_steps = keep_last, keep_every_n_steps
        self._before_save, self._watcher = before_save, watcher
        self._check_every_n_steps = check_every_n_steps
        self.io = VerifiedCheckpointIO(self._delete_old)
        self._has_stopped = False
        self._must_stop = False
        self._best_saved = folder
        """Path of the best checkpoint at the last save, for the thread that deletes old ones."""
        self.best_step = 0
        self.best_score = -math.inf

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Delete the incomplete files of a killed process."""
        if stage == "fit" and trainer.is_global_zero and self._folder.is_dir():
            for scratch in self._folder.glob(".step-*"):
                scratch.unlink(missing_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that a checkpoint can hold every callback's state, before any step is trained."""
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            check_readable({callback.state_key: callback.state_dict()})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save a step that is due and has no validation. Let Lightning validate the last step."""
        step = trainer.global_step
        if step >= trainer.max_steps:
            # Lightning validates before it stops, at any validation interval.
            trainer.should_stop = True
            return
        self._must_stop = step % self._check_every_n_steps == 0 and self._any_rank_was_signalled(trainer)
        if self._has_validation(trainer, step):
            return
        if self._must_stop or self._is_due(step):
            self._save(trainer, step)
        self._stop_if_signalled(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to validate weights that are not finite."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check_finite(trainer, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a step that is due, is the last, or has the best mean score so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step = trainer.global_step
        score = float(trainer.callback_metrics.get("val/score", Tensor([-math.inf])))
        is_best = score > self.best_score
        if is_best:
            self.best_step, self.best_score = step, score
        self._has_stopped = trainer.should_stop
        is_due = self._is_due(step) or self._must_stop
        if is_best or is_due or step >= trainer.max_steps or trainer.should_stop:
            self._save(trainer, step)
        if not trainer.should_stop:
            self._stop_if_signalled(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until the last checkpoint is on the disk."""
        self.io.finish()

    def _any_rank_was_signalled(self, trainer: Trainer) -> bool:
        """Return True if any rank has received a signal."""
        if trainer.world_size == 1:
            return bool(self._watcher.received)
        received = torch.tensor(float(bool(self._watcher.received)), device=trainer.strategy.root_device)
        torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX)
        return bool(received)

    def _stop_if_signalled(self, trainer: Trainer) -> None:
        """Exit with code 75 if the ranks have agreed to stop after this step."""
        if not self._must_stop:
            return
        self._watcher.start_deadline(STOPPED)
        self.io.finish()
        # Lightning would kill this process when another rank exits with a code that is not 0.
        getattr(trainer.strategy.launcher, "procs", []).clear()
        trainer.strategy.barrier("saved")
        if trainer.is_global_zero:
            reason = self._watcher.received or "another rank received a signal"
            step = f"{trainer.global_step:,}"
            command = command_to_repeat()
            again = f": {command}" if command else ""
            log.info("%s: saved after step %s; the same command continues from there%s", reason, step, again)
        raise SystemExit(STOPPED)

    def _is_due(self, step: int) -> bool:
        """Return True if the settings ask for a checkpoint after this step."""
        return step % self._every_n_steps == 0 or self._is_permanent(step)

    def _is_permanent(self, step: int) -> bool:
        """Return True if the step's checkpoint is never deleted."""
        return self._keep_every_n_steps is not None and step % self._keep_every_n_steps == 0

    @staticmethod
    def _has_validation(trainer: Trainer, step: int) -> bool:
        """Return True if Lightning validates after this step."""
        return bool(trainer.enable_validation) and step % int(trainer.val_check_batch or 1) == 0

    def _save(self, trainer: Trainer, step: int) -> None:
        """Save this step, unless its checkpoint exists and is undamaged.

        Raises:
            NotFiniteError: A weight or a moment of the optimizer is NaN or infinite.
        """
        self._before_save(trainer)
        self._check_finite(trainer, step)
        path = path_of(self._folder, step)
        self.io.finish()
        self._best_saved = path_of(self._folder, self.best_step)
        if trainer.strategy.broadcast(trainer.is_global_zero and bool(fault_of(path) or weights_fault(path))):
            trainer.save_checkpoint(path, weights_only=False)

    @staticmethod
    def _check_finite(trainer: Trainer, step: int) -> None:
        """Raise NotFiniteError on every rank if a weight or a moment is NaN or infinite on any rank."""
        weights = dict(trainer.lightning_module.named_parameters())
        moments = {
            f"the optimizer's {key} of {name}": value
            for optimizer in trainer.optimizers
            for name, parameter in weights.items()
            for key, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
        for tensors in (weights, moments):
            names = spoiled(tensors)
            # With sharding a rank sees its own shards alone.
            if trainer.strategy.reduce_boolean_decision(bool(names), all=False):
                named = f", such as {names[0]}" if names else ""
                raise NotFiniteError(f"after step {step:,} weights are not finite{named}")

    def _delete_old(self, newest: Path) -> None:
        """Delete each checkpoint that is neither new nor best nor permanent, if the newest is undamaged."""
        if fault_of(newest):
            return
        # A later checkpoint is damaged, because the run was resumed before it; its step is saved again.
        paths = sorted(path for path in self._folder.glob(f"step-*{SUFFIX}") if path <= newest)
        for path in set(paths[: -self._keep_last]) - {self._best_saved}:
            if not self._is_permanent(step_of(path)):
                self.io.remove_checkpoint(path)

    def state_dict(self) -> dict[str, Any]:
        """Return the best step, its score, and True under `stopped` if the run stopped at this step."""
        return {"best_step": self.best_step, "best_score": self.best_score, "stopped": self._has_stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best step and its score."""
        self.best_step, self.best_score = state_dict["best_step"], state_dict["best_score"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save callback states that cannot be read again."""
        check_readable(checkpoint["callbacks"])

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Resume after the saved step and its validation. A run that had stopped there stops again."""
        state = checkpoint["callbacks"].get(self.state_key, {})
        trainer.should_stop = state.get("stopped", False)
        finish_step(checkpoint)

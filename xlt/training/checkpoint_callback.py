"""When checkpoints are written and which are kept; where a run that was told to stop does.

A step is saved after its validation, where it has one, so a run that is killed anywhere repeats or skips
none. Every process hears its own signals; they agree at the end of a step, so that all stop after the same
one.
"""

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from xlt.models.finite import spoiled
from xlt.system.checks import NotFiniteError, require
from xlt.system.signals import STOPPED, Watch, say
from xlt.training.checkpoint_files import SUFFIX, VerifiedIO, fault_of, path_of, step_of, unfit


class Checkpoints(Checkpoint):
    """Keeps the newest checkpoints and the best one; stops with the last when told to.

    Args:
        folder: Where they go, as step-<number>.ckpt.
        every_n_steps: Steps between checkpoints.
        keep: How many of the newest to keep; the best is kept besides.
        keep_every_n_steps: Checkpoints of the multiples of so many steps are written and kept for good.
        before_save: Called first, with the trainer: what must reach the disk before a checkpoint does.
        watch: Knows whether this process was told to stop.
        check_every_n_steps: Steps between looks whether any process was.
    """

    def __init__(
        self,
        folder: Path,
        every_n_steps: int,
        keep: int,
        keep_every_n_steps: int | None,
        before_save: Callable[[Trainer], None],
        watch: Watch,
        check_every_n_steps: int = 1,
    ) -> None:
        require(every_n_steps >= 1, "checkpoints.every_n_steps", every_n_steps, "be at least 1 step")
        require(keep >= 1, "checkpoints.keep_last", keep, "be at least 1")
        period = keep_every_n_steps
        require(period is None or period >= 1, "checkpoints.keep_every_n_steps", period, "be at least 1 step")
        look = check_every_n_steps
        require(look >= 1, "preemption.check_every_n_steps", look, "be at least 1 step")
        self._folder, self._every, self._keep, self._period = folder, every_n_steps, keep, keep_every_n_steps
        self._before_save, self._watch, self._look = before_save, watch, check_every_n_steps
        self.io = VerifiedIO(self._thin_out)
        self._stopped = False
        self._must_leave = False
        self._best_saved = folder
        """The best checkpoint as of the last save, which the thread may ask for while training goes on."""
        self.best_step = 0
        self.best_score = -math.inf

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Clear away what a killed process was writing."""
        if stage == "fit" and trainer.is_global_zero and self._folder.is_dir():
            for scratch in self._folder.glob(".step-*"):
                scratch.unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time and no validation follows; see that the last step is validated."""
        step = trainer.global_step
        if step >= trainer.max_steps:
            # Lightning validates before it stops, whatever the interval.
            trainer.should_stop = True
            return
        self._must_leave = step % self._look == 0 and self._told_to_stop(trainer)
        if self._validates(trainer, step):
            return
        if self._must_leave or self._is_due(step):
            self._save(trainer, step)
        self._leave(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to score weights that are not finite."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(trainer, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where it is time, or where the mean score is the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step = trainer.global_step
        score = float(trainer.callback_metrics.get("val/score", Tensor([-math.inf])))
        best = score > self.best_score
        if best:
            self.best_step, self.best_score = step, score
        self._stopped = trainer.should_stop
        is_due = self._is_due(step) or self._must_leave
        if best or is_due or step >= trainer.max_steps or trainer.should_stop:
            self._save(trainer, step)
        if not trainer.should_stop:
            self._leave(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the last checkpoint in its place."""
        self.io.finish()

    def _told_to_stop(self, trainer: Trainer) -> bool:
        """Whether any process was."""
        if trainer.world_size == 1:
            return bool(self._watch.heard)
        heard = torch.tensor(float(bool(self._watch.heard)), device=trainer.strategy.root_device)
        torch.distributed.all_reduce(heard, torch.distributed.ReduceOp.MAX)
        return bool(heard)

    def _leave(self, trainer: Trainer) -> None:
        """End training here, if the processes have agreed to."""
        if not self._must_leave:
            return
        self._watch.end_within_limit(STOPPED)
        self.io.finish()
        # Lightning would kill this process when one of these ends with a code that is not 0.
        getattr(trainer.strategy.launcher, "procs", []).clear()
        trainer.strategy.barrier("saved")
        if trainer.is_global_zero:
            reason = self._watch.heard or "another process was told to stop"
            say(f"{reason}: saved after step {trainer.global_step:,}; the same command continues from there")
        raise SystemExit(STOPPED)

    def _is_due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this step."""
        return step % self._every == 0 or self._is_milestone(step)

    def _is_milestone(self, step: int) -> bool:
        """Whether the step's checkpoint is kept for good."""
        return self._period is not None and step % self._period == 0

    @staticmethod
    def _validates(trainer: Trainer, step: int) -> bool:
        """Whether Lightning validates after this step."""
        return bool(trainer.enable_validation) and step % int(trainer.val_check_batch or 1) == 0

    def _save(self, trainer: Trainer, step: int) -> None:
        """Save this step, unless its checkpoint is there and whole.

        Raises:
            NotFiniteError: The weights, or the optimizer's moments, hold NaN or infinity.
        """
        self._before_save(trainer)
        self._check(trainer, step)
        path = path_of(self._folder, step)
        self.io.finish()
        self._best_saved = path_of(self._folder, self.best_step)
        if trainer.strategy.broadcast(trainer.is_global_zero and bool(fault_of(path) or unfit(path))):
            trainer.save_checkpoint(path, weights_only=False)

    @staticmethod
    def _check(trainer: Trainer, step: int) -> None:
        """Raise NotFiniteError where the weights or the moments are spoiled; the same on every process."""
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
            # Under sharding a process sees its own parts alone.
            if trainer.strategy.reduce_boolean_decision(bool(names), all=False):
                named = f", such as {names[0]}" if names else ""
                raise NotFiniteError(f"after step {step:,} weights are not finite{named}")

    def _thin_out(self, newest: Path) -> None:
        """Delete what is neither new nor best nor to be kept, once the newest verifies."""
        if fault_of(newest):
            return
        # A later one is damaged, for the run has passed it over; it is written anew in its turn.
        paths = sorted(path for path in self._folder.glob(f"step-*{SUFFIX}") if path <= newest)
        for path in set(paths[: -self._keep]) - {self._best_saved}:
            if not self._is_milestone(step_of(path)):
                self.io.remove_checkpoint(path)

    def state_dict(self) -> dict[str, Any]:
        """The best step and its score."""
        return {
            "best_step": self.best_step,
            "best_score": self.best_score,
            "stopped": self._stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best step and its score."""
        self.best_step, self.best_score = state_dict["best_step"], state_dict["best_score"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that what callbacks save can be read again, before there is anything to lose."""
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            check_readable({callback.state_key: callback.state_dict()})

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write no checkpoint that cannot be read again."""
        check_readable(checkpoint["callbacks"])

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make Lightning's loops stand between two steps.

        A checkpoint is written inside a hook of the step, where Lightning counts the step as not yet
        complete; what it does on such counters depends on the hook. Here the step is complete and so is its
        validation; a run that was to stop there stops.
        """
        state = checkpoint["callbacks"].get(self.state_key, {})
        trainer.should_stop = state.get("stopped", False)
        loops = checkpoint["loops"]["fit_loop"]
        progress = loops["epoch_loop.batch_progress"]
        for counter in (progress["total"], progress["current"]):
            counter["completed"] = counter["processed"]
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
        for key in list(loops):
            if key.startswith("epoch_loop.val_loop"):
                del loops[key]


def check_readable(states: Mapping[str, Any]) -> None:
    """Refuse states of callbacks that a checkpoint could hold but not give back.

    Args:
        states: By callback.

    Raises:
        MisconfigurationException: A state holds more than tensors and plain values, such as an array.
    """
    for name, state in states.items():
        file = io.BytesIO()
        try:
            torch.save(state, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # pickle raises what it likes
            raise MisconfigurationException(
                f"the state_dict of the callback {name} holds something else than tensors and plain values, "
                "with which no run could be continued: let it return numbers, text, lists and dictionaries "
                f"({str(error).splitlines()[0]})"
            ) from error

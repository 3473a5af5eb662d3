"""Checkpoints that cannot be half there, and that continue at the exact step.

A checkpoint is written beside its final place, synced, hashed and then renamed; `<name>.sha256` holds the
hash in sha256sum's format. A step is saved after its validation, where it has one, so a run that is killed
anywhere repeats or skips none.
"""

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

SUFFIX = ".ckpt"


class VerifiedIO(CheckpointIO):
    """Writes a checkpoint whole or not at all, and reads none whose hash differs."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write, sync, hash, rename.

        Raises:
            OSError: The folder cannot be written, or the disk is full; nothing saved before is touched.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            with scratch.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            write_whole(_manifest(path), f"{_sha256(scratch)}  {path.name}\n")
            scratch.replace(path)
            _sync_folder(path.parent)
        finally:
            scratch.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint that verifies; code in it is refused.

        Raises:
            ValueError: It does not verify.
        """
        fault = fault_of(Path(path))
        if fault:
            raise ValueError(f"checkpoint {path} {fault}")
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint and its hash."""
        Path(path).unlink(missing_ok=True)
        _manifest(Path(path)).unlink(missing_ok=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that verifies; says which newer ones it passes over, and why."""
    for path in sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True):
        fault = fault_of(path)
        if not fault:
            return path
        rank_zero_warn(f"checkpoint {path} {fault}: going back to an earlier one")
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint of the best validation, or the newest where that one does not verify."""
    path = newest(folder)
    if path is None:
        return None
    states = VerifiedIO().load_checkpoint(path)["callbacks"]
    steps = [state["best_step"] for state in states.values() if "best_step" in state]
    if not steps or not steps[0]:
        return path
    chosen = _path(folder, steps[0])
    fault = fault_of(chosen)
    if fault:
        rank_zero_warn(f"the best checkpoint, {chosen}, {fault}: taking the newest, {path.name}")
    return path if fault else chosen


def _path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return folder / f"step-{step:09d}{SUFFIX}"


def fault_of(path: Path) -> str:
    """What is wrong with a checkpoint; empty where nothing is."""
    manifest = _manifest(path)
    if not path.is_file():
        return "is missing"
    if not manifest.is_file():
        return f"has no {manifest.name}"
    if manifest.read_text().split(" ")[0] != _sha256(path):
        return "is damaged: its SHA-256 is not the one in " + manifest.name
    return ""


def write_whole(path: Path, text: str) -> None:
    """Give a file this text, whole or not at all."""
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    with scratch.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _manifest(path: Path) -> Path:
    """Where a checkpoint's hash stands."""
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    """Hash of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Checkpoints(Checkpoint):
    """Keeps the newest checkpoints and the best one.

    Args:
        folder: Where they go, as step-<number>.ckpt.
        every_n_steps: Steps between checkpoints.
        keep: How many of the newest to keep; the best is kept besides.
        before_save: Called first, with the trainer: what must reach the disk before a checkpoint does.
    """

    def __init__(
        self, folder: Path, every_n_steps: int, keep: int, before_save: Callable[[Trainer], None]
    ) -> None:
        if every_n_steps < 1 or keep < 1:
            raise ValueError(
                f"checkpoints.every_n_steps is {every_n_steps} and checkpoints.keep {keep}: both "
                "must be at least 1"
            )
        self._folder, self._every, self._keep = folder, every_n_steps, keep
        self._before_save = before_save
        self._stopped = False
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
        elif step % self._every == 0 and not self._validates(trainer, step):
            self._save(trainer, step)

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
        if best or step % self._every == 0 or step >= trainer.max_steps or trainer.should_stop:
            self._save(trainer, step)

    @staticmethod
    def _validates(trainer: Trainer, step: int) -> bool:
        """Whether Lightning validates after this step."""
        return bool(trainer.enable_validation) and step % int(trainer.val_check_batch or 1) == 0

    def _save(self, trainer: Trainer, step: int) -> None:
        self._before_save(trainer)
        trainer.save_checkpoint(_path(self._folder, step), weights_only=False)
        if trainer.is_global_zero:
            self._thin_out()

    def _thin_out(self) -> None:
        """Delete what is neither new nor best, once the newest verifies."""
        paths = sorted(self._folder.glob(f"step-*{SUFFIX}"))
        kept = {*paths[-self._keep :], _path(self._folder, self.best_step)}
        if fault_of(paths[-1]):
            return
        for path in set(paths) - kept:
            VerifiedIO().remove_checkpoint(path)

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

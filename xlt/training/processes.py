"""Monitoring of the ranks of a run: if one rank ends or freezes, the others end too."""

import os
import threading
import time
from datetime import timedelta

import torch
from lightning import Callback, LightningModule, Trainer
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from xlt.system.signals import STOPPED, SignalWatcher


class RankMonitor(Callback):
    """Callback that monitors the ranks during training.

    Args:
        watcher: Listener for the signals of this process, which can end the process.
    """

    def __init__(self, watcher: SignalWatcher) -> None:
        self._watcher = watcher
        self._heartbeat: Heartbeat | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that all ranks resume from the same step. From now on signals wait for the end of a step.

        Raises:
            OSError: The ranks resume from different steps, because they see different files.
        """
        self._watcher.children = tuple(getattr(trainer.strategy.launcher, "procs", ()))
        if trainer.world_size > 1:
            _check_same_step(trainer.global_step, trainer.strategy.root_device)
            self._heartbeat = Heartbeat(trainer.global_rank, trainer.world_size, self._watcher)
        self._watcher.is_training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the heartbeat."""
        self._stop_heartbeat()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Start the grace period for the shutdown, and stop the heartbeat."""
        self._watcher.start_deadline(STOPPED if isinstance(exception, SystemExit) else 1)
        self._stop_heartbeat()

    def _stop_heartbeat(self) -> None:
        """Stop the heartbeat, if there is one."""
        if self._heartbeat:
            self._heartbeat.stop()


def _check_same_step(step: int, device: torch.device) -> None:
    """Raise OSError if the ranks resume from different steps."""
    extremes = torch.tensor([step, -step], device=device)
    torch.distributed.all_reduce(extremes, torch.distributed.ReduceOp.MAX)
    if extremes.sum():
        raise OSError(
            f"the ranks resume from different steps, {-int(extremes[1])} to {int(extremes[0])}: they do not "
            "see the same checkpoints. Make the run's folder visible to every node, and run the same "
            "command again"
        )


class Heartbeat:
    """Thread that ends this process if another rank is frozen or its machine is gone. Sockets report neither.

    Each rank increments its own counter in the store of rank 0. Rank 0 reads all counters, and the others
    read the counter of rank 0.

    Args:
        rank: This rank.
        world_size: Number of ranks.
        watcher: Ends this process, and has the grace period.
    """

    def __init__(self, rank: int, world_size: int, watcher: SignalWatcher) -> None:
        self._rank, self._watcher = rank, watcher
        self._others = range(1, world_size) if rank == 0 else range(1)
        self._is_over = threading.Event()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread."""
        self._is_over.set()

    def _run(self) -> None:
        """Increment and read the counters, eight times per grace period."""
        limit = self._watcher.grace_seconds
        try:
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(*address, is_master=False, timeout=timedelta(seconds=limit))
            last = {other: (-1, time.monotonic()) for other in self._others}
            while not self._is_over.wait(limit / 8):
                store.add(_key(self._rank), 1)
                for other, (count, since) in last.items():
                    found = store.add(_key(other), 0)
                    if found != count:
                        last[other] = found, time.monotonic()
                    elif time.monotonic() - since > limit:
                        self._exit(f"rank {other} has sent no heartbeat for {limit:g} s")
        except RuntimeError as error:
            self._exit(f"rank 0 does not answer: {error}")

    def _exit(self, reason: str) -> None:
        """End this process, unless the run is over."""
        if not self._is_over.is_set():
            self._watcher.exit_process(1, f"{reason}; the same command resumes the run")


def _key(rank: int) -> str:
    """Return the store's key of a rank's counter."""
    return f"xlt/beats/{rank}"

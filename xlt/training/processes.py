"""The processes of a run, which end together: none goes on, or waits, when another is gone."""

import os
import threading
import time
from datetime import timedelta

import torch
from lightning import Callback, LightningModule, Trainer
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from xlt.system.signals import STOPPED, Watch


class Processes(Callback):
    """Watches over the processes while they train.

    Args:
        watch: Ends this process where it must.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._heartbeat: Heartbeat | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that all continue from the same step; from here on signals wait for the end of a step.

        Raises:
            OSError: They do not, for they see other files.
        """
        self._watch.children = tuple(getattr(trainer.strategy.launcher, "procs", ()))
        if trainer.world_size > 1:
            _check_same(trainer.global_step, trainer.strategy.root_device)
            self._heartbeat = Heartbeat(trainer.global_rank, trainer.world_size, self._watch)
        self._watch.has_begun = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop to listen for the others."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What is left to do has its time limit."""
        self._watch.end_within_limit(STOPPED if isinstance(exception, SystemExit) else 1)
        self._stop()

    def _stop(self) -> None:
        if self._heartbeat:
            self._heartbeat.stop()


def _check_same(step: int, device: torch.device) -> None:
    """Refuse to train where processes continue from different steps."""
    extremes = torch.tensor([step, -step], device=device)
    torch.distributed.all_reduce(extremes, torch.distributed.ReduceOp.MAX)
    if extremes.sum():
        raise OSError(
            f"the processes continue from different steps, {-int(extremes[1])} to {int(extremes[0])}: they "
            "do not see the same checkpoints. Let every node see one run's folder, and give the same command "
            "again"
        )


class Heartbeat:
    """Notices a process that is frozen, or whose machine is gone, which its open connections do not tell.

    Each counts up a number of its own in the store of the first process, which looks at all the numbers; the
    others look at that of the first.

    Args:
        rank: Number of this process.
        world_size: Processes.
        watch: Ends this process, and has the time limit.
    """

    def __init__(self, rank: int, world_size: int, watch: Watch) -> None:
        self._rank, self._watch = rank, watch
        self._others = range(1, world_size) if rank == 0 else range(1)
        self._over = threading.Event()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _run(self) -> None:
        """Beat and look, eight times within the limit."""
        limit = self._watch.grace_seconds
        try:
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(*address, is_master=False, timeout=timedelta(seconds=limit))
            seen = {other: (-1, time.monotonic()) for other in self._others}
            while not self._over.wait(limit / 8):
                store.add(_key(self._rank), 1)
                for other, (count, since) in seen.items():
                    found = store.add(_key(other), 0)
                    if found != count:
                        seen[other] = found, time.monotonic()
                    elif time.monotonic() - since > limit:
                        self._leave(f"process {other} has given no sign of life for {limit:g} s")
        except RuntimeError as error:
            self._leave(f"process 0 does not answer: {error}")

    def _leave(self, reason: str) -> None:
        if not self._over.is_set():
            self._watch.leave(1, f"{reason}; the same command continues the run")


def _key(rank: int) -> str:
    """Where a process's number stands."""
    return f"xlt/beats/{rank}"

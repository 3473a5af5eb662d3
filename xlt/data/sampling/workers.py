"""Processes that prepare batches during training: a check that they can start, and batches as bytes.

A batch is sent through a pipe as bytes. torch would put each tensor into shared memory (/dev/shm) in a thread
that reports no errors: if that memory is full, the batch is lost and the run waits forever.
"""

import errno
import io
import logging
import multiprocessing
import os
import pickle
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

PLACE = "/dev/shm"
"""Folder in which Linux keeps the semaphores of Python's queues."""


def why_no_workers(num_workers: int) -> str:
    """Return the reason why worker processes cannot be started; empty if they can.

    Args:
        num_workers: Number of processes wanted.
    """
    context = multiprocessing.get_context()
    try:
        # The semaphores of a loader: a queue for each process, a shared queue, and an event that ends them.
        held: list[Any] = [context.Queue() for _ in range(num_workers + 1)]
        held.append(context.Event())
    except (OSError, ImportError) as error:
        number = getattr(error, "errno", None) or errno.ENOSYS
        return f"{PLACE}, which holds the semaphores of processes, cannot be used ({os.strerror(number)})"
    return ""


def workers_to_be_had(wanted: int, is_told: bool) -> int:
    """Return the number of processes to start: 0 if the system does not allow any. Batches are the same.

    Args:
        wanted: The key data.num_workers.
        is_told: Log a warning if no process can be started.
    """
    reason = why_no_workers(wanted) if wanted else ""
    if reason and is_told:
        log.warning(
            "data.num_workers is %s, but %s: batches are made in the training process, as with 0",
            wanted,
            reason,
        )
    return 0 if reason else wanted


class Parcel:
    """A batch as bytes. The process that receives it unpickles the batch.

    Args:
        batch: Tensors on the CPU, in any nesting.
    """

    def __init__(self, batch: Any) -> None:
        file = io.BytesIO()
        _Packer(file, pickle.HIGHEST_PROTOCOL).dump(batch)
        self._content = file.getvalue()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the call that restores the batch in the process that receives it."""
        return pickle.loads, (self._content,)


class _Packer(pickle.Pickler):
    """Pickles the values of tensors in place of handles to shared memory."""

    def reducer_override(self, value: Any) -> Any:
        """Pickle a tensor as an array."""
        if isinstance(value, Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented

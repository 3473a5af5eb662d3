"""Processes that make batches ahead of training: whether they can be had, and how a batch travels.

A batch travels through a pipe, as bytes. torch would put each of its tensors into shared memory (/dev/shm),
in a thread whose errors nobody hears: where that memory is full, the batch is lost and the run waits.
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
    """Return the reason why processes that make batches cannot be started; empty if they can.

    Args:
        num_workers: Processes wanted.
    """
    context = multiprocessing.get_context()
    try:
        # As many semaphores as a loader takes: a queue a process, one for all, and the sign to end.
        held: list[Any] = [context.Queue() for _ in range(num_workers + 1)]
        held.append(context.Event())
    except (OSError, ImportError) as error:
        number = getattr(error, "errno", None) or errno.ENOSYS
        return f"{PLACE}, where their semaphores lie, cannot be used ({os.strerror(number)})"
    return ""


def workers_to_be_had(wanted: int, is_told: bool) -> int:
    """Return the processes to start: 0 where the system does not let them; the batches are the same.

    Args:
        wanted: data.num_workers.
        is_told: Say so where there are none.
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
    """A batch as bytes, which is a batch again once it has been received.

    Args:
        batch: Tensors on the CPU, in any nesting.
    """

    def __init__(self, batch: Any) -> None:
        file = io.BytesIO()
        _Packer(file, pickle.HIGHEST_PROTOCOL).dump(batch)
        self._content = file.getvalue()

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpack where it is received."""
        return pickle.loads, (self._content,)


class _Packer(pickle.Pickler):
    """Pickles the values of tensors in place of handles to shared memory."""

    def reducer_override(self, value: Any) -> Any:
        """Take a tensor's values as an array."""
        if isinstance(value, Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented

"""Predictions on their way from the device, which does not wait for the host to take them up."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor


class DeferredHostCopy:
    """Copies each batch's tensors to the host, and hands them on once the next batch's work is queued.

    Waiting for a batch's copies at once would leave the device idle while the host makes the next batch.

    Args:
        take: Called with each batch's arrays, in order, and what they were given with.
    """

    def __init__(self, take: Callable[[str, dict[str, np.ndarray]], None]) -> None:
        self._take = take
        self._last: tuple[str, dict[str, Tensor], torch.cuda.Event | None] | None = None

    def add(self, task: str, tensors: Mapping[str, Tensor]) -> None:
        """Begin to copy a batch's tensors; hand on the batch before."""
        on_cuda = any(tensor.is_cuda for tensor in tensors.values())
        copies = {name: tensor.to("cpu", non_blocking=on_cuda) for name, tensor in tensors.items()}
        event = torch.cuda.Event() if on_cuda else None
        if event is not None:
            event.record()
        self.finish()
        self._last = task, copies, event

    def finish(self) -> None:
        """Hand on the last batch."""
        if self._last is None:
            return
        task, copies, event = self._last
        self._last = None
        if event is not None:
            event.synchronize()
        self._take(task, {name: tensor.numpy() for name, tensor in copies.items()})

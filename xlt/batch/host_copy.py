"""Copies of outputs from the device to the host that do not stall the device."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor


class DeferredHostCopy:
    """Copy each micro-batch's tensors to the host, and pass them on once the next micro-batch is queued.

    To wait for each copy at once would leave the device idle while the host makes the next micro-batch.

    Args:
        take: Called with the task and the arrays of each micro-batch, in order.
    """

    def __init__(self, take: Callable[[str, dict[str, np.ndarray]], None]) -> None:
        self._take = take
        self._last: tuple[str, dict[str, Tensor], torch.cuda.Event | None] | None = None

    def add(self, task: str, tensors: Mapping[str, Tensor]) -> None:
        """Start the copy of a micro-batch's tensors, and pass on the micro-batch before."""
        on_cuda = any(tensor.is_cuda for tensor in tensors.values())
        copies = {name: tensor.to("cpu", non_blocking=on_cuda) for name, tensor in tensors.items()}
        event = torch.cuda.Event() if on_cuda else None
        if event is not None:
            event.record()
        self.finish()
        self._last = task, copies, event

    def finish(self) -> None:
        """Pass on the last micro-batch."""
        if self._last is None:
            return
        task, copies, event = self._last
        self._last = None
        if event is not None:
            event.synchronize()
        self._take(task, {name: tensor.numpy() for name, tensor in copies.items()})

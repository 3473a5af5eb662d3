"""The clock of all rates: the wall's, or this process's processor time where others use the same cores."""

import time
from collections.abc import Callable

import torch

_CLOCKS: list[Callable[[], float]] = [time.perf_counter]


def now() -> float:
    """Seconds by the clock in use."""
    return _CLOCKS[-1]()


def is_processor_time() -> bool:
    """Whether the clock is the processor's."""
    return _CLOCKS[-1] is time.process_time


def use_processor_time() -> None:
    """From now on count the seconds that this process computes, with one thread."""
    torch.set_num_threads(1)
    _CLOCKS.append(time.process_time)

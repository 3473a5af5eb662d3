"""Settings, stopwatches and results that the measured systems share.

The systems are xlt's command (benchmarks/xlt_system.py) and `transformers.Trainer`
(benchmarks/trainer_system.py). Both train and evaluate the same rows with AdamW, all dropouts at 0.1 and an
encoder of the same size with random weights. Only real tokens count: special tokens do, padding does not.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.workload import Size

Turn = Callable[[Literal["train", "evaluation"], int | Tensor], bool]
"""Function that a system calls after each step, with the phase and the number of real tokens.

The system also calls it with 0 tokens when evaluation begins. It returns True if training continues.
"""

WARM_UP = 2
"""Default number of first steps that a stopwatch does not count."""


def alone(*_: object) -> bool:
    """Return True at once: the `Turn` of a system that does not share the machine."""
    return True


@dataclass
class Stopwatch:
    """Real tokens and times of successive steps.

    On a GPU, the times are CUDA events, so that the program does not wait for the GPU after each step.
    """

    tokens: list[int | Tensor] = field(default_factory=list)
    moments: list[float | torch.cuda.Event] = field(default_factory=list)
    """Time of the end of each step."""
    warm_up: int = WARM_UP
    """Number of first steps that do not count."""

    @classmethod
    def of_evaluation(cls) -> "Stopwatch":
        """Return a stopwatch that counts all batches of an evaluation.

        The start of the evaluation must be recorded as a step of 0 tokens. The first batch counts too,
        because xlt sorts the batches by length: the other batches alone would not be a sample of all lengths.
        """
        return cls(warm_up=1)

    def step(self, tokens: int | Tensor) -> None:
        """Record the end of a step with its number of real tokens. On a GPU the step may still be queued."""
        if torch.cuda.is_available():
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.tokens.append(tokens)
            self.moments.append(event)
        else:
            self.tokens.append(int(tokens))
            self.moments.append(time.perf_counter())

    @property
    def rate(self) -> float:
        """Tokens per second after the warm-up. On a GPU, `rate_without_stalls` computes the rate."""
        tokens = [int(count) for count in self.tokens[self.warm_up :]]
        seconds = [_seconds(*pair) for pair in pairwise(self.moments[self.warm_up - 1 :])]
        if isinstance(self.moments[0], torch.cuda.Event):
            return rate_without_stalls(tokens, seconds)
        return sum(tokens) / sum(seconds)


def rate_without_stalls(tokens: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the tokens per second without the steps that waited for a compilation.

    A step counts if it reaches a fifth of the median speed.

    Args:
        tokens: Number of tokens of each step.
        seconds: Duration of each step in seconds.
    """
    speeds = [count / duration for count, duration in zip(tokens, seconds, strict=True)]
    least = statistics.median(speeds) / 5
    kept = [number for number, speed in enumerate(speeds) if speed >= least]
    return sum(tokens[number] for number in kept) / sum(seconds[number] for number in kept)


def _seconds(begin: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    """Return the seconds between two times of a stopwatch."""
    if isinstance(begin, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        end.synchronize()
        return begin.elapsed_time(end) / 1000
    assert isinstance(begin, float)
    assert isinstance(end, float)
    return end - begin


class Measured(NamedTuple):
    """Measurements of one run of a system."""

    train: Stopwatch
    evaluation: Stopwatch
    losses: list[float]
    """Loss of each training step. Empty for the Trainer."""
    slots: int = 0
    """Number of tokens that xlt's attention computed in training, tokens that rounding adds included."""
    first_step_seconds: float = 0.0
    """Duration of xlt's first step in seconds, compilation of the layers included."""


@dataclass(frozen=True)
class Setting:
    """Settings that all systems share."""

    root: Path
    """Folder of the rows (benchmarks/workload.py) and of the cache."""
    encoder: Path
    """Folder of the encoder."""
    size: Size
    steps: int
    """Number of optimizer steps, warm-up included."""
    precision: str
    """Precision of xlt, and of the Trainer at its best: `32-true` or `bf16-mixed`. Choose the faster."""
    validation_rows: int = 1500
    tokens_per_micro_batch: int = 4096
    """Maximum number of tokens in a micro-batch of xlt."""
    micro_batches_per_step: int = 1
    device: str = "cpu"
    """Device: `cpu` or `gpu`."""
    warm_up: int = WARM_UP
    """Number of first training steps that do not count."""
    compile: bool = False
    """True if each system compiles the layers of its encoder."""

    @property
    def has_weights(self) -> bool:
        """True if the encoder's folder holds weights. Otherwise each run of xlt draws random weights."""
        return (self.encoder / "model.safetensors").exists()

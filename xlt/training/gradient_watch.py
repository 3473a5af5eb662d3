"""The sign of a destroyed encoder: the gradient has vanished, and the loss is as high as at first."""

import math
from collections import defaultdict
from statistics import mean, median

WINDOW = 25
"""Number of steps that are judged together."""
NUM_FIRST = 10
"""Number of first losses of a task that its later ones are compared with."""
VANISHED = 0.01
"""A norm below this share of the largest one has vanished. Both are medians of a window."""
FALLEN = 0.95
"""A mean loss below this share of the first losses has fallen: a small gradient is then no fault."""


class GradientWatch:
    """Watches the steps of a run, and warns once.

    A high learning rate with few examples per step can drive an encoder to the same vector for every input.
    Then nothing reaches its weights any more. In one of three runs of HellaSwag the median norm fell to
    0.0013 from 4.6, with a loss of ln 4 throughout (`docs/results.md`).
    """

    def __init__(self) -> None:
        self._first: defaultdict[str, list[float]] = defaultdict(list)
        self._norms: list[float] = []
        self._losses: list[float] = []
        self._largest = 0.0
        self._has_warned = False

    def add(self, step: int, task: str, loss: float, norm: float) -> str | None:
        """Add a step; return a warning at the end of the first window whose gradient has vanished.

        Args:
            step: Number of the step, from 1.
            task: Task of the step.
            loss: Loss of the step.
            norm: Norm of its gradient, before clipping.
        """
        first = self._first[task]
        if len(first) < NUM_FIRST:
            first.append(loss)
        start = mean(first)
        self._losses.append(loss / start if start > 0 else 0.0)
        self._norms.append(norm if math.isfinite(norm) else math.inf)
        if len(self._norms) < WINDOW:
            return None
        found, losses = median(self._norms), mean(self._losses)
        self._norms, self._losses = [], []
        has_vanished = found < VANISHED * self._largest and losses >= FALLEN
        self._largest = max(self._largest, found if math.isfinite(found) else 0.0)
        if self._has_warned or not has_vanished:
            return None
        self._has_warned = True
        return (
            f"the gradient has vanished: its median norm is {found:.2g} in steps {step - WINDOW + 1:,} to "
            f"{step:,}, and was {self._largest:.2g} before, but the loss is as high as at first. The encoder "
            "may be destroyed, and more steps do not repair it. Train again, in another folder, with a lower "
            "model.learning_rate, more data.tokens_per_micro_batch or more model.warmup_steps"
        )

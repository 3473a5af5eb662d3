"""The mixture: the probability of each task, and the task of each step.

p_i ∝ min(n_i, K)^(1/T), with the number n_i of training examples of task i, the cap K and the temperature T.
T = 1 is examples-proportional mixing with a limit K (Raffel et al. 2020, section 3.5.2,
https://arxiv.org/abs/1910.10683; Phang et al. 2020 use K = 2^17). A larger T makes the probabilities more
equal, as in XLM-R (Conneau et al. 2020, alpha = 1/T). T = ∞ makes them equal.
"""

import math
from collections.abc import Mapping

import numpy as np

from xlt.data.sampling.order import uniform
from xlt.system.checks import require


def probabilities(
    num_examples: Mapping[str, int],
    temperature: float,
    cap: float,
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return the probability of each task.

    Args:
        num_examples: Number of training examples of each task, n_i.
        temperature: T, above 0. Infinity gives all tasks the same probability.
        cap: K, above 0, in examples. Infinity means no limit.
        weights: Probabilities up to a common factor. If None, the formula decides.

    Raises:
        ValueError: A value is out of range, or the weights and the tasks have different names.
    """
    check(temperature, cap, weights, tuple(num_examples))
    if weights is not None:
        raw = {name: weights[name] / max(weights.values()) for name in num_examples}
    else:
        # In logarithms, relative to the largest, so that a small T cannot overflow.
        logs = {name: math.log(min(n, cap)) for name, n in num_examples.items()}
        top = max(logs.values())
        raw = {name: math.exp((value - top) / temperature) for name, value in logs.items()}
    total = math.fsum(raw.values())
    return {name: value / total for name, value in raw.items()}


def shares_by_language(
    num_examples: Mapping[str, int],
    temperature: float,
    cap: float,
    weights: Mapping[str, float] | None,
    language_temperature: float,
) -> dict[str, float]:
    """Return the probability of each task. A task's languages divide it by a formula of their own.

    Args:
        num_examples: Number of training examples by task, or by `<task>/<language>`.
        temperature: T among tasks. The examples of a task are those of all its languages.
        cap: K among tasks, in examples.
        weights: Probabilities of tasks up to a common factor. If None, the formula decides. A
            `<task>/<language>` has a probability of its own, apart from its task's other languages.
        language_temperature: T among the languages of a task. There is no limit K.
    """
    groups: dict[str, dict[str, int]] = {}
    for name, count in num_examples.items():
        groups.setdefault(_weighed_as(name, weights), {})[name] = count
    totals = {group: sum(members.values()) for group, members in groups.items()}
    return {
        name: share * own
        for group, share in probabilities(totals, temperature, cap, weights).items()
        for name, own in probabilities(groups[group], language_temperature, math.inf).items()
    }


def check(
    temperature: float,
    cap: float,
    weights: Mapping[str, float] | None,
    tasks: tuple[str, ...],
) -> None:
    """Check the settings of the mixture. The arguments are those of `probabilities`.

    Raises:
        ValueError: A value is out of range, or the weights and the tasks have different names.
    """
    require(temperature > 0, "data.temperature", temperature, "be above 0 (the paper uses 1)")
    require(cap > 0, "data.cap", cap, "be above 0 examples (the paper uses 131072)")
    if weights is None:
        return
    wanted = {_weighed_as(name, weights) for name in tasks}
    if set(weights) != wanted:
        raise ValueError(
            f"data.weights names {sorted(weights)}, data.tasks {sorted(wanted)}: name the same tasks, each "
            "without a language. A language may have a weight of its own next to its task's"
        )
    if any(not math.isfinite(w) or w < 0 for w in weights.values()) or not any(weights.values()):
        raise ValueError(
            f"data.weights are {dict(weights)}: no weight may be negative, and one must be above 0"
        )


def _weighed_as(name: str, weights: Mapping[str, float] | None) -> str:
    """Return the name under which a task has its weight: its own, or its task's without the language."""
    return name if name in (weights or {}) else name.partition("/")[0]


class Schedule:
    """The task of each step, and the task's own step index.

    The schedule is a pure function of (seed, probabilities, step). A shorter schedule is a prefix of a
    longer.

    Args:
        shares: Probability of each task.
        num_steps: Number of optimizer steps.
        seed: Seed of the run.
    """

    def __init__(self, shares: Mapping[str, float], num_steps: int, seed: int) -> None:
        self.tasks = tuple(shares)
        edges = np.cumsum([shares[name] for name in self.tasks])
        edges[-1] = 1.0
        self._task = np.searchsorted(edges, uniform(num_steps, "schedule", seed), side="right")
        self._visit = np.zeros(num_steps, np.int64)
        for i in range(len(self.tasks)):
            mine = self._task == i
            self._visit[mine] = np.arange(mine.sum())

    def __len__(self) -> int:
        """Return the number of optimizer steps."""
        return len(self._task)

    def __getitem__(self, step: int) -> tuple[str, int]:
        """Return the step's task and the task's own step index, from 0."""
        return self.tasks[self._task[step]], int(self._visit[step])

    def steps_of(self, task: str) -> int:
        """Return the number of steps that train a task."""
        return int((self._task == self.tasks.index(task)).sum())

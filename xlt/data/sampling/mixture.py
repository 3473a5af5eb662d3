"""The mixture: how often each task is trained, and which task each step trains.

p_i ∝ min(n_i, K)^(1/T). T = 1 is examples-proportional mixing with a limit K (Raffel et al. 2020, section
3.5.2, https://arxiv.org/abs/1910.10683; Phang et al. 2020 use it with K = 2^17); larger T flattens as in
XLM-R (Conneau et al. 2020, alpha = 1/T); T = ∞ is uniform.
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
    """Each task's share of the steps.

    Args:
        num_examples: Training examples of each task, n_i.
        temperature: T above 0; infinity is uniform.
        cap: K above 0, in examples; infinity is no limit.
        weights: Explicit shares up to a common factor, in place of the formula.

    Raises:
        ValueError: A value is out of range, or the weights are not those of the tasks.
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
    """Each task's share of the steps, a task's languages shared out among them by a formula of their own.

    Args:
        num_examples: Training examples by task, or by `<task>/<language>`.
        temperature: T among tasks, whose examples are those of all languages.
        cap: K among tasks, in examples.
        weights: Explicit shares of tasks, in place of their formula; a `<task>/<language>` among them has a
            share of its own beside its task's other languages.
        language_temperature: T among the languages of a task, without a limit.
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
    """Raise ValueError where the mixture's settings cannot be meant."""
    require(temperature > 0, "data.temperature", temperature, "be above 0 (1 is the paper's)")
    require(cap > 0, "data.cap", cap, "be above 0 examples (131072 is the paper's)")
    if weights is None:
        return
    wanted = {_weighed_as(name, weights) for name in tasks}
    if set(weights) != wanted:
        raise ValueError(
            f"data.weights names {sorted(weights)}, data.tasks {sorted(wanted)}: name the same tasks, each "
            "without a language; a language may have a weight of its own beside its task's"
        )
    if any(not math.isfinite(w) or w < 0 for w in weights.values()) or not any(weights.values()):
        raise ValueError(f"data.weights are {dict(weights)}: none may be negative, one must count")


def _weighed_as(name: str, weights: Mapping[str, float] | None) -> str:
    """The name of a task, or of a task in one language, that has its weight."""
    return name if name in (weights or {}) else name.partition("/")[0]


class Schedule:
    """Which task each step trains, and the how-manieth step of that task it is.

    A pure function of (seed, probabilities, step); a longer schedule has a shorter one as its prefix.

    Args:
        shares: Each task's probability, as `probabilities` gives it.
        num_steps: Optimizer steps.
        seed: Of the run.
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
        """Number of optimizer steps."""
        return len(self._task)

    def __getitem__(self, step: int) -> tuple[str, int]:
        """The step's task, and how many steps of that task precede it."""
        return self.tasks[self._task[step]], int(self._visit[step])

    def steps_of(self, task: str) -> int:
        """How many of the steps train this task."""
        return int((self._task == self.tasks.index(task)).sum())

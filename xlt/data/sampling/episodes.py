"""Steps of meta-learning: the first half of a step's micro-batches is the support, the second half the query.

Both halves are full steps of the task's random order, with half as many micro-batches. No row is in both
halves, unless an epoch ends between them.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from xlt.batch.batch import Batch
from xlt.data.sampling.mixture import Schedule
from xlt.data.sampling.order import uniform
from xlt.data.sampling.steps import TaskRows, TrainingSteps


class Episodes(TrainingSteps):
    """The support and query micro-batches that a process trains in each optimizer step.

    Args:
        schedule: The task of each step.
        tasks: The rows of each task.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch.
        micro_batches_per_step: Number of micro-batches per optimizer step, summed over all processes and both
            halves.
        seed: Seed of the order, of masking and of dropout.
        rank: Rank of the process.
        world_size: Number of processes.

    Raises:
        ValueError: The processes cannot share the micro-batches of a half, or a task has no other language.
    """

    other_language = False
    """True to take the support from another language of the step's task."""

    def __init__(
        self,
        schedule: Schedule,
        tasks: Mapping[str, TaskRows],
        tokens_per_micro_batch: int,
        micro_batches_per_step: int,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        check_episodes(self.other_language, schedule.tasks, micro_batches_per_step, world_size)
        self._half = micro_batches_per_step // 2
        super().__init__(schedule, tasks, tokens_per_micro_batch, self._half, seed, rank, world_size)
        query = np.array([schedule.tasks.index(schedule[step][0]) for step in range(len(schedule))], int)
        support = self._in_other_languages(query) if self.other_language else query
        self._tasks_of_halves = np.stack([support, query], 1)
        self._visits = _visits(self._tasks_of_halves.ravel()).reshape(-1, 2)

    def _in_other_languages(self, query: np.ndarray) -> np.ndarray:
        """Return a task of another language for the task of each step, by their numbers in the schedule."""
        names, draws = self.schedule.tasks, uniform(len(query), "support language", self._seed)
        others = [
            [i for i, other in enumerate(names) if other != name and _group(other) == _group(name)]
            for name in names
        ]
        return np.array([others[i][int(u * len(others[i]))] for i, u in zip(query, draws, strict=True)], int)

    def epochs_after(self, step: int) -> float:
        """Return the number of epochs over the rows of the step's task when the step is done."""
        return self.stream(self.schedule[step][0]).epochs_before(int(self._visits[step, 1]) + 1)

    def __getitem__(self, step: int) -> list[Batch]:
        """Return this process's support micro-batches of a step, and then its query micro-batches."""
        batches: list[Batch] = []
        for half, (task, visit) in enumerate(
            zip(self._tasks_of_halves[step], self._visits[step], strict=True)
        ):
            name = self.schedule.tasks[task]
            batches += self.collated(step, name, int(visit), half * self._half)
        return batches


class CrossLanguageEpisodes(Episodes):
    """Support and query micro-batches of a task in two languages. The schedule names the query's language."""

    other_language = True


def steps_type_of(algorithm: str, other_language: bool) -> type[TrainingSteps]:
    """Return the class of a run's steps.

    Args:
        algorithm: The key model.meta.algorithm.
        other_language: The key model.meta.other_language.
    """
    if algorithm == "joint":
        return TrainingSteps
    return CrossLanguageEpisodes if other_language else Episodes


def _visits(tasks: np.ndarray) -> np.ndarray:
    """Return for each entry the number of earlier entries with the same task."""
    visits = np.zeros(len(tasks), np.int64)
    for task in np.unique(tasks):
        mine = tasks == task
        visits[mine] = np.arange(mine.sum())
    return visits


def _group(name: str) -> str:
    """Return the task of a name that may have a language."""
    return name.partition("/")[0]


def check_episodes(
    other_language: bool, tasks: Iterable[str], micro_batches_per_step: int, world_size: int
) -> None:
    """Check that each step has a support and a query.

    Args:
        other_language: True to take the support from another language of the step's task.
        tasks: Names of the tasks.
        micro_batches_per_step: The key data.micro_batches_per_step.
        world_size: Number of processes.

    Raises:
        ValueError: The processes cannot share the micro-batches of a half, or a task has one language.
    """
    if micro_batches_per_step % (2 * world_size):
        raise ValueError(
            f"data.micro_batches_per_step is {micro_batches_per_step}, but meta-learning divides it into "
            f"support and query, and the processes ({world_size}) share each half: set it to a multiple of "
            f"{2 * world_size}"
        )
    groups = [_group(name) for name in tasks]
    for name in groups:
        if other_language and groups.count(name) < 2:
            raise ValueError(
                f"model.meta.other_language is true, but data.tasks has {name} in one language: add another, "
                f"as in [{name}/de, {name}/fr]"
            )

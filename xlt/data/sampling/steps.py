"""Data sets of batches: the micro-batches of each optimizer step, and the batches of validation rows.

A step depends on its number alone, so the number of the next step is the loader's only state.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from xlt.batch.batch import Batch
from xlt.data.features import Features
from xlt.data.sampling.batches import RowStream
from xlt.data.sampling.collate import collate
from xlt.data.sampling.masking import Masking
from xlt.data.sampling.mixture import Schedule
from xlt.data.sampling.order import seed_of


class TaskRows(NamedTuple):
    """The rows of a task and how they become batches.

    Args:
        features: The features that hold the rows.
        rows: Numbers of the rows in use, ascending.
        inputs: Columns that the task's head takes.
        first_position: Position id of a sequence's first token, which depends on the encoder.
        masking: The rule that masks tokens. If None, no token is masked.
    """

    features: Features
    rows: np.ndarray
    inputs: Sequence[str]
    first_position: int
    masking: Masking | None = None


class TrainingSteps(Dataset[list[Batch]]):
    """The micro-batches that a process trains in each optimizer step.

    Args:
        schedule: The task of each step.
        tasks: The rows of each task.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch.
        micro_batches_per_step: Number of micro-batches per optimizer step, summed over all processes.
        seed: Seed of the order, of masking and of dropout.
        rank: Rank of the process.
        world_size: Number of processes.
    """

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
        self.schedule, self._tasks, self._seed = schedule, tasks, seed
        self._sizes = (tokens_per_micro_batch, micro_batches_per_step)
        self._rank, self._world_size = rank, world_size
        self._streams: dict[str, RowStream] = {}

    def stream(self, task: str) -> RowStream:
        """Return the row order of a task."""
        if task not in self._streams:
            rows = self._tasks[task]
            lengths = rows.features.counts("input_ids")
            self._streams[task] = RowStream(lengths, rows.rows, *self._sizes, self._seed, task)
        return self._streams[task]

    def epochs_after(self, step: int) -> float:
        """Return the number of epochs over the rows of the step's task when the step is done."""
        task, visit = self.schedule[step]
        return self.stream(task).epochs_before(visit + 1)

    def __getitem__(self, step: int) -> list[Batch]:
        """Return this process's micro-batches of a step."""
        return self.collated(step, *self.schedule[step])

    def collated(self, step: int, task: str, visit: int, first: int = 0) -> list[Batch]:
        """Return this process's micro-batches of a part of a step.

        Args:
            step: The step.
            task: Task of the part.
            visit: Index of the part in the task's own order.
            first: Number of micro-batches of the step before the part, on all processes. Defaults to 0.
        """
        features, _, inputs, first_position, masking = self._tasks[task]
        pieces = self.stream(task).step(visit)
        weight = max(1, int(features.gather("weight", np.concatenate(pieces))[0].sum()))
        masking_key = seed_of("masking", self._seed, step)
        return [
            collate(
                task,
                features,
                pieces[i],
                inputs,
                first_position,
                step_weight=weight,
                seed=seed_of("dropout", self._seed, step, first + i),
                masking=masking,
                masking_key=masking_key,
            )
            for i in range(self._rank, len(pieces), self._world_size)
        ]

    def __len__(self) -> int:
        """Return the number of optimizer steps."""
        return len(self.schedule)


class ResumeSampler(Sampler[int]):
    """Sampler of the steps that are not trained yet. Lightning expects the length of the whole run.

    Args:
        first: Number of the first step that is not trained yet.
        total: Number of steps of the run.
    """

    def __init__(self, first: int, total: int) -> None:
        self._first, self._total = first, total

    def __iter__(self) -> Iterator[int]:
        """Return the steps that are left."""
        return iter(range(self._first, self._total))

    def __len__(self) -> int:
        """Return the number of steps of the run."""
        return self._total


class ValidationBatches(Dataset[Batch]):
    """The validation batches of a task that a process scores. Masked tokens are the same in every run.

    Args:
        task: The task's name.
        rows: The task's rows.
        batches: Numbers of the rows of each batch.
    """

    def __init__(self, task: str, rows: TaskRows, batches: Sequence[np.ndarray]) -> None:
        self._task, self._rows, self._batches = task, rows, batches

    def __getitem__(self, number: int) -> Batch:
        """Return a packed batch."""
        features, _, inputs, first_position, masking = self._rows
        return collate(self._task, features, self._batches[number], inputs, first_position, masking=masking)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)


def leave_signals_to_parent(_: int) -> None:
    """Ignore signals in a loader's process, which must keep serving batches while the run saves."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def as_is(batch: Any) -> Any:
    """Return a batch unchanged: these data sets already return packed batches."""
    return batch

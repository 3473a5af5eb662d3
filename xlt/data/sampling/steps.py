"""What a loader serves: the micro-batches of an optimizer step, or a batch of validation rows.

A step is made from its number alone, so the loader's only state is where to begin.
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
    """A task's rows: where they are, which are in use, the columns its head takes, and what is hidden."""

    features: Features
    rows: np.ndarray
    inputs: Sequence[str]
    masking: Masking | None = None


class TrainingSteps(Dataset[list[Batch]]):
    """The micro-batches of each optimizer step that fall to one process.

    Args:
        schedule: Which task each step trains.
        tasks: The rows of each task.
        tokens_per_micro_batch: Most tokens in a micro-batch.
        micro_batches_per_step: Micro-batches in a step, those of all processes together.
        seed: Of order and dropout.
        rank: Number of the process.
        world_size: Processes.
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
        """The task's row order, made when first needed."""
        if task not in self._streams:
            features, rows = self._tasks[task][:2]
            lengths = features.counts("input_ids")
            self._streams[task] = RowStream(lengths, rows, *self._sizes, self._seed, task)
        return self._streams[task]

    def epochs_after(self, step: int) -> float:
        """How often the rows of the step's task have passed once the step is done."""
        task, visit = self.schedule[step]
        return self.stream(task).epochs_before(visit + 1)

    def __getitem__(self, step: int) -> list[Batch]:
        """This process's micro-batches of a step."""
        task, visit = self.schedule[step]
        features, _, inputs, masking = self._tasks[task]
        pieces = self.stream(task).step(visit)
        weight = max(1, int(features.gather("weight", np.concatenate(pieces))[0].sum()))
        hidden = (masking, seed_of("masking", self._seed, step))
        return [
            collate(
                task, features, pieces[i], inputs, weight, seed_of("dropout", self._seed, step, i), *hidden
            )
            for i in range(self._rank, len(pieces), self._world_size)
        ]

    def __len__(self) -> int:
        """Number of optimizer steps."""
        return len(self.schedule)


class ResumeSampler(Sampler[int]):
    """The steps from the first not yet trained; its length is the whole run's, as Lightning counts."""

    def __init__(self, first: int, total: int) -> None:
        self._first, self._total = first, total

    def __iter__(self) -> Iterator[int]:
        """The steps left."""
        return iter(range(self._first, self._total))

    def __len__(self) -> int:
        """All steps of the run."""
        return self._total


class ValidationBatches(Dataset[Batch]):
    """One process's validation batches of one task.

    Args:
        task: The task's name.
        features: Where the rows are.
        rows: Numbers of the rows of each batch.
        inputs: Columns that the task's head takes.
        masking: How tokens are hidden; the same ones in every validation of every run.
    """

    def __init__(
        self,
        task: str,
        features: Features,
        rows: Sequence[np.ndarray],
        inputs: Sequence[str],
        masking: Masking | None = None,
    ) -> None:
        self._task, self._features, self._rows = task, features, rows
        self._inputs, self._masking = inputs, masking

    def __getitem__(self, number: int) -> Batch:
        """One packed batch."""
        return collate(self._task, self._features, self._rows[number], self._inputs, masking=self._masking)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._rows)


def leave_signals_to_parent(_: int) -> None:
    """In a loader's process: go on serving while the run saves, when all its processes are told to stop."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def as_is(batch: Any) -> Any:
    """The batch: the data sets here make packed batches already."""
    return batch

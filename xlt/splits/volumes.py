"""The volume of each task: how many of its examples are used, and which."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xlt.data.sampling.batches import nested_subset
from xlt.data.sources import Split
from xlt.kinds.task import Task, group_of
from xlt.splits.encoded_split import EncodedSplit
from xlt.system.checks import require
from xlt.tasks import by_task


class Volumes:
    """The maximum numbers of examples that tasks use.

    Args:
        training: The key data.volume: training examples of each task in each language. If None, all.
        validation: The key data.validation_volume: dev examples of each task. If None, all.
        tasks: Names of the tasks, without languages.
        seed: Seed of the draw of examples.
        draw: Seed of the draw of training examples. Defaults to `seed`.

    Raises:
        ValueError: A volume is below 1, or belongs to no task.
    """

    def __init__(
        self,
        training: int | Mapping[str, int] | None,
        validation: int | None,
        tasks: Sequence[str],
        seed: int,
        draw: int | None = None,
    ) -> None:
        self.training = _by_task(training, tasks)
        fits = validation is None or validation >= 1
        require(fits, "data.validation_volume", validation, "be at least 1 example")
        require(draw is None or draw >= 0, "data.volume_seed", draw, "be 0 or more")
        self._validation = validation
        self._seeds: dict[Split, int] = {"train": seed if draw is None else draw, "validation": seed}

    def _of(self, name: str, split: Split) -> int | None:
        """Return the volume of a task in a split; None for all examples."""
        return self.training[group_of(name)] if split == "train" else self._validation

    def settings(self) -> dict[str, int | None]:
        """Return the settings on which the training examples in use depend, by name."""
        return {"volume_seed": self._seeds["train"]} | {
            f"volume of {group}": volume for group, volume in self.training.items()
        }

    def num_examples(self, name: str, split: Split, encoded: EncodedSplit) -> int:
        """Return the number of examples of a task that a split uses."""
        return min(encoded.meta.examples, self._of(name, split) or sys.maxsize)

    def rows(self, task: Task[Any], split: Split, encoded: EncodedSplit) -> np.ndarray:
        """Return the numbers of the rows of features that a split uses, ascending.

        Args:
            task: The task.
            split: The split.
            encoded: The task's rows of the split.
        """
        volume, seed = self._of(task.name, split), self._seeds[split]
        if task.is_parallel:
            kept = encoded.subset(volume, seed, task.group, split)
        else:
            kept = nested_subset(encoded.meta.examples, volume, seed, task.name, split)
        return encoded.rows_of(kept)

    def token_ids(
        self, tasks: Mapping[str, Task[Any]], encoded: Mapping[str, Mapping[Split, EncodedSplit]]
    ) -> np.ndarray:
        """Return the token ids of the training rows in use and of all dev rows, ascending.

        Args:
            tasks: The tasks, by name.
            encoded: The splits of each task.
        """
        found = []
        for name, splits in encoded.items():
            rows = self.rows(tasks[name], "train", splits["train"])
            found.append(splits["train"].features.distinct("input_ids", rows))
            # A resumed run may validate on more rows than the run before.
            dev = splits["validation"].features
            found.append(dev.distinct("input_ids", np.arange(dev.num_rows)))
        return np.unique(np.concatenate(found))


def _by_task(volume: int | Mapping[str, int] | None, tasks: Sequence[str]) -> dict[str, int | None]:
    """Return the training volume of each task; None if it uses all examples.

    Raises:
        ValueError: A volume is below 1, or belongs to no task.
    """
    volumes = by_task(volume) if isinstance(volume, Mapping) else dict.fromkeys(tasks, volume)
    unknown = set(volumes) - set(tasks)
    if unknown:
        raise ValueError(
            f"data.volume names {sorted(unknown)}, but data.tasks has {list(tasks)}. A volume belongs to a "
            "task in each of its languages: write mlm, not mlm/sw"
        )
    for name, value in volumes.items():
        require(value is None or value >= 1, f"data.volume of {name}", value, "be at least 1 example")
    return {name: volumes.get(name) for name in tasks}

"""Encoded splits of tasks: whose rows a task reads in a split, and where they are kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import getfile
from pathlib import Path
from typing import Any

import xlt.kinds
import xlt.pretraining
import xlt.task
import xlt.xtreme
from xlt.data import encode, examples, features, masking, multilingual, texts
from xlt.data.encode import TextEncoder
from xlt.data.sources import Part, Split
from xlt.data.spread import Pool
from xlt.data.store import Stored, key_of, store
from xlt.task import Task
from xlt.tasks import load

CODE = [
    Path(str(module.__file__))
    for module in (
        *(xlt.task, xlt.kinds, xlt.pretraining, xlt.xtreme),
        *(encode, examples, features, masking, multilingual, texts),
    )
]
"""Files whose change makes encoded rows stale."""


class Splits:
    """Opens the encoded splits of tasks; what is not in the cache yet is encoded.

    Args:
        roots: Data roots.
        cache: Folder of encoded rows.
        text: The tokenizer and its limits.
        pool: Processes that encode them; where none are given, a large split starts its own.
    """

    def __init__(
        self, roots: Sequence[Path], cache: Path, text: TextEncoder, pool: Pool | None = None
    ) -> None:
        self._roots, self._cache, self.text, self._pool = roots, cache, text, pool

    def parts(self, task: Task[Any], split: Split) -> list[Part]:
        """The task's own rows of a split, not yet encoded.

        Raises:
            FileNotFoundError: They cannot be found.
            ValueError: A file is damaged.
        """
        return [part for source in task.sources for part in source.open(split, self._roots, task.language)]

    def open(self, task: Task[Any], split: Split, parts: Sequence[Part] | None = None) -> Stored:
        """The task's own rows of a split, encoded.

        Args:
            task: The task.
            split: Whose rows.
            parts: The rows in place of the task's own, such as perturbed ones.

        Raises:
            FileNotFoundError: They cannot be found.
            ValueError: A file or a row cannot be read.
        """
        parts = self.parts(task, split) if parts is None else parts
        return store(task, parts, self.text, self.folder(task, split, parts), self._pool)

    def folder(self, task: Task[Any], split: Split, parts: Sequence[Part]) -> Path:
        """Where the encoded rows of a split are kept, whose name tells of all that they depend on."""
        key = key_of(task, parts, self.text, [*CODE, *_file_of(task.read)])
        return self._cache / f"{task.name.replace('/', '-')}-{split}-{key}"

    def is_encoded(self, task: Task[Any], split: Split, parts: Sequence[Part]) -> bool:
        """Return True if the rows are in the cache, encoded."""
        return (self.folder(task, split, parts) / "meta.json").is_file()

    def for_training(self, task: Task[Any], split: Split) -> Stored:
        """The rows that training, or its validation, takes for the task: another task's where it says so.

        Raises:
            FileNotFoundError: They cannot be found, or there are none to train on.
            ValueError: A file or a row cannot be read, or the other task has other classes.
        """
        other = task.rows_of(split)
        if not other:
            return self.open(task, split)
        reader = load(other + task.name.removeprefix(task.group))
        stored = self.open(reader, split)
        if tuple(stored.meta.labels) != tuple(task.labels):
            raise ValueError(
                f"task {task.name} reads the rows of {other}, whose classes are {stored.meta.labels}, "
                f"not {list(task.labels)}: name the same, in the same order"
            )
        return stored


def with_labels(task: Task[Any], stored: Stored) -> Task[Any]:
    """The task with the labels that its training rows have settled."""
    return replace(task, labels=tuple(stored.meta.labels))


def _file_of(read: Callable[..., Any]) -> list[Path]:
    """The file that defines a task's `read`; none for one that is no plain function."""
    try:
        return [Path(getfile(read))]
    except TypeError:
        return []

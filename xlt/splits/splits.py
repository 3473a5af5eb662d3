"""Encoded splits of tasks: whose rows a task reads in a split, and where they are kept."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import xlt.kinds
from xlt.data import class_names, encode, examples, features, multilingual, texts
from xlt.data.encode import TextEncoder
from xlt.data.multilingual import ENGLISH
from xlt.data.parallel import by_id, occurrences, translations
from xlt.data.sampling import masking
from xlt.data.sources import RawSplit, Split
from xlt.kinds.task import Task
from xlt.splits.encode_workers import Pool
from xlt.splits.store import EncodedSplit, key_of, read_examples, store
from xlt.splits.user_code import user_code
from xlt.tasks import load

log = logging.getLogger(__name__)

CODE = [
    *sorted(Path(str(xlt.kinds.__file__)).parent.glob("*.py")),
    *(
        Path(str(module.__file__))
        for module in (class_names, encode, examples, features, masking, multilingual, texts)
    ),
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

    def parts(self, task: Task[Any], split: Split) -> list[RawSplit]:
        """The task's own rows of a split, not yet encoded.

        Raises:
            FileNotFoundError: They cannot be found.
            ValueError: A file is damaged.
        """
        return [part for source in task.sources for part in source.open(split, self._roots, task.language)]

    def open(self, task: Task[Any], split: Split, parts: Sequence[RawSplit] | None = None) -> EncodedSplit:
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
        stored = store(task, parts, self.text, self.folder(task, split, parts), self._pool)
        stored.identify = partial(self.identities, task, split)
        return stored

    def folder(self, task: Task[Any], split: Split, parts: Sequence[RawSplit]) -> Path:
        """Where the encoded rows of a split are kept, whose name tells of all that they depend on."""
        key = key_of(task, parts, self.text, [*CODE, *user_code(task, task.module)])
        return self._cache / f"{task.name.replace('/', '-')}-{split}-{key}"

    def is_encoded(self, task: Task[Any], split: Split, parts: Sequence[RawSplit]) -> bool:
        """Return True if the rows are in the cache, encoded."""
        return (self.folder(task, split, parts) / "meta.json").is_file()

    def for_training(self, task: Task[Any], split: Split) -> EncodedSplit:
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
        stored.identify = partial(self.identities, replace(reader, is_parallel=task.is_parallel), split)
        if tuple(stored.meta.labels) != tuple(task.labels):
            raise ValueError(
                f"task {task.name} reads the rows of {other}, whose classes are {stored.meta.labels}, "
                f"not {list(task.labels)}: name the same, in the same order"
            )
        return stored

    def identities(self, task: Task[Any], split: Split) -> list[int | str]:
        """Return the identity of each labelled example of a split, shared by all languages of the task.

        The number of its translation among the rows of the pivot; its id where the pivot lacks it; its own
        number where no translations are known. Rows without a label count in all numbers.

        Raises:
            ValueError: A row cannot be read.
        """
        own = _examples(task, self.parts(task, split))
        found = self._numbered(task, split, own)
        return [i for i, example in zip(found, own, strict=True) if task.is_labelled(example)]

    def _numbered(self, task: Task[Any], split: Split, own: Sequence[Any]) -> list[int | str]:
        """The identities of all rows, by the first pivot that has translations of them."""
        reasons: list[str] = []
        if task.is_parallel or any(example.id for example in own):
            for pivot, parts in self.pivots(task, split):
                theirs = _examples(pivot, parts)
                try:
                    places = _places(task, own, theirs)
                except (TypeError, ValueError) as error:
                    reasons.append(str(error))
                    continue
                numbers = self._numbered(pivot, split, theirs)
                names = [f"{key or task.language}#{number}" for key, number in occurrences(own)]
                return [numbers[i] if i >= 0 else name for i, name in zip(places, names, strict=True)]
        if reasons:
            because = "a volume takes its rows by their numbers, not by translation"
            log.info("%s: %s: %s", task.name, because, reasons[0])
        return list(range(len(own)))

    def pivots(self, task: Task[Any], split: Split) -> Iterator[tuple[Task[Any], list[RawSplit]]]:
        """The languages by whose rows those of a language may be told, and their rows: English first.

        They are those of the task's languages that come before the language.
        """
        for language in sorted(task.languages or (ENGLISH,), key=lambda code: code != ENGLISH):
            if language == (task.language or ENGLISH):
                return
            other = replace(task, name=f"{task.group}/{language}" if task.languages else task.group)
            try:
                yield other, self.parts(other, split)
            except FileNotFoundError:
                continue


def _examples(task: Task[Any], parts: Sequence[RawSplit]) -> list[Any]:
    """All examples of the rows, those without a label too."""
    return [example for example, *_ in read_examples(task, parts)]


def _places(task: Task[Any], own: Sequence[Any], pivot: Sequence[Any]) -> list[int]:
    """The number of each example's translation in the pivot, -1 where it has none.

    Raises:
        ValueError: It cannot be told.
    """
    if task.is_parallel:
        return translations(own, pivot).tolist()
    places = by_id(own, pivot)
    return places.tolist() if (places >= 0).any() else list(range(len(own)))


def with_labels(task: Task[Any], stored: EncodedSplit) -> Task[Any]:
    """The task with the labels that its training rows have settled."""
    return replace(task, labels=tuple(stored.meta.labels))

"""Open the raw and encoded splits of tasks, and number examples so that translations share a number."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from xlt.data.encode import TextEncoder
from xlt.data.multilingual import ENGLISH
from xlt.data.parallel import by_id, occurrences, translations
from xlt.data.sources import RawSplit, Split
from xlt.kinds.task import Task
from xlt.splits.cache import is_complete, key_of
from xlt.splits.encode_workers import Pool
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.encoding import encode_split
from xlt.splits.reading import read_examples, without_images
from xlt.splits.user_code import user_code
from xlt.tasks import load

log = logging.getLogger(__name__)


class Splits:
    """Opens the encoded splits of tasks, and encodes those that the cache lacks.

    Args:
        roots: Data roots.
        cache: Folder of encoded rows.
        text: The tokenizer and its limits.
        pool: Processes to encode with. If None, a large split starts its own.
        is_blind: True to leave out all images.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        cache: Path,
        text: TextEncoder,
        pool: Pool | None = None,
        is_blind: bool = False,
    ) -> None:
        self._roots, self.cache, self.text, self._pool = roots, cache, text, pool
        self._is_blind = is_blind
        self._identities: dict[tuple[str, bool, Split], list[int | str]] = {}

    def raw_splits(self, task: Task[Any], split: Split) -> list[RawSplit]:
        """Return the task's own rows of a split, not encoded, one raw split for each file.

        Raises:
            FileNotFoundError: The rows cannot be found.
            ValueError: A file is damaged.
        """
        found = [raw for source in task.sources for raw in source.open(split, self._roots, task.language)]
        if self._is_blind and task.imagery() is not None:
            return [replace(raw, fingerprint=f"{raw.fingerprint} blind", is_blind=True) for raw in found]
        return found

    def open(
        self,
        task: Task[Any],
        split: Split,
        raw_splits: Sequence[RawSplit] | None = None,
        reason: str = "",
    ) -> EncodedSplit:
        """Return the rows of a split, encoded.

        Args:
            task: The task.
            split: The split.
            raw_splits: The rows, such as perturbed rows. If None, the task's own rows of the split.
            reason: Name of the task that needs the rows, for the log. Defaults to the task itself.

        Raises:
            FileNotFoundError: The rows cannot be found.
            ValueError: A file or a row cannot be read.
        """
        raw_splits = self.raw_splits(task, split) if raw_splits is None else raw_splits
        folder = self.folder(task, split, raw_splits)
        encoded = encode_split(task, raw_splits, self.text, folder, self._pool, reason)
        encoded.identify = partial(self.identities, task, split)
        return encoded

    def folder(self, task: Task[Any], split: Split, raw_splits: Sequence[RawSplit]) -> Path:
        """Return the folder of the encoded rows, whose name depends on everything that the rows depend on."""
        key = key_of(task, raw_splits, self.text, user_code(task, task.module))
        return self.cache / f"{task.name.replace('/', '-')}-{split}-{key}"

    def is_encoded(self, task: Task[Any], split: Split, raw_splits: Sequence[RawSplit]) -> bool:
        """Return True if the cache holds the rows, encoded."""
        return is_complete(self.folder(task, split, raw_splits))

    def for_training(self, task: Task[Any], split: Split) -> EncodedSplit:
        """Return the rows that training, or its validation, uses for a task.

        These are the rows of another task if `trains_on` or `validates_on` names one.

        Raises:
            FileNotFoundError: The rows cannot be found.
            ValueError: A file or a row cannot be read, no row has a label, or the other task has other
                classes.
        """
        reader = reader_of(task, split)
        encoded = self.open(reader, split, reason="" if reader is task else task.name)
        if reader is task:
            return encoded
        encoded.identify = partial(self.identities, replace(reader, is_parallel=task.is_parallel), split)
        if task.labels and tuple(encoded.meta.labels) != tuple(task.labels):
            raise ValueError(
                f"task {task.name} reads the rows of {reader.name}, whose classes are {encoded.meta.labels}, "
                f"not {list(task.labels)}: give both tasks the same labels, in the same order"
            )
        return encoded

    def identities(self, task: Task[Any], split: Split) -> list[int | str]:
        """Return an identity for each labelled example of a split that all languages of the task share.

        The identity is the number of the example's translation in the pivot language. If the pivot lacks the
        translation, it is the example's id. If no translations are known, it is the example's own number.
        Numbers count rows without a label, too.

        Raises:
            ValueError: A row cannot be read.
        """
        key = task.name, task.is_parallel, split
        if key not in self._identities:
            self._identities[key] = self._identify(task, split)
        return self._identities[key]

    def _identify(self, task: Task[Any], split: Split) -> list[int | str]:
        """Return the identities by the rows of the task and of the languages before it."""
        own = without_images(read_examples(task, self.raw_splits(task, split)))
        found = self._numbered(task, split, own)
        return [i for i, example in zip(found, own, strict=True) if task.is_labelled(example)]

    def _numbered(self, task: Task[Any], split: Split, own: Sequence[Any]) -> list[int | str]:
        """Return the identities of all rows, by the first pivot language that has their translations."""
        reasons: list[str] = []
        if task.is_parallel or any(example.id for example in own):
            for pivot, raw_splits in self.pivots(task, split):
                theirs = without_images(read_examples(pivot, raw_splits))
                try:
                    indices = _indices(task, own, theirs)
                except (TypeError, ValueError) as error:
                    reasons.append(str(error))
                    continue
                numbers = self._numbered(pivot, split, theirs)
                names = [f"{key or task.language}#{number}" for key, number in occurrences(own)]
                return [numbers[i] if i >= 0 else name for i, name in zip(indices, names, strict=True)]
        if reasons:
            because = "a volume takes its rows by their numbers, not by translation"
            log.info("%s: %s: %s", task.name, because, reasons[0])
        return list(range(len(own)))

    def pivots(self, task: Task[Any], split: Split) -> Iterator[tuple[Task[Any], list[RawSplit]]]:
        """Yield the languages that may identify a task's rows, with their raw splits, English first.

        They are the languages of the task that come before its own language.
        """
        for language in sorted(task.languages or (ENGLISH,), key=lambda code: code != ENGLISH):
            if language == (task.language or ENGLISH):
                return
            other = replace(task, name=f"{task.group}/{language}" if task.languages else task.group)
            try:
                yield other, self.raw_splits(other, split)
            except FileNotFoundError:
                continue


def reader_of(task: Task[Any], split: Split) -> Task[Any]:
    """Return the task whose rows a run reads as a split of a task: mnli for the training rows of xnli.

    Args:
        task: The task. If its classes are open, those that its training rows have settled.
        split: The split.
    """
    other = task.rows_of(split)
    if not other:
        return task
    reader = load(other + task.name.removeprefix(task.group))
    return reader.settled(task.labels)


def _indices(task: Task[Any], own: Sequence[Any], pivot: Sequence[Any]) -> list[int]:
    """Return the index of each example's translation in the pivot, or -1 if it has none.

    Raises:
        ValueError: The translations cannot be determined.
    """
    if task.is_parallel:
        return translations(own, pivot).tolist()
    indices = by_id(own, pivot)
    return indices.tolist() if (indices >= 0).any() else list(range(len(own)))


def with_labels(task: Task[Any], encoded: EncodedSplit) -> Task[Any]:
    """Return the task with the labels that its training rows have settled."""
    return task.settled(encoded.meta.labels)

"""Answers to test examples, with the English translation of each example, by which they are compared."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xlt.data.multilingual import ENGLISH
from xlt.data.parallel import translations
from xlt.data.sources import Split
from xlt.evaluation.plan import Cell
from xlt.evaluation.robustness import Answers
from xlt.evaluation.scores import ScoreFolder
from xlt.kinds.task import Task
from xlt.splits.reading import read_examples, without_images
from xlt.splits.splits import Splits

log = logging.getLogger(__name__)


class EnglishNumbers:
    """Numbers of the English translations of test examples.

    Args:
        splits: Opens the rows.
    """

    def __init__(self, splits: Splits) -> None:
        self._splits = splits
        self._english: dict[tuple[str, Split], list[Any]] = {}

    def of(self, task: Task[Any], split: Split) -> np.ndarray:
        """Return the row number of the English translation of each labelled example; -1 if it is unknown.

        Args:
            task: The task in a language. Its examples are translations of the English ones.
            split: The split.
        """
        own = self._read(task, split)
        numbers = np.arange(len(own))
        if task.language != ENGLISH:
            try:
                numbers = translations(own, self._in_english(task, split))
            except (FileNotFoundError, TypeError, ValueError) as error:
                log.info("%s: the consistency with English is unknown: %s", task.name, error)
                numbers = np.full(len(own), -1)
        return numbers[[task.is_labelled(example) for example in own]]

    def _in_english(self, task: Task[Any], split: Split) -> list[Any]:
        """Return the English examples, which all languages share."""
        key = task.group, split
        if key not in self._english:
            self._english[key] = self._read(replace(task, name=f"{task.group}/{ENGLISH}"), split)
        return self._english[key]

    def _read(self, task: Task[Any], split: Split) -> list[Any]:
        """Return all examples of a split."""
        return without_images(read_examples(task, self._splits.raw_splits(task, split)))


def _has_answers(cell: Cell) -> bool:
    """Return True if a cell's predictions are classes of unperturbed translations of English examples."""
    has_classes = type(cell.task).predicted_classes is not Task.predicted_classes
    return has_classes and cell.task.is_parallel and not cell.perturbation


def read_answers(cells: Sequence[Cell], folder: ScoreFolder) -> Answers:
    """Return the answers of finished cells, by task and language. Cells without answers are logged.

    Args:
        cells: Cells of the evaluation.
        folder: The evaluation's folder.

    Raises:
        ValueError: A file is damaged.
    """
    wanted = [cell for cell in cells if _has_answers(cell) and folder.is_finished(cell)]
    found = {(cell.task.group, cell.language): folder.answers(cell) for cell in wanted}
    lacking = [cell.name for cell in wanted if found[cell.task.group, cell.language] is None]
    if lacking:
        log.info(
            "%s: scored by an older version, which kept no answers, so the consistency with English is "
            "unknown. Delete these files in scores/ to score them again",
            ", ".join(f"{name}.json" for name in lacking),
        )
    return {key: answers for key, answers in found.items() if answers is not None}

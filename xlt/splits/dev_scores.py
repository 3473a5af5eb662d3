"""Scores of a run's tasks on their dev rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xlt.batch.predictions import PredictionBuffer
from xlt.kinds.task import Scores, Task, scores_of
from xlt.splits.encoded_split import EncodedSplit


class DevScores:
    """Scores of predictions for dev rows. References are read once a task."""

    def __init__(self) -> None:
        self._references: dict[str, list[Any]] = {}

    def score(
        self, task: Task[Any], encoded: EncodedSplit, parts: Sequence[Mapping[str, np.ndarray]]
    ) -> Scores:
        """Score a task.

        Args:
            task: The task.
            encoded: Its dev rows.
            parts: The head's predictions of each batch, in any order, with the numbers of the batch's `rows`.
        """
        if task.name not in self._references:
            self._references[task.name] = encoded.references()
        rows = np.sort(np.concatenate([part["rows"] for part in parts]))
        buffer = PredictionBuffer(rows)
        for part in parts:
            buffer.add(part["rows"], {key: value for key, value in part.items() if key != "rows"})
        return scores_of(task, buffer.predictions(encoded.features, self._references[task.name]))

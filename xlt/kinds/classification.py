"""Classification: one class for a text or a pair of texts, and the variant that XTREME scores.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlt.data.class_names import is_missing
from xlt.data.encode import TextEncoder
from xlt.data.examples import UNLABELLED, TextPair
from xlt.data.features import Columns, Features
from xlt.kinds.task import (
    Outputs,
    Scores,
    Submission,
    Task,
    one_per_line,
    predictions_of,
    sequence_columns,
    targets_of,
)
from xlt.metrics.classification import accuracy, majority, positive_f1
from xlt.models.heads.classification import ClassificationHead
from xlt.models.heads.head import Head


@dataclass(frozen=True, kw_only=True)
class Classification(Task[TextPair]):
    """One class for a text or a pair of texts: accuracy.

    Args:
        labels: Names of the classes, in the order of their indices.
        f1: Also score F1 of class 1, as QQP does.
        single_text: True if the examples are single texts, whose `second` is None.
    """

    labels: tuple[str, ...] = ()
    f1: bool = False
    single_text: bool = False

    def by_name(self, example: TextPair) -> TextPair:
        """Return the example with the index of its label, so that examples of two files can be compared."""
        example = super().by_name(example)
        index = self._index(example)
        return example if example.label == index else replace(example, label=index)

    def classes(self, example: TextPair) -> Sequence[str]:
        """Return the label's name."""
        return [self.labels[self._index(example)]]

    def check(self, example: TextPair) -> None:
        """Refuse a label that is no class, a pair without its second text, and a single text with one."""
        if example.second is None and not self.single_text:
            raise ValueError(
                "second must be text, not None: an empty second text is ''. A task of single texts says "
                "single_text=True"
            )
        if example.second is not None and self.single_text:
            raise ValueError(f"second must be None, not {example.second!r}: the task says single_text=True")
        self._index(example)

    def is_labelled(self, example: TextPair) -> bool:
        """Return True if the example has a label."""
        return self._index(example) != UNLABELLED

    def _index(self, example: TextPair) -> int:
        """Return the index of the label; -1 if there is none.

        Raises:
            ValueError: The label is no class.
        """
        label = example.label
        if label in self.labels:
            return self.labels.index(str(label))
        if is_missing(label) or label == "-":  # as SNLI's files say that the annotators did not agree
            return UNLABELLED
        if isinstance(label, int) and 0 <= label < len(self.labels):
            return label
        names = ", ".join(f"{i} {name}" for i, name in enumerate(self.labels))
        raise ValueError(f"label {label!r} is none of: {names} (null, -1 or an empty text if there is none)")

    def encode(self, examples: Sequence[TextPair], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """One sequence a row; `targets` holds the class."""
        encoded = text.pairs([(example.first, example.second) for example in examples])
        targets = [[self._index(example)] for example in examples]
        columns = sequence_columns(encoded, 1, first) | {"targets": targets}
        return columns, sum(piece.is_cut for piece in encoded)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh classification head."""
        return ClassificationHead(hidden_size, len(self.labels), dropout)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Accuracy, and F1 where the task asks for it."""
        targets, predictions = targets_of(features, rows), predictions_of(outputs)
        return Scores(self._metrics(predictions, targets), self._chance(targets), {})

    def _metrics(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        scores = {"accuracy": accuracy(predictions, targets)}
        return scores | ({"f1": positive_f1(predictions, targets)} if self.f1 else {})

    def _chance(self, targets: Tensor) -> dict[str, float]:
        """The majority class's accuracy; F1 of answering 1 everywhere."""
        scores = {"accuracy": accuracy(majority(targets), targets)}
        return scores | ({"f1": positive_f1(torch.ones_like(targets), targets)} if self.f1 else {})


@dataclass(frozen=True, kw_only=True)
class XtremeClassification(Classification):
    """One class for a pair of texts: accuracy."""

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """Names of the classes, one a line."""
        targets = features.gather("targets", rows)[0]
        found, gold = ([self.labels[i] for i in part] for part in (outputs["prediction"], targets))
        return Submission(one_per_line(found), one_per_line(gold))

    def example_scores(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """100 where the class is right, else 0."""
        return 100.0 * (np.hstack(outputs["prediction"]) == features.gather("targets", rows)[0])

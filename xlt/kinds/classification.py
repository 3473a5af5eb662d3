"""Classification: one class for a text or a pair of texts, and the variant that XTREME scores.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from xlt.batch.predictions import Predictions
from xlt.data.class_names import is_missing
from xlt.data.encode import TextEncoder
from xlt.data.examples import UNLABELLED, TextPair
from xlt.data.features import Columns
from xlt.kinds.columns import one_per_line, sequence_columns
from xlt.kinds.outcome import Outcome, outcome_of
from xlt.kinds.task import Scores, Submission, Task
from xlt.metrics.classification import accuracy, majority, positive_f1
from xlt.metrics.collapse import collapse_details
from xlt.models.heads.classification import ClassificationHead
from xlt.models.heads.head import Head


@dataclass(frozen=True, kw_only=True)
class Classification(Task[TextPair]):
    """One class for a text or a pair of texts, scored by accuracy.

    Args:
        labels: Names of the classes, in the order of their indices.
        f1: Also score F1 of class 1, as QQP does.
        single_text: True if the examples are single texts, whose `second` is None.
    """

    labels: tuple[str, ...] = ()
    f1: bool = False
    single_text: bool = False

    exported: ClassVar[tuple[str, ...]] = ("single_text",)

    def by_name(self, example: TextPair) -> TextPair:
        """Return the example with the index of its label, so that examples of two files can be compared."""
        example = super().by_name(example)
        index = self._index(example)
        return example if example.label == index else replace(example, label=index)

    def classes(self, example: TextPair) -> Sequence[str]:
        """Return the label's name."""
        return [self.labels[self._index(example)]]

    def check(self, example: TextPair) -> None:
        """Raise ValueError for an unknown label, a pair without `second`, and a single text with `second`."""
        if example.second is None and not self.single_text:
            raise ValueError(
                "second must be text, not None. Give '' for an empty second text, or set single_text=True in "
                "the TASK for single texts"
            )
        if example.second is not None and self.single_text:
            raise ValueError(
                f"second must be None, not {example.second!r}: the TASK sets single_text=True. Return None "
                "from read, or drop single_text"
            )
        self._index(example)

    def is_labelled(self, example: TextPair) -> bool:
        """Return True if the example has a label."""
        return self._index(example) != UNLABELLED

    def _index(self, example: TextPair) -> int:
        """Return the index of the label, or -1 for an example without a label.

        Raises:
            ValueError: The label is not a class of the task.
        """
        label = example.label
        if label in self.labels:
            return self.labels.index(str(label))
        if is_missing(label) or label == "-":  # SNLI's mark for examples whose annotators disagree
            return UNLABELLED
        if isinstance(label, int) and 0 <= label < len(self.labels):
            return label
        if not self.labels:
            raise ValueError("the TASK names no classes. Set labels in its file, such as labels=('A', 'B')")
        names = ", ".join(f"{i} {name}" for i, name in enumerate(self.labels))
        digits = isinstance(label, str) and label.isdecimal()
        raise ValueError(
            f"label {label!r} is not one of: {names}. Give null, -1 or an empty text for an example "
            f"without a label{', and int(...) for the number of a class' if digits else ''}"
        )

    def encode(self, examples: Sequence[TextPair], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each example as a row of one sequence. Column `targets` holds the class."""
        encoded = text.pairs([(example.first, example.second) for example in examples])
        targets = [[self._index(example)] for example in examples]
        columns = sequence_columns(encoded, 1, first) | {"targets": targets}
        return columns, sum(piece.is_cut for piece in encoded)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a new classification head."""
        return ClassificationHead(hidden_size, len(self.labels), dropout)

    def score(self, predictions: Predictions) -> Scores:
        """Return accuracy, and F1 if the task asks for it. Chance is the majority class, for F1 class 1."""
        targets = predictions.targets
        chance = self._metrics(majority(targets), torch.ones_like(targets), targets)
        classes = predictions.classes
        details = collapse_details(classes.tolist(), targets.tolist())
        return Scores(self._metrics(classes, classes, targets), chance, details)

    def predicted_classes(self, predictions: Predictions) -> np.ndarray:
        """Return the index of each example's predicted class."""
        return predictions.classes.numpy()

    def example_scores(self, predictions: Predictions) -> np.ndarray | None:
        """Return 100 for each correct class, else 0; None if the task scores F1, which has no such parts."""
        return None if self.f1 else 100.0 * (predictions.classes == predictions.targets).numpy()

    def outcomes(self, predictions: Predictions, examples: Iterable[TextPair]) -> Iterator[Outcome]:
        """Yield the name of each example's predicted class, with the name of its label."""
        for i, (example, place) in enumerate(zip(examples, predictions.classes.tolist(), strict=True)):
            gold = self.classes(example)[0] if self.is_labelled(example) else None
            name = self.labels[place]
            yield outcome_of(predictions.outputs, i, self.labels, name, gold, 100.0 * (name == gold))

    def _metrics(self, for_accuracy: Tensor, for_f1: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the metrics, each of its own predictions."""
        scores = {"accuracy": accuracy(for_accuracy, targets)}
        return scores | ({"f1": positive_f1(for_f1, targets)} if self.f1 else {})


@dataclass(frozen=True, kw_only=True)
class XtremeClassification(Classification):
    """One class for a pair of texts, with the files that XTREME's evaluator reads."""

    def submission(self, predictions: Predictions) -> Submission:
        """Return the names of the predicted and of the gold classes, one per line."""
        predicted, gold = (
            one_per_line([self.labels[i] for i in classes])
            for classes in (predictions.classes.tolist(), predictions.targets.tolist())
        )
        return Submission(predicted, gold)

"""Multiple choice: one of several continuations or answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlt.data.encode import TextEncoder
from xlt.data.examples import UNLABELLED, Choices
from xlt.data.features import Columns, Features
from xlt.kinds.task import Outputs, Scores, Task, predictions_of, sequence_columns, targets_of
from xlt.metrics.classification import accuracy, majority
from xlt.models.heads.classification import ChoiceHead
from xlt.models.heads.head import Head


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Task[Choices]):
    """One of several continuations or answers: accuracy.

    Args:
        num_choices: Choices of every row.
    """

    num_choices: int

    def check(self, example: Choices) -> None:
        """Refuse a label that is no choice, and another number of choices."""
        if len(example.choices) != self.num_choices:
            raise ValueError(f"{len(example.choices)} choices, not {self.num_choices}")
        if not UNLABELLED <= example.label < self.num_choices:
            raise ValueError(
                f"label {example.label} is not 0 to {self.num_choices - 1} "
                "(null, -1 or an empty text if there is none)"
            )

    def is_labelled(self, example: Choices) -> bool:
        """Return True if the example has a label."""
        return example.label != UNLABELLED

    def encode(self, examples: Sequence[Choices], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """As many sequences a row as choices; `targets` holds the right one."""
        encoded = text.pairs([(e.context, choice) for e in examples for choice in e.choices])
        columns = sequence_columns(encoded, self.num_choices, first)
        cut = {i // self.num_choices for i, piece in enumerate(encoded) if piece.is_cut}
        return columns | {"targets": [[example.label] for example in examples]}, len(cut)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh multiple-choice head."""
        return ChoiceHead(hidden_size, self.num_choices, dropout)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Accuracy."""
        targets = targets_of(features, rows)
        return Scores(
            {"accuracy": accuracy(predictions_of(outputs), targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {},
        )

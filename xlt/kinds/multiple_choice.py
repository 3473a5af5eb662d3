"""Multiple choice: one of several continuations or answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder
from xlt.data.examples import UNLABELLED, Choices
from xlt.data.features import Columns
from xlt.kinds.columns import sequence_columns
from xlt.kinds.outcome import Outcome, outcome_of
from xlt.kinds.task import Scores, Task
from xlt.metrics.classification import accuracy, majority
from xlt.metrics.collapse import COLLAPSED, CONSTANT_SHARE, collapse_details
from xlt.models.heads.classification import ChoiceHead
from xlt.models.heads.head import Head
from xlt.system.checks import require

EQUAL_SCORES = 1e-3
"""Range of the logits of a row's choices, below which the model does not tell the choices apart."""


def choice_collapse_details(predictions: Predictions, references: Sequence[int]) -> dict[str, float]:
    """Return the details of a score that tell a collapsed model.

    The best choice varies even if an encoder gives every text the same state: the last bits of equal scores
    decide. So the scores themselves are looked at.

    Args:
        predictions: The predictions, with the range of the scores of each row's choices.
        references: The correct choice of each row.
    """
    details = collapse_details(predictions.classes.tolist(), references)
    share = (
        float((np.asarray(predictions.outputs["spread"]) < EQUAL_SCORES).mean()) if len(references) else 0.0
    )
    return {COLLAPSED: 1.0, CONSTANT_SHARE: 100 * share} if details and share > 0.5 else details


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Task[Choices]):
    """One of several continuations or answers, scored by accuracy.

    Args:
        num_choices: Number of choices of every row.
    """

    num_choices: int

    exported: ClassVar[tuple[str, ...]] = ("num_choices",)

    def __post_init__(self) -> None:
        """Raise ValueError for a task without a choice."""
        require(self.num_choices >= 2, "num_choices", self.num_choices, "be at least 2")

    def check(self, example: Choices) -> None:
        """Raise ValueError for a wrong number of choices, and for a label that is not a choice."""
        if len(example.choices) != self.num_choices:
            raise ValueError(f"{len(example.choices)} choices, not {self.num_choices}")
        if not UNLABELLED <= example.label < self.num_choices:
            raise ValueError(
                f"label {example.label} is not 0 to {self.num_choices - 1}. Give null, -1 or an empty text "
                "for an example without a label"
            )

    def is_labelled(self, example: Choices) -> bool:
        """Return True if the example has a label."""
        return example.label != UNLABELLED

    def encode(self, examples: Sequence[Choices], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each example as a row with a sequence for each choice. `targets` is the correct choice."""
        encoded = text.pairs([(e.context, choice) for e in examples for choice in e.choices])
        columns = sequence_columns(encoded, self.num_choices, first)
        cut = {i // self.num_choices for i, piece in enumerate(encoded) if piece.is_cut}
        return columns | {"targets": [[example.label] for example in examples]}, len(cut)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a new multiple-choice head."""
        return ChoiceHead(hidden_size, self.num_choices, dropout)

    def score(self, predictions: Predictions) -> Scores:
        """Return accuracy. Chance is the majority choice."""
        targets = predictions.targets
        return Scores(
            {"accuracy": accuracy(predictions.classes, targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            choice_collapse_details(predictions, targets.tolist()),
        )

    def example_scores(self, predictions: Predictions) -> np.ndarray:
        """Return 100 for each correct choice, else 0."""
        return 100.0 * (predictions.classes == predictions.targets).numpy()

    def predicted_classes(self, predictions: Predictions) -> np.ndarray:
        """Return the index of each example's predicted choice."""
        return predictions.classes.numpy()

    def outcomes(self, predictions: Predictions, examples: Iterable[Choices]) -> Iterator[Outcome]:
        """Yield the index of each example's predicted choice, from 0, with the choice's text."""
        names = [str(i) for i in range(self.num_choices)]
        for i, (example, place) in enumerate(zip(examples, predictions.classes.tolist(), strict=True)):
            gold = example.label if self.is_labelled(example) else None
            score, text = 100.0 * (place == gold), example.choices[place]
            yield outcome_of(predictions.outputs, i, names, place, gold, score, prediction_text=text)

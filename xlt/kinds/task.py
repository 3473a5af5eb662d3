"""Task: what is learned, and the hooks through which its kind encodes, heads and scores it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from xlt.data.class_names import by_name
from xlt.data.encode import Pair, TextEncoder
from xlt.data.features import Columns, Features
from xlt.data.sampling.masking import Masking
from xlt.data.sources import Row, Source, Split
from xlt.models.heads.head import Head

Outputs = Mapping[str, Sequence[np.ndarray]]
"""What the head predicted: name to one array a row."""

E = TypeVar("E")


class Scores(NamedTuple):
    """A task's metrics in percent, the same metrics of knowing nothing, and other figures."""

    metrics: dict[str, float]
    chance: dict[str, float]
    details: dict[str, float]

    @property
    def mean(self) -> float:
        """The task's score: the mean of its metrics, as GLUE takes it (Wang et al. 2019)."""
        return sum(self.metrics.values()) / len(self.metrics)


class Submission(NamedTuple):
    """Texts of two files that XTREME's evaluator compares (Hu et al. 2020)."""

    predictions: str
    gold: str
    suffix: str = "tsv"
    note: str = ""
    """A remark on the files for the user."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC, Generic[E]):
    """What is learned: rows, how to read them, and all that its kind derives from that.

    Args:
        source: Where the rows come from; several are read one after the other.
        read: Pure function from a row to an example.
        labels: Names of the classes; empty where the kind has none.
        licence: The data's terms.
        citation: The paper and where to find it.
        head_name: Name of the task whose head it uses; `trains_on`'s, or its own, where not given.
        trains_on: Name of the task whose training rows and head it uses; its own where not given.
        validates_on: Name of the task whose validation rows are looked at in training, likewise.
        languages: Languages that it is evaluated in, by their ISO 639-1 codes; none for a task in English.
        only_test: Whether there is one set to evaluate on, which then is the development set as well.
        is_parallel: Whether its examples in each language are translations of those in English.
        module: Name of the module that holds the task, given when it is loaded.
        name: Given by the task's file; `<task>/<language>` where the rows are of one language of several.
    """

    source: Source | tuple[Source, ...]
    read: Callable[[Row], E]
    labels: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    head_name: str = ""
    trains_on: str = ""
    validates_on: str = ""
    languages: tuple[str, ...] = ()
    only_test: bool = False
    is_parallel: bool = False
    module: str = ""
    name: str = ""

    encoding_version: ClassVar[int] = 1
    """Version of the kind's code that makes rows of examples. A kind raises it when its `encode`, `reference`
    or `by_name` gives other rows for the same examples."""

    inputs: ClassVar[tuple[str, ...]] = ("targets",)
    """Columns that the head takes."""

    needs_training: ClassVar[bool] = True
    """Whether the head has weights, so that a run has to train it."""

    is_plain_text: ClassVar[bool] = False
    """Whether it learns from text without labels, so that no volume of examples counts it."""

    needs_tuning: ClassVar[bool] = False
    """Whether the development set has to be scored before the test set."""

    can_be_perturbed: ClassVar[bool] = True
    """Whether an example stays what it is where its text is noisy."""

    @property
    def group(self) -> str:
        """The task's name without a language: its languages share a head and a share of the mixture."""
        return group_of(self.name)

    @property
    def head_key(self) -> str:
        """The name that the task's head has in the module."""
        return name_of(self.head_name or self.trains_on) or self.group

    @property
    def language(self) -> str:
        """The language after the name's stroke; empty where there is none."""
        return self.name.partition("/")[2]

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources as a tuple."""
        return self.source if isinstance(self.source, tuple) else (self.source,)

    def rows_of(self, split: Split) -> str:
        """Name of the task whose rows training and its validation read; empty for its own."""
        return {"train": self.trains_on, "validation": self.validates_on}.get(split, "")

    def by_name(self, example: E) -> E:
        """Return the example with the classes that its file numbers and names as the task numbers them.

        Raises:
            ClassMismatch: The file's classes are not the task's.
        """
        return by_name(example, self.labels)

    def classes(self, example: E) -> Sequence[str]:
        """Return the names of the example's classes, which must be those that its file names, if it does."""
        return ()

    def check(self, example: E) -> None:
        """Raise ValueError where the example does not fit the task's settings."""

    def is_labelled(self, example: E) -> bool:
        """Whether the example can be trained on and scored."""
        return True

    def with_labels_of(self, examples: Iterable[E]) -> Self:
        """The task with what its labels leave open filled in from the training examples."""
        return self

    @abstractmethod
    def encode(self, examples: Sequence[E], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Columns of the examples' rows, and how many examples lost text to the length limit.

        Args:
            examples: Labelled examples.
            first: Number of the first of them in its split.
            text: The tokenizer and its limits.
        """

    @abstractmethod
    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh head."""

    @abstractmethod
    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Metrics of the rows' predictions.

        Args:
            outputs: What the head predicted for the rows, in their order.
            features: The rows' features.
            rows: Their numbers, ascending.
            references: What `reference` gave for every example of the split.
        """

    def reference(self, example: E) -> Any:
        """What scoring needs of an example beyond its features; plain JSON."""
        return None

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission | None:
        """The rows' predictions and gold answers, as the benchmark's evaluator reads them.

        None for a kind that no benchmark has a file for. Args are those of `score`.
        """
        return None

    def evaluated(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> tuple[Scores, Submission | None]:
        """Scores and submission of the rows; args are those of `score`."""
        given = (outputs, features, rows, references)
        return self.score(*given), self.submission(*given)

    def example_scores(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray | None:
        """What the score is made of, example by example; None where it is made of no examples.

        Shape (R,): each example's score in percent, the mean of its metrics; their mean is the task's score.
        Or shape (R, 3): spans found right, spans predicted and gold spans of each sentence, whose sums a, b
        and c give the score 200 a / (b + c). R examples, in the order of their numbers; args are those of
        `score`.
        """
        return None

    def tuned(self, scores: Scores) -> Self:
        """The task with what the scores of its development set settle for the test set."""
        return self

    def masking(self, text: TextEncoder) -> Masking | None:
        """How tokens are hidden when a batch is made; None where none are."""
        return None


def group_of(name: str) -> str:
    """The task of a name that may have a language: `mlm` of `mlm/sw`."""
    return name.partition("/")[0]


def name_of(name: str) -> str:
    """A task's own name, where the task is named by its module: `scitail/de` of `mylab.scitail/de`."""
    base, stroke, language = name.partition("/")
    return base.rpartition(".")[2] + stroke + language


def sequence_columns(encoded: Sequence[Pair], per_row: int, first: int) -> dict[str, list[list[int]]]:
    """Columns common to rows of `per_row` sequences: ids end to end, lengths, weight, example."""
    rows = [encoded[i : i + per_row] for i in range(0, len(encoded), per_row)]
    return {
        "input_ids": [[token for piece in row for token in piece.ids] for row in rows],
        "lengths": [[len(piece.ids) for piece in row] for row in rows],
        "weight": [[1]] * len(rows),
        "example": [[first + i] for i in range(len(rows))],
    }


def targets_of(features: Features, rows: np.ndarray) -> Tensor:
    """The rows' targets end to end."""
    return torch.from_numpy(features.gather("targets", rows)[0].astype(np.int64))


def predictions_of(outputs: Outputs) -> Tensor:
    """The rows' predictions end to end."""
    return torch.from_numpy(np.hstack(outputs["prediction"]))


def one_per_line(values: Sequence[object]) -> str:
    """The values one a line."""
    return "".join(f"{value}\n" for value in values)

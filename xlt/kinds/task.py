"""Task: a dataset to learn, and the hooks through which its kind encodes, heads and scores it. R rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, get_args, get_origin

import numpy as np

from xlt.batch.predictions import Predictions
from xlt.data.class_names import by_name
from xlt.data.encode import TextEncoder
from xlt.data.features import Columns
from xlt.data.image_store import Imagery
from xlt.data.sampling.masking import Masking
from xlt.data.sources import Row, Source, Split
from xlt.data.teacher import Teaching
from xlt.kinds.outcome import Outcome
from xlt.models.heads.head import Head

E = TypeVar("E")


class Scores(NamedTuple):
    """Scores of a task.

    Args:
        metrics: Metrics by name, in percent.
        chance: The same metrics of a model that knows nothing, in percent.
        details: Other figures by name. `xlt.metrics.collapse` describes `collapsed` and `constant_share`.
    """

    metrics: dict[str, float]
    chance: dict[str, float]
    details: dict[str, float]

    @property
    def mean(self) -> float:
        """The task's score: the mean of its metrics, as in GLUE (Wang et al. 2019)."""
        return sum(self.metrics.values()) / len(self.metrics)


class Submission(NamedTuple):
    """Texts of the two files that XTREME's evaluator compares (Hu et al. 2020).

    Args:
        predictions: The predictions.
        gold: The gold answers.
        suffix: Suffix of both files.
        note: A remark on the files for the user. Defaults to none.
    """

    predictions: str
    gold: str
    suffix: str = "tsv"
    note: str = ""


class TaskResult(NamedTuple):
    """Scores of predictions, and the values that an evaluation keeps beside the scores.

    Args:
        scores: The scores.
        submission: Files for the benchmark's evaluator. None if no benchmark has files for the kind.
        example_scores: Score of each example, see `Task.example_scores`.
        predicted_classes: Class of each example, see `Task.predicted_classes`. Defaults to none.
    """

    scores: Scores
    submission: Submission | None
    example_scores: np.ndarray | None
    predicted_classes: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Task(ABC, Generic[E]):
    """Rows to learn from, a function that reads them, and everything that the task's kind derives from both.

    Args:
        source: The rows. Several sources are read one after the other.
        read: Pure function from a row to an example.
        labels: Names of the classes. Empty for a kind without classes.
        licence: Licence of the data.
        citation: The paper and its URL.
        head_name: Name of the task whose head the task uses. Defaults to `trains_on`, else the task itself.
        trains_on: Name of the task whose training rows and head the task uses. Defaults to the task itself.
        validates_on: Name of the task whose validation rows are scored in training. Defaults to the task
            itself.
        languages: ISO 639-1 codes of the languages to evaluate in. Empty for a task in English only.
        only_test: True if the task has one evaluation set, which is its dev set too.
        is_parallel: True if the examples in each language are translations of the English examples.
        mean_without_english: True if the mean over the languages leaves English out, as IGLUE's does.
        labels_of_rows: True if the labels are those of the training rows. Set when these are known.
        module: Name of the module that holds the task. Set when the task is loaded.
        name: Name of the task's file, or `<task>/<language>` for the rows of one language. Set when the task
            is loaded.
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
    mean_without_english: bool = False
    labels_of_rows: bool = False
    module: str = ""
    name: str = ""

    encoding_version: ClassVar[int] = 1
    """Version of the kind's code that makes rows of examples. A kind raises it when its `encode`, `reference`
    or `by_name` gives other rows for the same examples."""

    inputs: ClassVar[tuple[str, ...]] = ("targets",)
    """Columns that the head reads."""

    needs_training: ClassVar[bool] = True
    """True if the head has weights, so that a run must train it."""

    is_plain_text: ClassVar[bool] = False
    """True if the task learns from text without labels. The volume of examples does not apply then."""

    needs_tuning: ClassVar[bool] = False
    """True if the dev set must be scored before the test set."""

    can_be_perturbed: ClassVar[bool] = True
    """True if noise in the text of an example leaves the gold answer valid."""

    exported: ClassVar[tuple[str, ...]] = ()
    """Names of the settings that `xlt export --head` writes into the config of its model."""

    @property
    def group(self) -> str:
        """The task's name without a language. All languages of a task share a head and a mixture share."""
        return group_of(self.name)

    @property
    def head_key(self) -> str:
        """The key of the task's head in the model."""
        return name_of(self.head_name or self.trains_on) or self.group

    @property
    def language(self) -> str:
        """The language in the task's name, or an empty string."""
        return self.name.partition("/")[2]

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources as a tuple."""
        return self.source if isinstance(self.source, tuple) else (self.source,)

    def rows_of(self, split: Split) -> str:
        """Return the name of the task whose rows a run reads as this split, or "" for the task itself."""
        return {"train": self.trains_on, "validation": self.validates_on}.get(split, "")

    def by_name(self, example: E) -> E:
        """Return the example with its class numbers translated from the file's order to the task's.

        Raises:
            ClassMismatch: The classes of the file are not the classes of the task.
        """
        return by_name(example, self.labels)

    def classes(self, example: E) -> Sequence[str]:
        """Return the names of the example's classes."""
        return ()

    def check(self, example: E) -> None:
        """Raise ValueError if the example does not fit the task's settings."""

    def is_labelled(self, example: E) -> bool:
        """Return True if the example can be trained on and scored."""
        return True

    def settled(self, labels: Iterable[str]) -> Self:
        """Return the task with the labels of its training rows, if the task leaves its labels open."""
        found = tuple(labels)
        return replace(self, labels=found, labels_of_rows=True) if found and not self.labels else self

    def with_labels_of(self, examples: Iterable[E]) -> Self:
        """Return the task with labels taken from the training examples, if the task leaves them open."""
        return self

    @abstractmethod
    def encode(self, examples: Sequence[E], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Return the columns of the examples' rows, and the number of examples that were truncated.

        Args:
            examples: Labelled examples.
            first: Example number of the first of them in its split.
            text: The tokenizer and its limits.
        """

    @abstractmethod
    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a new head.

        Args:
            hidden_size: Width of the encoder.
            dropout: Dropout probability.
        """

    @abstractmethod
    def score(self, predictions: Predictions) -> Scores:
        """Return the metrics of the predictions and of chance, in percent, and other figures."""

    def reference(self, example: E) -> Any:
        """Return the parts of an example that scoring needs and features lack, as plain JSON."""
        return None

    def submission(self, predictions: Predictions) -> Submission | None:
        """Return the files that the benchmark's evaluator compares; None if no benchmark reads any."""
        return None

    def example_scores(self, predictions: Predictions) -> np.ndarray | None:
        """Return the score of each of the E examples, by example number; None if the score has no such parts.

        Shape (E,): the mean of the example's metrics in percent. The mean over examples is the task's score.
        Shape (E, 3): correct, predicted and gold spans of each sentence. Their sums a, b and c give the
        task's score 200 a / (b + c).
        """
        return None

    def predicted_classes(self, predictions: Predictions) -> np.ndarray | None:
        """Return the predicted class of each of the E examples, by example number, shape (E,).

        Return None for a kind whose answers are not classes.
        """
        return None

    def outcomes(self, predictions: Predictions, examples: Iterable[E]) -> Iterator[Outcome] | None:
        """Return the outcome of each example, in order; None if the kind does not predict single examples."""
        return None

    def evaluate(self, predictions: Predictions) -> TaskResult:
        """Return scores, submission, example scores and classes of the predictions."""
        return TaskResult(
            scores_of(self, predictions),
            self.submission(predictions),
            self.example_scores(predictions),
            self.predicted_classes(predictions),
        )

    def tuned(self, scores: Scores) -> Self:
        """Return the task with the settings for the test set that the dev set's scores determine."""
        return self

    def teaching(self) -> Teaching | None:
        """Return the teacher whose sentence vectors the rows get; None if the kind has no teacher."""
        return None

    def imagery(self) -> Imagery | None:
        """Return how the kind reads the images of its examples; None if examples have no images."""
        return None

    def masking(self, text: TextEncoder) -> Masking | None:
        """Return the rule that hides tokens when a batch is made; None if the kind hides none."""
        return None


@cache
def example_class(kind: type[Task[Any]]) -> type:
    """Return the class of a kind's examples, or `object` if the kind does not name it."""
    for base in kind.__mro__:
        for made in getattr(base, "__orig_bases__", ()):
            named = [one for one in get_args(made) if isinstance(one, type)]
            if named and issubclass(get_origin(made) or object, Task):
                return named[0]
    return object


def group_of(name: str) -> str:
    """Return the task of a name that may have a language: `mlm` of `mlm/sw`."""
    return name.partition("/")[0]


def name_of(name: str) -> str:
    """Return the task's own name without its module: `scitail/de` of `mylab.scitail/de`."""
    base, stroke, language = name.partition("/")
    return base.rpartition(".")[2] + stroke + language


def scores_of(task: Task[Any], predictions: Predictions) -> Scores:
    """Return a task's scores.

    Raises:
        ValueError: The kind, which may be a user's own, returned another value.
    """
    scores: Any = task.score(predictions)
    if not isinstance(scores, Scores):
        kind, found = type(task).__name__, type(scores).__name__
        raise ValueError(f"{kind}.score returned a value of type {found}: return xlt.kinds.task.Scores")
    return scores

"""The kinds of labelled tasks: the one table that ties data, head and metric.

A task is a value of a kind. A kind says how examples are encoded (data), which head reads them (models) and
how the head's predictions are scored (metrics). Nothing else asks what kind a task is. The kinds that
learn from plain text are in xlt.pretraining.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from xlt.data.class_names import ClassNumber, is_missing, name_of
from xlt.data.encode import TextEncoder, answer_tokens
from xlt.data.examples import UNLABELLED, Choices, Question, TaggedWords, TextPair, classes_of
from xlt.data.features import Columns, Features
from xlt.metrics.classification import accuracy, majority, positive_f1
from xlt.metrics.squad import best_threshold, f1, squad_scores
from xlt.models.heads import ChoiceHead, ClassificationHead, Head, SpanHead, TaggingHead
from xlt.task import Outputs, Scores, Task, sequence_columns


def _targets(features: Features, rows: np.ndarray) -> Tensor:
    """The rows' targets end to end."""
    return torch.from_numpy(features.gather("targets", rows)[0].astype(np.int64))


def _predictions(outputs: Outputs) -> Tensor:
    """The rows' predictions end to end."""
    return torch.from_numpy(np.hstack(outputs["prediction"]))


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
        targets, predictions = _targets(features, rows), _predictions(outputs)
        return Scores(self._metrics(predictions, targets), self._chance(targets), {})

    def _metrics(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        scores = {"accuracy": accuracy(predictions, targets)}
        return scores | ({"f1": positive_f1(predictions, targets)} if self.f1 else {})

    def _chance(self, targets: Tensor) -> dict[str, float]:
        """The majority class's accuracy; F1 of answering 1 everywhere."""
        scores = {"accuracy": accuracy(majority(targets), targets)}
        return scores | ({"f1": positive_f1(torch.ones_like(targets), targets)} if self.f1 else {})


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
        targets = _targets(features, rows)
        return Scores(
            {"accuracy": accuracy(_predictions(outputs), targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {},
        )


@dataclass(frozen=True, kw_only=True)
class Tagging(Task[TaggedWords]):
    """One tag a word, read off the word's first sub-word: accuracy over words.

    A tag that training has not seen counts as an error, and is counted.

    Args:
        labels: Names of the tags; where empty, the sorted tags of the training split.
    """

    inputs: ClassVar[tuple[str, ...]] = ("targets", "places")

    def with_labels_of(self, examples: Iterable[TaggedWords]) -> Self:
        """The task with the tags of the training examples as labels, unless it names its own."""
        if self.labels:
            return self
        used = (example for example in examples if self.is_labelled(example))
        return replace(self, labels=tuple(sorted({tag for example in used for tag in example.tags})))

    def by_name(self, example: TaggedWords) -> TaggedWords:
        """Return the sentence with tags by name, where its file gives their numbers and names."""
        if not any(isinstance(tag, ClassNumber) for tag in example.tags):
            return example
        if self.labels:
            return replace(example, tags=classes_of(example.tags, self.labels))
        return replace(example, tags=tuple(map(name_of, example.tags)))

    def classes(self, example: TaggedWords) -> Sequence[str]:
        """Return the tags."""
        return example.tags

    def check(self, example: TaggedWords) -> None:
        """Refuse a sentence of which some words have a tag and others none."""
        without = [self._is_untagged(tag) for tag in example.tags]
        if any(without) and not all(without):
            word = example.words[without.index(True)]
            raise ValueError(f"the word {word!r} has no tag, but other words of the sentence have")

    def is_labelled(self, example: TaggedWords) -> bool:
        """Return True if the sentence has words with tags."""
        return bool(example.words) and not all(map(self._is_untagged, example.tags))

    def _is_untagged(self, tag: str) -> bool:
        """Return True for a tag that says that there is none."""
        return is_missing(tag) and tag not in self.labels

    def encode(self, examples: Sequence[TaggedWords], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """A row a sentence; `places` and `targets` hold each word's first token and tag."""
        number = {tag: i for i, tag in enumerate(self.labels)}
        columns: dict[str, list[list[int]]] = {
            name: [] for name in ("input_ids", "lengths", "weight", "example", "places", "targets")
        }
        sentences = text.words([example.words for example in examples])
        for i, (example, sequences) in enumerate(zip(examples, sentences, strict=True)):
            ids = [token for piece, _ in sequences for token in piece]
            lengths = [len(piece) for piece, _ in sequences]
            starts = [sum(lengths[:j]) for j in range(len(lengths))]
            places = [s + p for s, (_, found) in zip(starts, sequences, strict=True) for p in found]
            columns["input_ids"].append(ids)
            columns["lengths"].append(lengths)
            columns["weight"].append([sum(tag in number for tag in example.tags)])
            columns["example"].append([first + i])
            columns["places"].append(places)
            columns["targets"].append([number.get(tag, -1) for tag in example.tags])
        return columns, 0

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh tagging head."""
        return TaggingHead(hidden_size, len(self.labels), dropout)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Accuracy over words, and the number of words whose tag is not a label."""
        targets = _targets(features, rows)
        return Scores(
            {"accuracy": accuracy(_predictions(outputs), targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {"unseen_tags": float((targets < 0).sum())},
        )


@dataclass(frozen=True, kw_only=True)
class SpanExtraction(Task[Question]):
    """An answer's span in a passage, read in overlapping windows: exact match and F1.

    Args:
        null_threshold: How far the score of no answer must exceed the best span's for the answer to be
            empty; infinity where every question has an answer.
        num_best: Spans kept of each window.
        max_answer_length: Most tokens in an answer.
    """

    null_threshold: float = float("inf")
    num_best: int = 20
    max_answer_length: int = 30

    inputs: ClassVar[tuple[str, ...]] = ("targets", "passage")

    def is_labelled(self, example: Question) -> bool:
        """Whether there is an answer, or the task is of those where there may be none.

        An answer without a character is what XTREME's download leaves of the test sets' answers.
        """
        return self.null_threshold < float("inf") or any(answer.strip() for answer in example.answers)

    def encode(self, examples: Sequence[Question], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """A row a window.

        `targets` holds the first and last token of the answer, 0 and 0 where the window lacks it; `passage`
        the first token of the passage and the one after its last; `offsets` the characters of each.
        """
        encoded = text.windows([e.question for e in examples], [e.context for e in examples])
        num_cut = sum(windows[0].is_cut for windows in encoded)
        columns: dict[str, list[list[int]]] = {
            name: []
            for name in (
                "input_ids",
                "lengths",
                "weight",
                "example",
                "targets",
                "passage",
                "offsets",
            )
        }
        for i, (example, windows) in enumerate(zip(examples, encoded, strict=True)):
            for window in windows:
                columns["input_ids"].append(window.ids)
                columns["lengths"].append([len(window.ids)])
                columns["weight"].append([1])
                columns["example"].append([first + i])
                columns["targets"].append(answer_tokens(example, window))
                columns["passage"].append([window.begin, window.begin + len(window.offsets)])
                columns["offsets"].append(window.offsets.ravel().tolist())
        return columns, num_cut

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh span head."""
        return SpanHead(hidden_size, dropout, self.num_best, self.max_answer_length)

    def reference(self, example: Question) -> Any:
        """Id, passage and gold answers."""
        return {"id": example.id, "context": example.context, "answers": list(example.answers)}

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Exact match and F1 at the task's threshold; F1 at the best one where answers may be empty."""
        spans = self._best_spans(outputs, features, rows, references)
        gold = [references[number]["answers"] for number in spans]
        metrics = self._metrics([self._answer(*span) for span in spans.values()], gold)
        chance = self._metrics([""] * len(gold), gold)
        return Scores(metrics, chance, self._tuned(list(spans.values()), gold))

    def answers(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> dict[int, str]:
        """The answer to each question by its number; args are those of `score`."""
        spans = self._best_spans(outputs, features, rows, references)
        return {number: self._answer(*span) for number, span in spans.items()}

    def _answer(self, text: str, gain: float) -> str:
        """The best span's text, or nothing where no answer is likelier by the threshold."""
        return text if gain <= self.null_threshold else ""

    def _metrics(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Exact match and F1."""
        return squad_scores(texts, gold)

    def _best_spans(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> dict[int, tuple[str, float]]:
        """By example: its best span's text over all windows, and the null score less that span's.

        The null score is the smallest over the windows (Devlin et al. 2019, run_squad).
        """
        best: dict[int, tuple[float, str]] = {}
        null: dict[int, float] = {}
        examples = features.gather("example", rows)[0].tolist()
        begins = features.gather("passage", rows)[0][::2].tolist()
        for i, (example, begin) in enumerate(zip(examples, begins, strict=True)):
            offsets = features.gather("offsets", rows[i : i + 1])[0].reshape(-1, 2)
            score = float(outputs["score"][i][0])
            text = ""
            if score > -np.inf:
                start = offsets[outputs["start"][i][0] - begin][0]
                end = offsets[outputs["end"][i][0] - begin][1]
                text = references[example]["context"][start:end].strip()
            if example not in best or score > best[example][0]:
                best[example] = (score, text)
            null[example] = min(null.get(example, np.inf), float(outputs["null"][i]))
        return {e: (text, null[e] - score) for e, (score, text) in best.items()}

    def _tuned(self, spans: Sequence[tuple[str, float]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """F1 at the threshold that is best on these very questions, where answers may be empty."""
        if self.null_threshold == float("inf"):
            return {}
        answered = [f1(text, answers) for (text, _), answers in zip(spans, gold, strict=True)]
        empty = [f1("", answers) for answers in gold]
        gains = [gain for _, gain in spans]
        threshold = best_threshold(gains, answered, empty)
        tuned = [a if g <= threshold else e for a, e, g in zip(answered, empty, gains, strict=True)]
        return {"best_f1": 100 * sum(tuned) / len(tuned), "best_threshold": threshold}

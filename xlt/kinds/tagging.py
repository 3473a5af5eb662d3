"""Tagging: one tag a word, and the variant that XTREME scores by spans.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from xlt.data.class_names import ClassNumber, is_missing, name_of
from xlt.data.encode import TextEncoder
from xlt.data.examples import TaggedWords, classes_of
from xlt.data.features import Columns, Features
from xlt.kinds.task import (
    Outputs,
    Scores,
    Submission,
    Task,
    one_per_line,
    predictions_of,
    targets_of,
)
from xlt.metrics.classification import accuracy, majority
from xlt.metrics.tagging import span_counts, span_f1
from xlt.models.heads.head import Head
from xlt.models.heads.tagging import TaggingHead


@dataclass(frozen=True, kw_only=True)
class Tagging(Task[TaggedWords]):
    """One tag a word, read off the word's first sub-word: accuracy over words.

    A tag that training has not seen counts as an error, and is counted.

    Args:
        labels: Names of the tags; where empty, the sorted tags of the training split.
    """

    inputs: ClassVar[tuple[str, ...]] = ("targets", "token_indices")

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
        """A row a sentence; `token_indices` and `targets` hold each word's first token and tag."""
        number = {tag: i for i, tag in enumerate(self.labels)}
        columns: dict[str, list[list[int]]] = {
            name: [] for name in ("input_ids", "lengths", "weight", "example", "token_indices", "targets")
        }
        sentences = text.words([example.words for example in examples])
        for i, (example, sequences) in enumerate(zip(examples, sentences, strict=True)):
            ids = [token for piece, _ in sequences for token in piece]
            lengths = [len(piece) for piece, _ in sequences]
            starts = [sum(lengths[:j]) for j in range(len(lengths))]
            token_indices = [s + p for s, (_, found) in zip(starts, sequences, strict=True) for p in found]
            columns["input_ids"].append(ids)
            columns["lengths"].append(lengths)
            columns["weight"].append([sum(tag in number for tag in example.tags)])
            columns["example"].append([first + i])
            columns["token_indices"].append(token_indices)
            columns["targets"].append([number.get(tag, -1) for tag in example.tags])
        return columns, 0

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh tagging head."""
        return TaggingHead(hidden_size, len(self.labels), dropout)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Accuracy over words, and the number of words whose tag is not a label."""
        targets = targets_of(features, rows)
        return Scores(
            {"accuracy": accuracy(predictions_of(outputs), targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {"unseen_tags": float((targets < 0).sum())},
        )


@dataclass(frozen=True, kw_only=True)
class XtremeTagging(Tagging):
    """One tag a word: F1 of the spans of like tags, in both tagging tasks."""

    def check(self, example: TaggedWords) -> None:
        """Refuse a tag that is no class."""
        super().check(example)
        unknown = sorted(tag for tag in set(example.tags) - set(self.labels) if not is_missing(tag))
        if unknown:
            raise ValueError(f"tag {unknown[0]!r} is none of: {', '.join(self.labels)}")

    def _tags(self, values: Sequence[np.ndarray]) -> list[list[str]]:
        """Names of the tags of each sentence."""
        return [[self.labels[i] for i in sentence] for sentence in values]

    def _gold(self, features: Features, rows: np.ndarray) -> list[list[str]]:
        """Names of the gold tags of each sentence."""
        targets, counts = features.gather("targets", rows)
        return self._tags(np.split(targets, np.cumsum(counts)[:-1]))

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """F1 of spans; accuracy over words beside it."""
        by_words = super().score(outputs, features, rows, references)
        gold = self._gold(features, rows)
        words = np.concatenate([features.gather("targets", rows)[0]])
        common = self.labels[int(np.bincount(words).argmax())]
        return Scores(
            {"f1": span_f1(self._tags(outputs["prediction"]), gold)},
            {"f1": span_f1([[common] * len(tags) for tags in gold], gold)},
            {"accuracy": by_words.metrics["accuracy"]},
        )

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """Tags one a line, an empty line after each sentence."""
        found, gold = self._tags(outputs["prediction"]), self._gold(features, rows)
        texts = ["".join(one_per_line(tags) + "\n" for tags in part) for part in (found, gold)]
        return Submission(texts[0], texts[1])

    def example_scores(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """Spans found right, predicted, and gold, of each sentence."""
        return span_counts(self._tags(outputs["prediction"]), self._gold(features, rows))

"""Tagging: a tag for each word, and the variant that XTREME scores by spans.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from xlt.batch.predictions import Predictions
from xlt.data.class_names import ClassNumber, is_missing, name_of
from xlt.data.encode import TextEncoder
from xlt.data.examples import TaggedWords, classes_of
from xlt.data.features import Columns
from xlt.kinds.columns import one_per_line
from xlt.kinds.outcome import Outcome, outcome_of
from xlt.kinds.task import Scores, Submission, Task
from xlt.metrics.classification import accuracy, majority
from xlt.metrics.collapse import collapse_details
from xlt.metrics.tagging import span_counts, span_f1
from xlt.models.heads.head import Head
from xlt.models.heads.tagging import TaggingHead


@dataclass(frozen=True, kw_only=True)
class Tagging(Task[TaggedWords]):
    """A tag for each word, read from the word's first token, scored by accuracy over words.

    A gold tag that is not in the training split counts as an error. Detail `unseen_tags` is the number of
    words with such a tag.

    Args:
        labels: Names of the tags. Defaults to the sorted tags of the training split.
    """

    inputs: ClassVar[tuple[str, ...]] = ("targets", "token_indices")

    def with_labels_of(self, examples: Iterable[TaggedWords]) -> Self:
        """Return the task with the tags of the training examples as labels, unless the task has labels."""
        if self.labels:
            return self
        used = (example for example in examples if self.is_labelled(example))
        return self.settled(sorted({tag for example in used for tag in example.tags}))

    def by_name(self, example: TaggedWords) -> TaggedWords:
        """Return the sentence with names of tags instead of the numbers in its file."""
        if not any(isinstance(tag, ClassNumber) for tag in example.tags):
            return example
        if self.labels:
            return replace(example, tags=classes_of(example.tags, self.labels))
        return replace(example, tags=tuple(map(name_of, example.tags)))

    def classes(self, example: TaggedWords) -> Sequence[str]:
        """Return the tags."""
        return example.tags

    def check(self, example: TaggedWords) -> None:
        """Raise ValueError for a tag that the task's file does not name, and for words without a tag.

        All words of a sentence have a tag, or none.
        """
        if self.labels and not self.labels_of_rows:
            self._check_tags(example)
        without = [self._is_untagged(tag) for tag in example.tags]
        if any(without) and not all(without):
            word = example.words[without.index(True)]
            raise ValueError(
                f"the word {word!r} has no tag, but other words of the sentence have. Give all words a tag, "
                "or none of them"
            )

    def _check_tags(self, example: TaggedWords) -> None:
        """Raise ValueError for a tag that is not a label."""
        for word, tag in zip(example.words, example.tags, strict=False):
            if tag not in self.labels and not is_missing(tag):
                raise ValueError(
                    f"the word {word!r} has the tag {tag!r}, not one of: {', '.join(self.labels)}"
                )

    def is_labelled(self, example: TaggedWords) -> bool:
        """Return True if the sentence has words with tags."""
        return bool(example.words) and not all(map(self._is_untagged, example.tags))

    def _is_untagged(self, tag: str) -> bool:
        """Return True for a value that stands for a missing tag."""
        return is_missing(tag) and tag not in self.labels

    def encode(self, examples: Sequence[TaggedWords], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each sentence as a row. Columns hold each word's first token and its tag."""
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
        """Return a new tagging head."""
        return TaggingHead(hidden_size, len(self.labels), dropout)

    def score(self, predictions: Predictions) -> Scores:
        """Return accuracy over words. Detail `unseen_tags` counts the words whose tag is not a label."""
        targets = predictions.targets
        return Scores(
            {"accuracy": accuracy(predictions.classes, targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {"unseen_tags": float((targets < 0).sum())}
            | collapse_details(predictions.classes.tolist(), targets.tolist()),
        )

    def outcomes(self, predictions: Predictions, examples: Iterable[TaggedWords]) -> Iterator[Outcome]:
        """Yield the predicted tags of each sentence, with the gold tags and the probability of each word."""
        found = predictions.outputs["prediction"]
        for i, (example, places) in enumerate(zip(examples, found, strict=True)):
            tags = [self.labels[place] for place in places]
            gold = list(example.tags) if self.is_labelled(example) else None
            score = 0.0 if gold is None else self._sentence_score(tags, gold)
            yield outcome_of(
                predictions.outputs, i, self.labels, tags, gold, score, words=list(example.words)
            )

    def _sentence_score(self, tags: Sequence[str], gold: Sequence[str]) -> float:
        """Return the score of a sentence in percent: its accuracy over words."""
        return 100 * sum(a == b for a, b in zip(tags, gold, strict=True)) / len(gold)


@dataclass(frozen=True, kw_only=True)
class XtremeTagging(Tagging):
    """A tag for each word, scored by F1 of the spans of equal tags, as XTREME scores PAN-X and UDPOS."""

    def check(self, example: TaggedWords) -> None:
        """Raise ValueError for a tag that is not a label."""
        super().check(example)
        self._check_tags(example)

    def _tags(self, predictions: Predictions) -> tuple[list[list[str]], list[list[str]]]:
        """Return the names of each sentence's predicted tags and gold tags."""
        predicted, gold = (
            [[self.labels[i] for i in sentence] for sentence in sentences]
            for sentences in (predictions.outputs["prediction"], predictions.by_row("targets"))
        )
        return predicted, gold

    def score(self, predictions: Predictions) -> Scores:
        """Return F1 of spans. Chance is the most frequent tag; accuracy over words is a detail."""
        predicted, gold = self._tags(predictions)
        common = self.labels[int(np.bincount(predictions.gather("targets")).argmax())]
        words = super().score(predictions)
        details = {name: value for name, value in words.details.items() if name != "unseen_tags"}
        return Scores(
            {"f1": span_f1(predicted, gold)},
            {"f1": span_f1([[common] * len(tags) for tags in gold], gold)},
            words.metrics | details,
        )

    def submission(self, predictions: Predictions) -> Submission:
        """Return the tags, one per line, with an empty line after each sentence."""
        texts = ["".join(one_per_line(tags) + "\n" for tags in part) for part in self._tags(predictions)]
        return Submission(texts[0], texts[1])

    def example_scores(self, predictions: Predictions) -> np.ndarray:
        """Return the numbers of correct, predicted and gold spans of each sentence, shape (sentences, 3)."""
        return span_counts(*self._tags(predictions))

    def _sentence_score(self, tags: Sequence[str], gold: Sequence[str]) -> float:
        """Return F1 of the sentence's spans in percent; without spans, 100 if all tags are right, else 0."""
        right, found, wanted = span_counts([tags], [gold])[0].tolist()
        return 200 * right / (found + wanted) if found + wanted else 100.0 * (list(tags) == list(gold))

"""The kinds of XTREME's tasks: those of xlt.kinds scored as its evaluator does, and two of retrieval.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from xlt.data.class_names import is_missing
from xlt.data.encode import TextEncoder
from xlt.data.examples import Sentence, TaggedWords
from xlt.data.features import Columns, Features
from xlt.data.multilingual import ENGLISH
from xlt.data.parallel import keys_of
from xlt.kinds import Classification, SpanExtraction, Tagging
from xlt.metrics.mining import Pair, best_mining_threshold, mining_scores, ratio_margin_pairs
from xlt.metrics.tagging import span_counts, span_f1
from xlt.metrics.xtreme_qa import (
    MLQA_LANGUAGES,
    mlqa_by_question,
    mlqa_scores,
    squad_v1_by_question,
    squad_v1_scores,
)
from xlt.models.heads import Head
from xlt.models.neighbours import both_ways, nearest
from xlt.models.text_heads import RankingHead
from xlt.pretraining import TranslationRanking
from xlt.task import Outputs, Scores, Submission, Task, sequence_columns

GROUPS = {
    "classification": ("xnli", "pawsx"),
    "tagging": ("udpos", "panx"),
    "question answering": ("xquad", "mlqa", "tydiqa"),
    "retrieval": ("bucc2018", "tatoeba"),
}
"""XTREME's groups, over each of which it averages its tasks' scores."""

NEIGHBOURS = 4
"""Nearest neighbours of the margin's means (Artetxe and Schwenk 2019, section 3.2; XTREME's default)."""


def _lines(values: Sequence[object]) -> str:
    """The values one a line."""
    return "".join(f"{value}\n" for value in values)


@dataclass(frozen=True, kw_only=True)
class XtremeClassification(Classification):
    """One class for a pair of texts: accuracy."""

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """Names of the classes, one a line."""
        targets = features.gather("targets", rows)[0]
        found, gold = ([self.labels[i] for i in part] for part in (outputs["prediction"], targets))
        return Submission(_lines(found), _lines(gold))

    def items(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """100 where the class is right, else 0."""
        return 100.0 * (np.hstack(outputs["prediction"]) == features.gather("targets", rows)[0])


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
        texts = ["".join(_lines(tags) + "\n" for tags in part) for part in (found, gold)]
        return Submission(texts[0], texts[1])

    def items(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """Spans found right, predicted, and gold, of each sentence."""
        return span_counts(self._tags(outputs["prediction"]), self._gold(features, rows))


@dataclass(frozen=True, kw_only=True)
class XtremeQuestions(SpanExtraction):
    """An answer's span in a passage: exact match and F1.

    Args:
        by_language: Whether articles, punctuation and words are the language's own, as in MLQA; English
            rules in every language where not, as XTREME scores XQuAD and TyDiQA.
    """

    by_language: bool = False

    def __post_init__(self) -> None:
        """Refuse a language whose answers cannot be scored."""
        if self.by_language and self.language and self.language not in MLQA_LANGUAGES:
            raise ValueError(
                f"task {self.name}: MLQA has rules for answers in {', '.join(MLQA_LANGUAGES)} alone. Take "
                f"squad_v1/{self.language} or xquad/{self.language}, which share the head"
            )

    def _metrics(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Exact match and F1 by the rules of the benchmark."""
        if self.by_language:
            return mlqa_scores(texts, gold, self.language or ENGLISH)
        return squad_v1_scores(texts, gold)

    def items(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """Mean of exact match and F1 of each question."""
        answers = self.answers(outputs, features, rows, references)
        texts, gold = list(answers.values()), [references[number]["answers"] for number in answers]
        if self.by_language:
            return mlqa_by_question(texts, gold, self.language or ENGLISH).mean(1)
        return squad_v1_by_question(texts, gold).mean(1)

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """A JSON object from each question's id to its answer; gold answers as SQuAD's files hold them."""
        answers = self.answers(outputs, features, rows, references)
        ids = [reference["id"] for reference in references]
        keys = keys_of(ids)
        found = {keys[number]: text for number, text in answers.items()}
        gold = [
            {
                "context": references[number]["context"],
                "qas": [
                    {"id": keys[number], "answers": [{"text": a} for a in references[number]["answers"]]}
                ],
            }
            for number in answers
        ]
        files = (found, {"version": "1.1", "data": [{"title": "", "paragraphs": gold}]})
        texts = [json.dumps(part, ensure_ascii=False, indent=1) + "\n" for part in files]
        unclear = sum(keys[number] != ids[number] for number in answers)
        note = f"{unclear} of {len(gold)} questions have an empty or repeated id: the files number them"
        return Submission(texts[0], texts[1], "json", note if unclear else "")


@dataclass(frozen=True, kw_only=True)
class TranslationRetrieval(TranslationRanking):
    """The foreign sentence that is nearest to each English one: accuracy. Nothing is trained."""

    needs_training: ClassVar[bool] = False

    def _nearest(self, outputs: Outputs) -> np.ndarray:
        """Number of the foreign sentence nearest to each English one, whose own has its number."""
        foreign, english = torch.from_numpy(np.asarray(outputs["vectors"])).float().unbind(1)
        return nearest(english.contiguous(), foreign.contiguous(), 1).indices[:, 0].numpy()

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Share of the English sentences whose translation is the nearest."""
        items = self.items(outputs, features, rows, references)
        return Scores({"accuracy": float(items.mean())}, {"accuracy": 100 / len(rows)}, {})

    def items(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """100 for an English sentence whose translation is the nearest, else 0."""
        return 100.0 * (self._nearest(outputs) == np.arange(len(rows)))

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """The number, from 0, of the foreign sentence for each English one."""
        return Submission(_lines(self._nearest(outputs).tolist()), _lines(range(len(rows))))


@dataclass(frozen=True, kw_only=True)
class BitextMining(Task[Sentence]):
    """The pairs that translate each other among the sentences of two languages: F1. Nothing is trained.

    A pair's score is its cosine by the mean of both sentences' four nearest. The threshold is the best on
    the development set.

    Args:
        threshold: A pair is taken where its score is at least this; tuned on the very pairs where not given.

    Source: Artetxe and Schwenk (2019), https://arxiv.org/abs/1811.01136; Zweigenbaum et al. (2018).
    """

    threshold: float | None = None

    needs_training: ClassVar[bool] = False
    needs_tuning: ClassVar[bool] = True
    can_be_perturbed: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ()

    def is_labelled(self, example: Sentence) -> bool:
        """Whether there is text."""
        return bool(example.text)

    def encode(self, examples: Sequence[Sentence], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """A sentence a row; `side` is 0 for the foreign language, 1 for English."""
        encoded = text.singles([example.text for example in examples])
        columns = sequence_columns(encoded, 1, first) | {"side": [[e.side] for e in examples]}
        return columns, sum(piece.is_cut for piece in encoded)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A head without weights: the mean of each sequence's states."""
        return RankingHead(1.0, 0.0, sides=1)

    def reference(self, example: Sentence) -> Any:
        """Id, gold pairs, and whether it stands once in its text."""
        return [example.id, list(example.pairs), example.copies == 1]

    def _candidates(
        self, outputs: Outputs, features: Features, rows: np.ndarray, used: Sequence[Any]
    ) -> tuple[list[Pair], np.ndarray]:
        """Ids of the pairs matched one to one, and their scores; a sentence that stands twice is in none."""
        vectors = torch.from_numpy(np.asarray(outputs["vectors"])).flatten(1)
        num_foreign = int((features.gather("side", rows)[0] == 0).sum())
        sides = vectors[:num_foreign], vectors[num_foreign:]
        forward, backward = both_ways(*sides, min(NEIGHBOURS, *map(len, sides)))
        found = [part.numpy() for way in (forward, backward) for part in way]
        pairs, scores = ratio_margin_pairs(*found)
        alone = np.array([once for *_, once in used])
        is_sure = alone[pairs[:, 0]] & alone[num_foreign + pairs[:, 1]]
        ids = [(used[a][0], used[num_foreign + b][0]) for a, b in pairs[is_sure].tolist()]
        return ids, scores[is_sure]

    def _mined(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> tuple[set[Pair], set[Pair], float]:
        """The pairs above the threshold, the gold pairs, and the threshold."""
        used = [references[i] for i in features.gather("example", rows)[0]]
        pairs, scores = self._candidates(outputs, features, rows, used)
        gold = {(a, b) for _, golds, _ in used for a, b in [pair.split("\t") for pair in golds]}
        threshold = self.threshold
        if threshold is None:
            threshold = best_mining_threshold(pairs, scores, gold)
        return {pairs[i] for i in np.flatnonzero(scores >= threshold)}, gold, threshold

    def evaluated(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> tuple[Scores, Submission]:
        """F1 of the pairs, precision, recall and the threshold beside it; their ids, a pair a line."""
        found, gold, threshold = self._mined(outputs, features, rows, references)
        scores = mining_scores(found, gold)
        details = {name: value for name, value in scores.items() if name != "f1"}
        lines = [_lines(["\t".join(pair) for pair in sorted(part)]) for part in (found, gold)]
        return (
            Scores({"f1": scores["f1"]}, {"f1": 0.0}, details | {"threshold": threshold}),
            Submission(lines[0], lines[1]),
        )

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """F1 of the pairs."""
        return self.evaluated(outputs, features, rows, references)[0]

    def tuned(self, scores: Scores) -> Self:
        """The task with the threshold of its development set."""
        return replace(self, threshold=scores.details["threshold"])

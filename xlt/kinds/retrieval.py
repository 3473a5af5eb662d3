"""Retrieval: translations ranked in training, and found among sentences of another language in evaluation.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from xlt.data.encode import TextEncoder
from xlt.data.examples import Sentence, Text
from xlt.data.features import Columns, Features
from xlt.kinds.language_modelling import check_translation
from xlt.kinds.task import Outputs, Scores, Submission, Task, one_per_line, sequence_columns
from xlt.metrics.mining import Pair, best_mining_threshold, mining_scores, ratio_margin_pairs
from xlt.metrics.neighbours import both_ways, nearest
from xlt.models.heads.head import Head
from xlt.models.heads.retrieval import RankingHead

TIE = 1e-6
"""Cosines that differ by less are equal: the same sentence may stand twice among the translations."""

NEIGHBOURS = 4
"""Nearest neighbours of the margin's means (Artetxe and Schwenk 2019, section 3.2; XTREME's default)."""


@dataclass(frozen=True, kw_only=True)
class TranslationRanking(Task[Text]):
    """Find each sentence's translation among those of the micro-batch: trains what retrieval tests.

    Args:
        scale: What cosines are multiplied by.
        margin: What is taken off the cosine of a true pair.

    Source: Yang et al. (2019), https://arxiv.org/abs/1902.08564, as in LaBSE (Feng et al. 2022), section 3.1.
    """

    scale: float = 20.0
    margin: float = 0.1

    inputs: ClassVar[tuple[str, ...]] = ()

    is_plain_text: ClassVar[bool] = True

    def check(self, example: Text) -> None:
        """Refuse a text without a translation."""
        check_translation(example)

    def is_labelled(self, example: Text) -> bool:
        """Whether both sides have text."""
        return bool(example.text.strip() and (example.translation or "").strip())

    def encode(self, examples: Sequence[Text], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Two sequences a row: a sentence and its translation."""
        encoded = text.singles([side for e in examples for side in (e.text, e.translation or "")])
        cut = {i // 2 for i, piece in enumerate(encoded) if piece.is_cut}
        return sequence_columns(encoded, 2, first), len(cut)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A head without weights: the mean of each sequence's states."""
        return RankingHead(self.scale, self.margin)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Share of the sentences whose translation is the nearest of all, mean of both directions."""
        vectors = torch.from_numpy(np.stack(outputs["vectors"])).float()
        one, other = vectors[:, 0].contiguous(), vectors[:, 1].contiguous()
        gold = (one * other).sum(-1, keepdim=True)
        found = [
            (gold >= nearest(*sides, 1).scores - TIE).double().mean()
            for sides in ((one, other), (other, one))
        ]
        return Scores({"accuracy": 50 * float(sum(found))}, {"accuracy": 100 / len(rows)}, {})


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
        example_scores = self.example_scores(outputs, features, rows, references)
        return Scores({"accuracy": float(example_scores.mean())}, {"accuracy": 100 / len(rows)}, {})

    def example_scores(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """100 for an English sentence whose translation is the nearest, else 0."""
        return 100.0 * (self._nearest(outputs) == np.arange(len(rows)))

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """The number, from 0, of the foreign sentence for each English one."""
        return Submission(one_per_line(self._nearest(outputs).tolist()), one_per_line(range(len(rows))))


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
        lines = [one_per_line(["\t".join(pair) for pair in sorted(part)]) for part in (found, gold)]
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

"""Retrieval: translations ranked in training, and found among sentences of another language in evaluation.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder
from xlt.data.examples import Sentence, Text
from xlt.data.features import Columns
from xlt.kinds.columns import one_per_line, sequence_columns
from xlt.kinds.language_modelling import check_translation
from xlt.kinds.task import Scores, Submission, Task, TaskResult
from xlt.metrics.collapse import collapse_details
from xlt.metrics.mining import Pair, best_mining_threshold, mining_scores, ratio_margin_pairs
from xlt.metrics.neighbours import both_ways, nearest
from xlt.models.heads.head import Head
from xlt.models.heads.retrieval import RankingHead

TIE = 1e-6
"""Tolerance of equal cosines. The same sentence may occur twice among the translations."""

NEIGHBOURS = 4
"""Number of nearest neighbours in the margin's means.

Source: Artetxe and Schwenk (2019), section 3.2; XTREME's default.
"""


def retrieval_layer(num_layers: int) -> int:
    """Return the layer that retrieval without training reads: two above the middle.

    Args:
        num_layers: Number of layers of the encoder.

    Source: XTREME's scripts for Tatoeba, which read layer 14 of 24.
    """
    return min(num_layers, num_layers // 2 + 2)


@dataclass(frozen=True, kw_only=True)
class TranslationRanking(Task[Text]):
    """Ranking of each sentence's translation among the translations of the micro-batch, to train retrieval.

    Args:
        scale: Factor of the cosines.
        margin: Cosine that is subtracted from the cosine of a true pair.

    Source: Yang et al. (2019), https://arxiv.org/abs/1902.08564, as in LaBSE (Feng et al. 2022), section 3.1.
    """

    scale: float = 20.0
    margin: float = 0.1

    inputs: ClassVar[tuple[str, ...]] = ()

    is_plain_text: ClassVar[bool] = True

    def check(self, example: Text) -> None:
        """Raise ValueError for a text without a translation."""
        check_translation(example)

    def is_labelled(self, example: Text) -> bool:
        """Return True if neither side is blank."""
        return bool(example.text.strip() and (example.translation or "").strip())

    def encode(self, examples: Sequence[Text], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each example as a row of two sequences, a sentence and its translation."""
        encoded = text.singles([side for e in examples for side in (e.text, e.translation or "")])
        cut = {i // 2 for i, piece in enumerate(encoded) if piece.is_cut}
        return sequence_columns(encoded, 2, first), len(cut)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a head without weights, which reads the mean of each sequence's states."""
        return RankingHead(self.scale, self.margin)

    def score(self, predictions: Predictions) -> Scores:
        """Return the share of sentences whose translation is the nearest of all, mean of both directions."""
        vectors = predictions.vectors
        one, other = vectors[:, 0].contiguous(), vectors[:, 1].contiguous()
        gold = (one * other).sum(-1, keepdim=True)
        found = [
            (gold >= nearest(*sides, 1).scores - TIE).double().mean()
            for sides in ((one, other), (other, one))
        ]
        return Scores({"accuracy": 50 * float(sum(found))}, {"accuracy": 100 / len(predictions)}, {})


@dataclass(frozen=True, kw_only=True)
class TranslationRetrieval(TranslationRanking):
    """Search for the foreign sentence nearest to each English sentence, scored by accuracy. No training."""

    needs_training: ClassVar[bool] = False

    def _nearest(self, predictions: Predictions) -> np.ndarray:
        """Return the number of the foreign sentence nearest to each English one; equal numbers are pairs."""
        foreign, english = predictions.vectors.unbind(1)
        return nearest(english.contiguous(), foreign.contiguous(), 1).indices[:, 0].numpy()

    def score(self, predictions: Predictions) -> Scores:
        """Return the share of English sentences whose translation is the nearest."""
        found, gold = self._nearest(predictions), np.arange(len(predictions))
        details = collapse_details(found.tolist(), gold.tolist())
        accuracy = 100 * float((found == gold).mean())
        return Scores({"accuracy": accuracy}, {"accuracy": 100 / len(predictions)}, details)

    def example_scores(self, predictions: Predictions) -> np.ndarray:
        """Return 100 for an English sentence whose translation is the nearest, else 0."""
        return 100.0 * (self._nearest(predictions) == np.arange(len(predictions)))

    def submission(self, predictions: Predictions) -> Submission:
        """Return the number, from 0, of the foreign sentence for each English sentence, one per line."""
        nearest_ones = self._nearest(predictions).tolist()
        return Submission(one_per_line(nearest_ones), one_per_line(range(len(predictions))))


@dataclass(frozen=True, kw_only=True)
class BitextMining(Task[Sentence]):
    """Search for the pairs of translations among sentences of two languages, scored by F1, without training.

    The score of a pair is its cosine divided by the mean cosine of both sentences' four nearest neighbours.
    The threshold is the best one on the dev set.

    Args:
        threshold: Smallest score of a pair that is returned. If None, the threshold is tuned on the scored
            pairs themselves.

    Source: Artetxe and Schwenk (2019), https://arxiv.org/abs/1811.01136; Zweigenbaum et al. (2018).
    """

    threshold: float | None = None

    needs_training: ClassVar[bool] = False
    needs_tuning: ClassVar[bool] = True
    can_be_perturbed: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ()

    def is_labelled(self, example: Sentence) -> bool:
        """Return True if the sentence has text."""
        return bool(example.text)

    def encode(self, examples: Sequence[Sentence], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each sentence as a row. Column `side` is 0 for the foreign language, 1 for English."""
        encoded = text.singles([example.text for example in examples])
        columns = sequence_columns(encoded, 1, first) | {"side": [[e.side] for e in examples]}
        return columns, sum(piece.is_cut for piece in encoded)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a head without weights, which reads the mean of each sequence's states."""
        return RankingHead(1.0, 0.0, sides=1)

    def reference(self, example: Sentence) -> Any:
        """Return the id, the gold pairs, and True if the sentence occurs once in its text."""
        return [example.id, list(example.pairs), example.copies == 1]

    def _candidates(self, predictions: Predictions, used: Sequence[Any]) -> tuple[list[Pair], np.ndarray]:
        """Return the ids of the pairs matched one to one, and their scores.

        A sentence that occurs twice is in no pair.

        Args:
            predictions: Vectors of the sentences, the foreign ones first.
            used: References of the sentences.
        """
        vectors = predictions.vectors.flatten(1)
        num_foreign = int((predictions.gather("side") == 0).sum())
        sides = vectors[:num_foreign], vectors[num_foreign:]
        forward, backward = both_ways(*sides, min(NEIGHBOURS, *map(len, sides)))
        found = [part.numpy() for way in (forward, backward) for part in way]
        pairs, scores = ratio_margin_pairs(*found)
        is_single = np.array([once for *_, once in used])
        is_sure = is_single[pairs[:, 0]] & is_single[num_foreign + pairs[:, 1]]
        ids = [(used[a][0], used[num_foreign + b][0]) for a, b in pairs[is_sure].tolist()]
        return ids, scores[is_sure]

    def _mined(self, predictions: Predictions) -> tuple[set[Pair], set[Pair], float]:
        """Return the pairs above the threshold, the gold pairs, and the threshold."""
        used = [predictions.references[i] for i in predictions.examples]
        pairs, scores = self._candidates(predictions, used)
        gold = {(a, b) for _, golds, _ in used for a, b in [pair.split("\t") for pair in golds]}
        threshold = self.threshold
        if threshold is None:
            threshold = best_mining_threshold(pairs, scores, gold)
        return {pairs[i] for i in np.flatnonzero(scores >= threshold)}, gold, threshold

    def evaluate(self, predictions: Predictions) -> TaskResult:
        """Return F1, its precision, recall and threshold, and the ids of the pairs, one pair per line."""
        found, gold, threshold = self._mined(predictions)
        details = mining_scores(found, gold)
        f1 = details.pop("f1")
        lines = [one_per_line(["\t".join(pair) for pair in sorted(part)]) for part in (found, gold)]
        scores = Scores({"f1": f1}, {"f1": 0.0}, details | {"threshold": threshold})
        return TaskResult(scores, Submission(lines[0], lines[1]), None)

    def score(self, predictions: Predictions) -> Scores:
        """Return F1 of the pairs."""
        return self.evaluate(predictions).scores

    def tuned(self, scores: Scores) -> Self:
        """Return the task with the threshold of its dev set."""
        return replace(self, threshold=scores.details["threshold"])

"""Figures about the errors of a task in a language, from its table of examples.

E examples, P predictions (one per example, or one per word for tags), B bins of confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xlt.data.multilingual import ENGLISH
from xlt.evaluation.example_tables import read_columns

NUM_BINS = 10
"""Number of bins of equal width of the confidence."""

LENGTHS = (16, 32, 64, 128, 256, 512)
"""Upper bounds of the bins of length, in tokens."""

COLUMNS = ("gold", "prediction", "probability", "correct", "score", "tokens", "english")


class Calibration(NamedTuple):
    """Confidence and accuracy of predictions by bins of confidence.

    Args:
        counts: Number of predictions of each bin, shape (B,).
        confidence: Sum of their probabilities, shape (B,).
        correct: Number of right predictions, shape (B,).
    """

    counts: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error in percent: the mean gap of confidence and accuracy, by predictions.

        Source: Guo et al. (2017), https://arxiv.org/abs/1706.04599, equation 3.
        """
        return 100 * float(np.abs(self.confidence - self.correct).sum() / max(1, self.counts.sum()))

    def __add__(self, other: "Calibration") -> "Calibration":  # type: ignore[override]
        """Return the calibration of both sets of predictions together."""
        return Calibration(*(one + two for one, two in zip(self, other, strict=True)))


def calibration(probability: np.ndarray, correct: np.ndarray) -> Calibration:
    """Return the calibration of predictions.

    Args:
        probability: Probability of each prediction, 0 to 1, shape (P,).
        correct: True for the right predictions, shape (P,).
    """
    bins = np.clip(np.ceil(probability * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    weights = (None, probability, correct.astype(float))
    return Calibration(*(np.bincount(bins, weight, NUM_BINS) for weight in weights))


@dataclass(frozen=True)
class LanguageErrors:
    """The examples of a task in a language, without their texts.

    Args:
        language: ISO 639-1 code.
        path: The table of the examples.
        score: Score of each example in percent, shape (E,).
        correct: True for the examples that are right, shape (E,).
        tokens: Number of tokens of each example, shape (E,).
        doubt: Probability of each example's wrong prediction, shape (E,). For tags, the highest probability
            of a wrong tag in the sentence. -1 for right examples.
        english: Row number of each example's English translation, -1 if it is unknown, shape (E,). None if
            the task's languages are not parallel.
        calibration: Confidence and accuracy of the predictions.
        confusion: Number of predictions by gold class and predicted class. Empty if answers are texts.
    """

    language: str
    path: Path
    score: np.ndarray
    correct: np.ndarray
    tokens: np.ndarray
    doubt: np.ndarray
    english: np.ndarray | None
    calibration: Calibration
    confusion: Mapping[tuple[str, str], int]

    def by_length(self) -> list[tuple[float, int]]:
        """Return mean score and number of examples of each bin of LENGTHS, and of longer examples."""
        bins = np.searchsorted(LENGTHS, self.tokens)
        counts = np.bincount(bins, minlength=len(LENGTHS) + 1)
        sums = np.bincount(bins, self.score, len(LENGTHS) + 1)
        return [(s / n if n else 0.0, int(n)) for s, n in zip(sums.tolist(), counts, strict=True)]

    def worst(self, num: int) -> list[tuple[float, int]]:
        """Return probability and row of the most confident errors, most confident first."""
        order = np.argsort(-self.doubt, kind="stable")[:num]
        return [(float(self.doubt[i]), int(i)) for i in order if self.doubt[i] >= 0]


def errors_of(language: str, path: Path) -> LanguageErrors:
    """Return the errors of a task in a language.

    Args:
        language: ISO 639-1 code.
        path: The table of the examples.

    Raises:
        ValueError: The file is damaged.
    """
    table = read_columns(path, COLUMNS)
    found = {name: table[name].combine_chunks() for name in table.column_names}
    gold, prediction, probability = (found[name] for name in ("gold", "prediction", "probability"))
    correct = _numbers(found["correct"]).astype(bool)
    owners, is_right = np.arange(len(correct)), correct
    has_tags = pa.types.is_list(prediction.type)
    if has_tags:
        owners = np.repeat(owners, prediction.value_lengths().to_numpy())
        gold, prediction, probability = (part.flatten() for part in (gold, prediction, probability))
        is_right = np.array(gold.to_pylist(), object) == np.array(prediction.to_pylist(), object)
    values = _numbers(probability).astype(float)
    doubt = np.full(len(correct), -1.0)
    np.maximum.at(doubt, owners[~is_right], values[~is_right])
    confusion = {} if pa.types.is_list(gold.type) else _confusion(gold, prediction)
    return LanguageErrors(
        language=language,
        path=path,
        score=_numbers(found["score"]).astype(float),
        correct=correct,
        tokens=_numbers(found["tokens"]),
        doubt=doubt,
        english=_numbers(found["english"]) if "english" in found else None,
        calibration=calibration(values, is_right),
        confusion=confusion,
    )


def _numbers(array: pa.Array) -> np.ndarray:
    """Return the values of a column."""
    return array.to_numpy(zero_copy_only=False)


def _confusion(gold: pa.Array, prediction: pa.Array) -> dict[tuple[str, str], int]:
    """Return the number of predictions by gold and predicted class."""
    pairs = pa.table({"gold": gold, "prediction": prediction}).group_by(["gold", "prediction"])
    counted = pairs.aggregate([([], "count_all")]).to_pylist()
    return {(str(row["gold"]), str(row["prediction"])): row["count_all"] for row in counted}


class Flips(NamedTuple):
    """Examples of a language that are right where their English translations are wrong, or the reverse.

    Args:
        language: ISO 639-1 code.
        both: Number of examples that are right in both languages.
        neither: Number of examples that are wrong in both languages.
        lost: Rows that are right in English and wrong here, with the rows of their translations.
        gained: Rows that are wrong in English and right here, with the rows of their translations.
    """

    language: str
    both: int
    neither: int
    lost: list[tuple[int, int]]
    gained: list[tuple[int, int]]


def flips(found: Sequence[LanguageErrors]) -> list[Flips]:
    """Return the flips of each language of a task whose examples are translations of the English ones.

    Args:
        found: The errors in all languages. Without English there are no flips.
    """
    english = next((e for e in found if e.language == ENGLISH and e.english is not None), None)
    if english is None or english.english is None:
        return []
    rows = {number: row for row, number in enumerate(english.english.tolist())}
    return [
        _flips(other, english.correct, rows)
        for other in found
        if other is not english and other.english is not None
    ]


def _flips(own: LanguageErrors, english: np.ndarray, rows: Mapping[int, int]) -> Flips:
    """Return the flips of a language."""
    assert own.english is not None
    pairs = [(row, rows[n]) for row, n in enumerate(own.english.tolist()) if n in rows]
    kinds: dict[tuple[bool, bool], list[tuple[int, int]]] = {}
    for row, other in pairs:
        kinds.setdefault((bool(english[other]), bool(own.correct[row])), []).append((row, other))
    # The most confident errors come first.
    lost = sorted(kinds.get((True, False), []), key=lambda pair: -own.doubt[pair[0]])
    both, neither = (len(kinds.get((is_right, is_right), [])) for is_right in (True, False))
    return Flips(own.language, both, neither, lost, kinds.get((False, True), []))


def rows_at(path: Path, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return rows of a table of examples with all columns, in the order of their numbers.

    Args:
        path: The table.
        rows: Numbers of the rows.
    """
    return read_columns(path).take(pa.array(rows, pa.int64())).to_pylist() if rows else []

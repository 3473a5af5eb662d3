"""SQuAD's exact match and F1, and the decoding of answer spans.

Source: the official scripts, Rajpurkar et al. (2016) https://arxiv.org/abs/1606.05250 and (2018)
https://arxiv.org/abs/1806.03822: lower case, no punctuation, no English articles, single spaces; the best
of the gold answers; a question without an answer has the empty gold answer, and then both scores are
agreement.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """The answer as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction equals a gold answer after normalisation, else 0."""
    return max(float(normalize(prediction) == gold) for gold in _gold(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best overlap of words with a gold answer: harmonic mean of precision and recall, 0 to 1."""
    return max(_overlap(normalize(prediction).split(), gold.split()) for gold in _gold(answers))


def _gold(answers: Sequence[str]) -> list[str]:
    """The normalised gold answers that hold a word, or the empty one where none does."""
    return [gold for gold in map(normalize, answers) if gold] or [""]


def _overlap(prediction: list[str], gold: list[str]) -> float:
    """F1 of two bags of words; agreement where either is empty."""
    if not prediction or not gold:
        return float(prediction == gold)
    common = (Counter(prediction) & Counter(gold)).total()
    return 2 * common / (len(prediction) + len(gold))


def squad_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Mean exact match and F1 over the questions, in percent."""
    pairs = list(zip(predictions, answers, strict=True))
    return {
        "exact_match": 100 * sum(exact_match(p, a) for p, a in pairs) / len(pairs),
        "f1": 100 * sum(f1(p, a) for p, a in pairs) / len(pairs),
    }


def best_threshold(
    gains: Sequence[float], has_answer_scores: Sequence[float], no_answer_scores: Sequence[float]
) -> float:
    """The threshold on (null score - best span's score) that gives the best total score.

    A question is answered where its difference is at most the threshold.

    Args:
        gains: Null score minus the best span's score of each question.
        has_answer_scores: The question's score (F1) if its best span is given.
        no_answer_scores: Its score if nothing is given.

    Source: find_best_thresh of SQuAD 2.0's official script.
    """
    order = sorted(range(len(gains)), key=lambda i: gains[i])
    total = best = sum(no_answer_scores)
    threshold = min(filter(math.isfinite, gains), default=1.0) - 1.0
    for place, i in enumerate(order):
        total += has_answer_scores[i] - no_answer_scores[i]
        tied = place + 1 < len(order) and gains[order[place + 1]] == gains[i]
        if total > best and not tied:
            best, threshold = total, gains[i]
    return threshold

"""SQuAD's exact match and F1, and the decoding of answer spans.

Source: the official scripts, Rajpurkar et al. (2016) https://arxiv.org/abs/1606.05250 and (2018)
https://arxiv.org/abs/1806.03822: lower case, no punctuation, no English articles, single spaces. The best
gold answer of a question counts. A question without an answer has the empty gold answer, and both scores are
1 for an empty prediction, else 0.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Return an answer in the normal form that SQuAD compares."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction equals a gold answer after normalisation, else 0."""
    return max(float(normalize(prediction) == gold) for gold in _gold(answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 of the prediction's words against the words of a gold answer, 0 to 1."""
    return max(_overlap(normalize(prediction).split(), gold.split()) for gold in _gold(answers))


def _gold(answers: Sequence[str]) -> list[str]:
    """Return the normalised gold answers that are not empty, or else one empty answer."""
    return [gold for gold in map(normalize, answers) if gold] or [""]


def _overlap(prediction: list[str], gold: list[str]) -> float:
    """Return F1 of two bags of words. If one is empty, return 1 if both are, else 0."""
    if not prediction or not gold:
        return float(prediction == gold)
    common = (Counter(prediction) & Counter(gold)).total()
    return 2 * common / (len(prediction) + len(gold))


def squad_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return mean exact match and F1 over the questions, in percent."""
    pairs = list(zip(predictions, answers, strict=True))
    return {
        "exact_match": 100 * sum(exact_match(p, a) for p, a in pairs) / len(pairs),
        "f1": 100 * sum(f1(p, a) for p, a in pairs) / len(pairs),
    }


def best_threshold(
    gains: Sequence[float], has_answer_scores: Sequence[float], no_answer_scores: Sequence[float]
) -> float:
    """Return the threshold on (null score - best span's score) that gives the best total score.

    A question is answered if its difference is at most the threshold.

    Args:
        gains: Null score minus the best span's score of each question.
        has_answer_scores: Score (F1) of each question for its best span.
        no_answer_scores: Score of each question for an empty answer.

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

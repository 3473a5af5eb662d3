"""Exact match and F1 of XTREME's questions: XQuAD and TyDiQA as SQuAD 1.1, MLQA by language.

Both are in percent, and XTREME reports their means over the questions. The best gold answer of a question
counts. F1 is 0 without common words: an empty prediction has F1 0 even if a gold answer holds no word, though
it is an exact match. XTREME's script gives 0 to a question without a prediction; here every question has a
prediction.

Source: Hu et al. (2020) https://arxiv.org/abs/2003.11080, evaluate.py of github.com/google-research/xtreme,
which calls evaluate-v1.1.py of github.com/allenai/bi-att-flow for XQuAD and TyDiQA in every language, and
mlqa_evaluation_v1.py of github.com/facebookresearch/MLQA for MLQA.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from xlt.metrics.squad import normalize


def squad_v1_by_question(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Return exact match and F1 of XQuAD or TyDiQA, by SQuAD's rules for English in every language.

    Args:
        predictions: Predicted answer of each question.
        answers: Gold answers of each question, at least one.

    Returns:
        Both scores of each question in percent, shape (questions, 2).

    Raises:
        ValueError: A question has no gold answer, or the numbers of questions differ.

    Source: Rajpurkar et al. (2016) https://arxiv.org/abs/1606.05250, the script of version 1.1.
    """
    return _by_question(predictions, answers, normalize)


def mlqa_by_question(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], language: str
) -> np.ndarray:
    """Return exact match and F1 of MLQA.

    Args:
        predictions: Predicted answer of each question.
        answers: Gold answers of each question, at least one.
        language: Language of the answers: ar, de, en, es, hi, vi or zh.

    Returns:
        Both scores of each question in percent, shape (questions, 2).

    Raises:
        ValueError: MLQA has no rules for the language, a question has no gold answer, or the numbers of
            questions differ.

    Source: Lewis et al. (2020) https://arxiv.org/abs/1910.07475, section 4.
    """
    if language not in _REWRITTEN:
        raise ValueError(f"MLQA has no rules for language {language!r}. Choose from {', '.join(_REWRITTEN)}")
    return _by_question(predictions, answers, partial(normalize_mlqa, language=language))


def _articles(words: str) -> tuple[re.Pattern[str], str]:
    """Return a pattern of the words and its replacement, a space."""
    return re.compile(rf"\b(?:{'|'.join(words.split())})\b"), " "


_REWRITTEN: dict[str, tuple[re.Pattern[str], str]] = {
    # The official pattern also removes these letters inside a word, not only the article at its start.
    "ar": (re.compile("ال"), " "),
    "de": _articles("der die das den dem des ein eine einen einem eines einer"),
    "en": _articles("a an the"),
    "es": _articles("el la los las un una unos unas"),
    "hi": (re.compile(r"(?!)"), ""),
    "vi": _articles("của là cái chiếc những"),
    # Each character becomes a word. Latin words and numbers between them are split at spaces.
    "zh": (re.compile("[\u4e00-\u9fa5]"), r" \g<0> "),
}
"""Pattern and replacement by language: articles (none in Hindi); spaces around Chinese characters.

Source: remove_articles and mixed_segmentation of mlqa_evaluation_v1.py.
"""


MLQA_LANGUAGES = tuple(_REWRITTEN)
"""Languages that MLQA has rules for."""


def normalize_mlqa(text: str, language: str) -> str:
    """Return an answer in lower case, without punctuation and articles, with single spaces."""
    pattern, replacement = _REWRITTEN[language]
    words = "".join(character for character in text.lower() if not _is_punctuation(character))
    return " ".join(pattern.sub(replacement, words).split())


def _is_punctuation(character: str) -> bool:
    """Return True for punctuation of Unicode or ASCII; "$" and "+" are punctuation in ASCII only."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _by_question(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], normalized: Callable[[str], str]
) -> np.ndarray:
    """Return both scores of each question, in percent.

    Args:
        predictions: Predicted answer of each question.
        answers: Gold answers of each question.
        normalized: Normalises an answer before comparison.
    """
    scores = []
    for prediction, gold in zip(predictions, answers, strict=True):
        if not gold:
            raise ValueError("a question has no gold answer; these scores need at least one")
        given, wanted = normalized(prediction), [normalized(answer) for answer in gold]
        overlap = max(_word_f1(given.split(), answer.split()) for answer in wanted)
        scores.append((100.0 * (given in wanted), 100.0 * overlap))
    return np.array(scores)


def _word_f1(prediction: Sequence[str], gold: Sequence[str]) -> float:
    """Return F1 of two bags of words, 0 to 1; 0 without common words, so also if both are empty."""
    common = (Counter(prediction) & Counter(gold)).total()
    return 2 * common / (len(prediction) + len(gold)) if common else 0.0

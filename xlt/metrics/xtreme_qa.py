"""Exact match and F1 of XTREME's questions: XQuAD and TyDiQA as SQuAD 1.1, MLQA by language.

Both are means over the questions, in percent; the best of a question's gold answers counts. Words in common
are needed for any F1: an empty prediction has F1 0 even where a gold answer holds no word, though it then is
an exact match. XTREME's script gives 0 in both to a question that its prediction file lacks; here every
question has a prediction, if an empty one.

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


def squad_v1_scores(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match and F1 of XQuAD or TyDiQA, with English articles and ASCII punctuation in every language.

    Args:
        predictions: The answer given to each question.
        answers: The gold answers of each question, at least one.

    Raises:
        ValueError: A question has no gold answer, or the two differ in number.

    Source: Rajpurkar et al. (2016) https://arxiv.org/abs/1606.05250, the script of version 1.1.
    """
    return _means(squad_v1_by_question(predictions, answers))


def squad_v1_by_question(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Exact match and F1 of each question, in percent, shape (questions, 2); see `squad_v1_scores`."""
    return _by_question(predictions, answers, normalize)


def mlqa_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], language: str
) -> dict[str, float]:
    """Exact match and F1 of MLQA.

    Args:
        predictions: The answer given to each question.
        answers: The gold answers of each question, at least one.
        language: Two letters, of the answers: ar, de, en, es, hi, vi or zh.

    Raises:
        ValueError: MLQA has no rules for the language, a question has no gold answer, or the numbers differ.

    Source: Lewis et al. (2020) https://arxiv.org/abs/1910.07475, section 4.
    """
    return _means(mlqa_by_question(predictions, answers, language))


def mlqa_by_question(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], language: str
) -> np.ndarray:
    """Exact match and F1 of each question, in percent, shape (questions, 2); see `mlqa_scores`."""
    if language not in _REWRITTEN:
        raise ValueError(f"MLQA has no rules for language {language!r}; it has {', '.join(_REWRITTEN)}")
    return _by_question(predictions, answers, partial(normalize_mlqa, language=language))


def _articles(words: str) -> tuple[re.Pattern[str], str]:
    """Each of the words, wherever it stands alone, to a space."""
    return re.compile(rf"\b(?:{'|'.join(words.split())})\b"), " "


_REWRITTEN: dict[str, tuple[re.Pattern[str], str]] = {
    # The script means the article at a word's start, yet its pattern also takes these letters inside a word.
    "ar": (re.compile("ال"), " "),
    "de": _articles("der die das den dem des ein eine einen einem eines einer"),
    "en": _articles("a an the"),
    "es": _articles("el la los las un una unos unas"),
    "hi": (re.compile(r"(?!)"), ""),
    "vi": _articles("của là cái chiếc những"),
    # A word each; what lies between them, Latin words and numbers, is split at spaces.
    "zh": (re.compile("[\u4e00-\u9fa5]"), r" \g<0> "),
}
"""What is rewritten in each language: articles, none in Hindi; in Chinese the characters, set apart.

Source: remove_articles and mixed_segmentation of mlqa_evaluation_v1.py.
"""


MLQA_LANGUAGES = tuple(_REWRITTEN)
"""Languages that MLQA has rules for."""


def normalize_mlqa(text: str, language: str) -> str:
    """The answer as MLQA compares it: lower case, no punctuation, no articles, single spaces."""
    pattern, replacement = _REWRITTEN[language]
    words = "".join(character for character in text.lower() if not _is_punctuation(character))
    return " ".join(pattern.sub(replacement, words).split())


def _is_punctuation(character: str) -> bool:
    """Whether Unicode or ASCII counts the character as punctuation; "$" and "+" are so in ASCII only."""
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _means(by_question: np.ndarray) -> dict[str, float]:
    """The means over the questions."""
    exact_match, f1 = by_question.mean(0).tolist()
    return {"exact_match": exact_match, "f1": f1}


def _by_question(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], normalized: Callable[[str], str]
) -> np.ndarray:
    """Both scores of each question in percent, of answers compared after this normalisation."""
    scores = []
    for prediction, gold in zip(predictions, answers, strict=True):
        if not gold:
            raise ValueError("a question has no gold answer; these scores need at least one")
        given, wanted = normalized(prediction), [normalized(answer) for answer in gold]
        overlap = max(_word_f1(given.split(), answer.split()) for answer in wanted)
        scores.append((100.0 * (given in wanted), 100.0 * overlap))
    return np.array(scores)


def _word_f1(prediction: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of two bags of words, 0 to 1; 0 where they share none, so also where both are empty."""
    common = (Counter(prediction) & Counter(gold)).total()
    return 2 * common / (len(prediction) + len(gold)) if common else 0.0

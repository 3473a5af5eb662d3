"""Transfer gap: the loss of score from the language of training to the other languages.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, section 4 (cross-lingual transfer gap).
"""

from collections.abc import Mapping

import numpy as np


def transfer_gap(by_language: Mapping[str, float], source: str = "en") -> float | None:
    """Return the score in the source language minus the mean score of the other languages.

    Return None if the source language or all other languages are missing.

    Args:
        by_language: Scores by language, in percent.
        source: The language of training. Defaults to English.
    """
    others = [score for language, score in by_language.items() if language != source]
    if source not in by_language or not others:
        return None
    return by_language[source] - float(np.mean(others))

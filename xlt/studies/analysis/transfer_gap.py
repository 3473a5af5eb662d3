"""The cross-lingual transfer gap."""

from collections.abc import Sequence

import numpy as np


def transfer_gap(english: float, others: Sequence[float]) -> float:
    """Return the English score minus the mean of the other languages' scores, in points.

    Args:
        english: The English score.
        others: Scores of the other languages, at least one.

    Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, section 4 (cross-lingual transfer gap).
    """
    return english - float(np.mean(others))

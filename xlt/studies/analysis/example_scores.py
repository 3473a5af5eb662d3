"""Resampling of test examples: the scores after drawing the test rows with replacement.

An example has a score of its own in percent, or three counts of spans: correct, predicted and gold. D draws,
R rows, S seeds.
"""

from collections.abc import Mapping, Sequence

import numpy as np

GOLD = 2
"""Column of the number of gold spans of an example."""


def check_example_scores(example_scores: np.ndarray, where: str) -> None:
    """Refuse example scores that are empty or not finite.

    Args:
        example_scores: Shape (..., R), or (..., R, 3) for counts of spans.
        where: Name of the cell for the message.

    Raises:
        ValueError: There are no scores, or one is not finite.
    """
    if example_scores.size == 0 or not np.isfinite(example_scores).all():
        raise ValueError(
            f"example_scores of {where} (shape {example_scores.shape}) are empty or not finite: "
            "evaluate that cell again"
        )


def score_of(example_scores: np.ndarray) -> np.ndarray:
    """Return the score of all examples, in percent: shape (S, R) or (S, R, 3) to shape (S,).

    Source: the mean of the examples; for spans the F1 of all spans together (seqeval's micro average, as
    XTREME scores tagging).
    """
    return drawn_scores(example_scores, np.ones((1, example_scores.shape[1]), np.float32))[0]


def drawn_scores(example_scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the scores of resampled examples, in percent.

    Args:
        example_scores: Shape (S, R), or (S, R, 3) for counts of spans.
        counts: Number of times that each draw contains each row, shape (D, R).

    Returns:
        Shape (D, S).

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 6.
    """
    if example_scores.ndim == 2:
        return (counts @ example_scores.T.astype(np.float32)) / counts.sum(1, keepdims=True)
    right, predicted, gold = (
        counts @ example_scores[..., column].T.astype(np.float32) for column in range(3)
    )
    total = predicted + gold
    return 100 * 2 * right / np.where(total > 0, total, 1)


def example_counts(rows: int, draws: int, key: Sequence[int]) -> np.ndarray:
    """Draw rows with replacement; count the rows in each draw.

    Args:
        rows: Number of rows R.
        draws: Number of draws D.
        key: Seed of the draws: the same key gives the same draws.

    Returns:
        Shape (D, R).
    """
    picks = np.random.default_rng(list(key)).integers(rows, size=(draws, rows))
    indices = picks + rows * np.arange(draws)[:, None]
    return np.bincount(indices.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float32)


def counts_by_language(
    rows: Mapping[str, int], draws: int, seed: int, is_parallel: bool
) -> dict[str, np.ndarray]:
    """Draw the rows of each language.

    Args:
        rows: Number of rows by language.
        draws: Number of draws.
        seed: Seed of the draws.
        is_parallel: True if a row is the same example in every language. All languages then have the same
            number of rows and share their draws.
    """
    if is_parallel:
        return dict.fromkeys(rows, example_counts(next(iter(rows.values())), draws, (seed,)))
    order = sorted(rows)
    return {
        language: example_counts(rows[language], draws, (seed, order.index(language))) for language in rows
    }

"""Examples drawn again: what scores become when the test rows are resampled. D draws, R rows, S seeds.

An example has a value of its own (a score in percent), or the spans found right, predicted and in gold.
"""

from collections.abc import Mapping, Sequence

import numpy as np

RIGHT, PREDICTED, GOLD = range(3)
"""Columns of an example's spans."""


def check_example_scores(example_scores: np.ndarray, where: str) -> None:
    """Refuse values that are none of the two forms.

    Args:
        example_scores: Shape (..., R) by seed or alone, or (..., R, 3).
        where: What they belong to, for the message.

    Raises:
        ValueError: There are none, or one is not finite.
    """
    if example_scores.size == 0 or not np.isfinite(example_scores).all():
        raise ValueError(
            f"example_scores of {where}: empty or not finite, shape {example_scores.shape}: "
            "evaluate that cell again"
        )


def score_of(example_scores: np.ndarray) -> np.ndarray:
    """Scores of the example scores as they are, in percent: (S, R) or (S, R, 3) to (S,).

    Source: the mean, or the F1 of all spans counted together (seqeval's micro average, as XTREME scores
    tags).
    """
    return drawn_scores(example_scores, np.ones((1, example_scores.shape[1]), np.float32))[0]


def drawn_scores(example_scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Scores when each row is taken as often as drawn, in percent.

    Args:
        example_scores: Shape (S, R), or (S, R, 3) of spans.
        counts: How often a draw has each row, shape (D, R).

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
    """How often each of D draws of R rows with replacement has each row, shape (D, R); the same by key."""
    picks = np.random.default_rng(list(key)).integers(rows, size=(draws, rows))
    places = picks + rows * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float32)


def counts_by_language(
    rows: Mapping[str, int], draws: int, seed: int, parallel: bool
) -> dict[str, np.ndarray]:
    """Draws of the rows of each language: the same ones in all languages of a parallel test set, else apart.

    Raises:
        ValueError: The set is said to be parallel, and languages differ in their number of rows.
    """
    if parallel:
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{language} {count}" for language, count in rows.items())
            raise ValueError(f"a parallel test set has as many rows in every language, not {listed}")
        shared = example_counts(next(iter(rows.values())), draws, (seed,))
        return dict.fromkeys(rows, shared)
    order = sorted(rows)
    return {
        language: example_counts(rows[language], draws, (seed, order.index(language))) for language in rows
    }

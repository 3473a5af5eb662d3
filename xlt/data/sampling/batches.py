"""Which rows make up each micro-batch: random rows a step, cut by length into pieces of bounded tokens.

A step takes the next rows of the task's random order, as many as its micro-batches hold, so its rows are a
uniform sample whatever their length; only then are they sorted and cut, which keeps the sequences
of a micro-batch alike. The order is an endless sequence of epochs: every row once in each.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from xlt.data.sampling.order import draw, permutation

WIDER = 2
"""Times the tokens of a micro-batch in a validation batch, at most."""


class RowStream:
    """The micro-batches of a task's successive steps.

    Args:
        lengths: Tokens of each row, shape (num_rows,).
        rows: The rows in use (a volume may leave some out), shape (num_used,).
        tokens_per_micro_batch: Most tokens in a micro-batch.
        micro_batches_per_step: Micro-batches in a step, those of all processes together.
        key: What the order depends on: the seed and the task's name.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        rows: np.ndarray,
        tokens_per_micro_batch: int,
        micro_batches_per_step: int,
        *key: object,
    ) -> None:
        self._lengths, self._rows = lengths, rows
        self._budget, self._parts, self._key = tokens_per_micro_batch, micro_batches_per_step, key
        self._window = max(
            64, int(2 * tokens_per_micro_batch * micro_batches_per_step / lengths[rows].mean())
        )
        self._starts = [0]
        self._epochs: dict[int, np.ndarray] = {}

    def step(self, visit: int) -> list[np.ndarray]:
        """The rows of each micro-batch of the task's step number `visit`, which starts at 0.

        No micro-batch is empty, and their tokens are as equal as whole rows allow.
        """
        self._walk_to(visit)
        rows = self._next(self._starts[visit])
        rows = rows[np.argsort(-self._lengths[rows], kind="stable")]
        totals = np.cumsum(self._lengths[rows]).tolist()
        fair = max(totals[0], -(-totals[-1] // self._parts))
        capacities = range(fair, self._budget)
        fits = bisect_left(capacities, True, key=lambda c: len(cut_by_tokens(totals, c)) <= self._parts)
        pieces = np.split(rows, cut_by_tokens(totals, fair + fits)[:-1])
        while len(pieces) < self._parts:
            widest = max(range(len(pieces)), key=lambda i: len(pieces[i]))
            pieces[widest : widest + 1] = np.array_split(pieces[widest], 2)
        return pieces

    def epochs_before(self, visit: int) -> float:
        """How many times the rows have passed when step number `visit` begins."""
        self._walk_to(visit)
        return self._starts[visit] / len(self._rows)

    def _walk_to(self, visit: int) -> None:
        """Find where each step up to this one starts in the endless order."""
        while len(self._starts) <= visit:
            self._starts.append(self._starts[-1] + len(self._next(self._starts[-1])))

    def _next(self, start: int) -> np.ndarray:
        """As many of the rows from `start` on as the micro-batches of one step hold."""
        upcoming = self._upcoming(start, self._window)
        lengths = self._lengths[upcoming]
        totals = np.cumsum(lengths)
        count = int(np.searchsorted(totals, self._budget * self._parts, side="right"))
        while count > self._parts:
            longest_first = np.cumsum(-np.sort(-lengths[:count])).tolist()
            cuts = cut_by_tokens(longest_first, self._budget)
            if len(cuts) <= self._parts:
                break
            # What does not fit is left to the next step.
            held = longest_first[cuts[self._parts - 1] - 1]
            count = int(np.searchsorted(totals[:count], held, side="right"))
        return upcoming[: max(count, self._parts)]

    def _upcoming(self, start: int, num: int) -> np.ndarray:
        """The next rows of the endless order, shape (num,)."""
        pieces, missing = [], num
        epoch, offset = divmod(start, len(self._rows))
        self._epochs = {e: order for e, order in self._epochs.items() if e >= epoch}
        while missing > 0:
            if epoch not in self._epochs:
                order = permutation(len(self._rows), "rows", *self._key, epoch)
                self._epochs[epoch] = self._rows[order]
            piece = self._epochs[epoch][offset : offset + missing]
            pieces.append(piece)
            missing -= len(piece)
            epoch, offset = epoch + 1, 0
        return np.concatenate(pieces)


def cut_by_tokens(totals: Sequence[int], budget: int) -> list[int]:
    """Where to end each piece so that none holds more than `budget` tokens, filled greedily.

    Args:
        totals: Tokens of the rows up to and including each, in order; no row has more than the budget.
        budget: Most tokens in a piece.

    Returns:
        The end (exclusive) of each piece, the last one the number of rows.
    """
    cuts, done = [], 0
    while done < totals[-1]:
        cuts.append(bisect_right(totals, done + budget))
        done = totals[cuts[-1] - 1]
    return cuts


def sorted_batches(lengths: np.ndarray, rows: np.ndarray, tokens_per_micro_batch: int) -> list[np.ndarray]:
    """The rows once each, longest first, in batches of bounded tokens: for evaluation."""
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    cuts = cut_by_tokens(np.cumsum(lengths[order]).tolist(), tokens_per_micro_batch)
    return np.split(order, cuts[:-1])


def validation_batches(
    lengths: np.ndarray, rows: np.ndarray, tokens_per_micro_batch: int, processes: int
) -> list[list[np.ndarray]]:
    """The rows once each in sorted batches, as many for every process; the last ones may be empty.

    Nothing is kept for a backward pass, so a batch has up to WIDER times the tokens of a micro-batch, unless
    processes would go without rows.
    """
    share = int(lengths[rows].sum()) // processes
    most = max(tokens_per_micro_batch, min(WIDER * tokens_per_micro_batch, share))
    batches = sorted_batches(lengths, rows, most)
    batches += [np.zeros(0, np.int64)] * (-len(batches) % processes)
    return [batches[process::processes] for process in range(processes)]


def subset_by_identity(identities: Sequence[int | str], volume: int, *key: object) -> np.ndarray:
    """The examples of a volume, sorted, drawn by what tells each from the others and not by its place.

    Languages that give translations the same identity have the same subset, as far as they have its rows. Of
    the identities 0, 1, 2 and so on it is the one of `nested_subset`.

    Args:
        identities: What tells each example from the others, in all languages.
        volume: Examples wanted.
        key: What the draw depends on: the seed and the task's name.
    """
    numbers = [identity for identity in identities if isinstance(identity, int)]
    drawn = draw(max(numbers, default=-1) + 1, "volume", *key)
    ranks = [drawn[i] if isinstance(i, int) else draw(1, "volume", *key, i)[0] for i in identities]
    return np.sort(np.argsort(np.array(ranks, np.uint64), kind="stable")[:volume])


def nested_subset(num_examples: int, volume: int | None, *key: object) -> np.ndarray:
    """The examples of a volume, sorted, shape (volume,): a smaller volume lies inside a larger one.

    Args:
        num_examples: Examples there are.
        volume: Examples wanted; None or more than there are means all.
        key: What the draw depends on: the seed and the task's name.
    """
    if volume is None or volume >= num_examples:
        return np.arange(num_examples)
    return np.sort(permutation(num_examples, "volume", *key)[:volume])

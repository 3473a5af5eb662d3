"""Divide rows into micro-batches: a step takes random rows and divides them by length.

A step takes the next rows of the task's random order, as many as its micro-batches hold. Its rows are
therefore a uniform sample, whatever their length. Then the rows are sorted by length and divided, so that the
sequences of a micro-batch have similar lengths. The order is an endless sequence of epochs, each with every
row once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from xlt.data.sampling.order import draw, permutation

WIDER = 2
"""Largest number of tokens in a dev batch, as a multiple of a micro-batch's."""


class RowStream:
    """The micro-batches of a task's successive steps.

    Args:
        lengths: Number of tokens of each row, shape (num_rows,).
        rows: Numbers of the rows in use, shape (num_used,). A volume may leave some out.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch.
        micro_batches_per_step: Number of micro-batches per optimizer step, summed over all processes.
        key: The seed and the task's name, on which the order depends.
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
        """Return the rows of each micro-batch of a step.

        No micro-batch is empty, and their numbers of tokens are as equal as whole rows allow.

        Args:
            visit: The task's own step index, from 0.
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
        """Return the number of epochs before the task's own step index `visit`."""
        self._walk_to(visit)
        return self._starts[visit] / len(self._rows)

    def _walk_to(self, visit: int) -> None:
        """Find the start of each step up to `visit` in the endless order."""
        while len(self._starts) <= visit:
            self._starts.append(self._starts[-1] + len(self._next(self._starts[-1])))

    def _next(self, start: int) -> np.ndarray:
        """Return the rows from `start` on that the micro-batches of a step hold."""
        upcoming = self._upcoming(start, self._window)
        lengths = self._lengths[upcoming]
        totals = np.cumsum(lengths)
        count = int(np.searchsorted(totals, self._budget * self._parts, side="right"))
        while count > self._parts:
            longest_first = np.cumsum(-np.sort(-lengths[:count])).tolist()
            cuts = cut_by_tokens(longest_first, self._budget)
            if len(cuts) <= self._parts:
                break
            # Rows that do not fit are left to the next step.
            held = longest_first[cuts[self._parts - 1] - 1]
            count = int(np.searchsorted(totals[:count], held, side="right"))
        return upcoming[: max(count, self._parts)]

    def _upcoming(self, start: int, num: int) -> np.ndarray:
        """Return the next rows of the endless order, shape (num,)."""
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
    """Divide rows greedily into pieces of at most `budget` tokens.

    Args:
        totals: Cumulative number of tokens of the rows, in order. No row has more tokens than the budget.
        budget: Maximum number of tokens in a piece.

    Returns:
        The end (exclusive) of each piece. The last end is the number of rows.
    """
    cuts, done = [], 0
    while done < totals[-1]:
        cuts.append(bisect_right(totals, done + budget))
        done = totals[cuts[-1] - 1]
    return cuts


def sorted_batches(lengths: np.ndarray, rows: np.ndarray, tokens_per_micro_batch: int) -> list[np.ndarray]:
    """Return each row once, longest first, in batches of at most `tokens_per_micro_batch` tokens."""
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    cuts = cut_by_tokens(np.cumsum(lengths[order]).tolist(), tokens_per_micro_batch)
    return np.split(order, cuts[:-1])


def validation_batches(
    lengths: np.ndarray, rows: np.ndarray, tokens_per_micro_batch: int, processes: int
) -> list[list[np.ndarray]]:
    """Return each row once in sorted batches, equally many for every process. The last batches may be empty.

    No states are kept for a backward pass, so a batch has up to WIDER times the tokens of a micro-batch,
    unless a process would then have no rows.

    Args:
        lengths: Number of tokens of each row, shape (num_rows,).
        rows: Numbers of the rows in use.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch.
        processes: Number of processes.
    """
    share = int(lengths[rows].sum()) // processes
    most = max(tokens_per_micro_batch, min(WIDER * tokens_per_micro_batch, share))
    batches = sorted_batches(lengths, rows, most)
    batches += [np.zeros(0, np.int64)] * (-len(batches) % processes)
    return [batches[process::processes] for process in range(processes)]


def subset_by_identity(identities: Sequence[int | str], volume: int, *key: object) -> np.ndarray:
    """Return the numbers of the examples of a volume, ascending, drawn by the examples' identities.

    Languages whose translations have the same identities get the same subset, as far as they have its rows.
    The identities 0, 1, 2 and so on give the same subset as `nested_subset`.

    Args:
        identities: Identity of each example, the same in all languages.
        volume: Number of examples wanted.
        key: The seed and the task's name, on which the draw depends.
    """
    numbers = [identity for identity in identities if isinstance(identity, int)]
    drawn = draw(max(numbers, default=-1) + 1, "volume", *key)
    ranks = [drawn[i] if isinstance(i, int) else draw(1, "volume", *key, i)[0] for i in identities]
    return np.sort(np.argsort(np.array(ranks, np.uint64), kind="stable")[:volume])


def nested_subset(num_examples: int, volume: int | None, *key: object) -> np.ndarray:
    """Return the numbers of the examples of a volume, ascending. Smaller volumes are subsets of larger ones.

    Args:
        num_examples: Number of examples in the split.
        volume: Number of examples wanted. If None, or above the number of examples, all are returned.
        key: The seed and the task's name, on which the draw depends.
    """
    if volume is None or volume >= num_examples:
        return np.arange(num_examples)
    return np.sort(permutation(num_examples, "volume", *key)[:volume])

"""Which tokens a masked language model has to guess: a pure function of (seed, step, row).

N tokens of R rows, M of them masked.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from xlt.data.sampling.order import numbers_at

MASKED, REPLACED = 0.8, 0.1
"""Of the tokens to guess: the share hidden by the mask, and that of a random piece; the rest stay."""


class Masked(NamedTuple):
    """Rows with some tokens hidden."""

    ids: np.ndarray
    """(N,) what the encoder reads."""
    token_indices: np.ndarray
    """(M,) the tokens to guess, ascending."""
    targets: np.ndarray
    """(M,) what they were."""
    counts: np.ndarray
    """(R,) how many of them each row has."""


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Args:
        mask: Id of the mask.
        special: Ids that are neither guessed nor put in another's place.
        vocab_size: Number of ids.
        mlm_probability: Of a row's other tokens, the part to guess; at least one.

    Source: Devlin et al. (2019), section 3.1: 15 %, of which 80 % masked, 10 % random, 10 % kept; drawn
        anew each time as in Liu et al. (2019).
    """

    mask: int
    special: tuple[int, ...]
    vocab_size: int
    mlm_probability: float

    def num_masked(self, ids: list[int]) -> int:
        """How many of a row's tokens are to be guessed, which does not depend on the draw."""
        return int(self._num_masked(np.array([len(ids) - sum(map(ids.count, self.special))]))[0])

    def _num_masked(self, maskable: np.ndarray) -> np.ndarray:
        """The share of each count, rounded, and at least one of any."""
        counts = np.floor(maskable * self.mlm_probability + 0.5).astype(np.int64)
        return np.minimum(np.maximum(counts, 1), maskable)

    def hide(self, ids: np.ndarray, sizes: np.ndarray, rows: np.ndarray, *key: object) -> Masked:
        """Hide tokens of the rows.

        Args:
            ids: Their tokens end to end, shape (N,).
            sizes: Tokens of each, shape (R,).
            rows: Their numbers, shape (R,): a row's masks do not depend on the rows beside it.
            key: What the draw depends on besides: the seed and the step.
        """
        starts = np.cumsum(sizes) - sizes
        row = np.repeat(np.arange(len(rows)), sizes)
        position = np.arange(len(ids)) - starts[row]
        place = (np.repeat(rows, sizes), position)
        fixed = np.isin(ids, self.special)
        counts = self._num_masked(np.bincount(row[~fixed], minlength=len(rows)))
        # Each row's tokens in the order of their numbers, the special ones last.
        order = np.lexsort((numbers_at(*place, "which", *key), fixed, row))
        token_indices = np.sort(order[position < counts[row]])
        masked = ids.copy()
        masked[token_indices] = self._in_place_of(
            ids[token_indices], tuple(of[token_indices] for of in place), *key
        )
        return Masked(masked, token_indices, ids[token_indices], counts)

    @cached_property
    def _pieces(self) -> np.ndarray:
        """The ids that are not special."""
        return np.setdiff1d(np.arange(self.vocab_size), self.special)

    def _in_place_of(self, ids: np.ndarray, place: tuple[np.ndarray, ...], *key: object) -> np.ndarray:
        """What stands where these tokens were."""
        other = self._pieces[numbers_at(*place, "other", *key) % np.uint64(len(self._pieces))]
        fate = (numbers_at(*place, "fate", *key) >> np.uint64(11)) * 2.0**-53
        kept = np.where(fate < MASKED + REPLACED, other, ids)
        return np.where(fate < MASKED, self.mask, kept).astype(ids.dtype)

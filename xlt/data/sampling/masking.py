"""Choose the tokens that a masked language model predicts: a pure function of (seed, step, row).

N tokens of R rows, of which M are predicted.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from xlt.data.sampling.order import numbers_at

MASKED, REPLACED = 0.8, 0.1
"""Shares of the predicted tokens that become the mask token and a random token. The rest stay."""


class Masked(NamedTuple):
    """Rows with some tokens masked.

    Args:
        ids: Token ids that the encoder reads, shape (N,).
        token_indices: Indices of the tokens to predict, ascending, shape (M,).
        targets: Original ids of these tokens, shape (M,).
        counts: Number of these tokens in each row, shape (R,).
    """

    ids: np.ndarray
    token_indices: np.ndarray
    targets: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Masking:
    """Rule that masks tokens.

    Args:
        mask: Id of the mask token.
        special: Ids that are never predicted and never replace another token.
        vocab_size: Number of token ids.
        mlm_probability: Share of a row's other tokens to predict. At least one token of a row is predicted.

    Source: Devlin et al. (2019), section 3.1: 15 %, of which 80 % masked, 10 % random, 10 % kept. Tokens are
        drawn again in every step, as in Liu et al. (2019).
    """

    mask: int
    special: tuple[int, ...]
    vocab_size: int
    mlm_probability: float

    def num_masked(self, ids: list[int]) -> int:
        """Return the number of tokens of a row to predict, which does not depend on the draw.

        Args:
            ids: Token ids of the row.
        """
        return int(self._num_masked(np.array([len(ids) - sum(map(ids.count, self.special))]))[0])

    def _num_masked(self, maskable: np.ndarray) -> np.ndarray:
        """Return the number of tokens to predict for each number of maskable tokens."""
        counts = np.floor(maskable * self.mlm_probability + 0.5).astype(np.int64)
        return np.minimum(np.maximum(counts, 1), maskable)

    def hide(self, ids: np.ndarray, sizes: np.ndarray, rows: np.ndarray, *key: object) -> Masked:
        """Mask tokens of rows. The masks of a row do not depend on the other rows.

        Args:
            ids: Token ids of the rows end to end, shape (N,).
            sizes: Number of tokens of each row, shape (R,).
            rows: Numbers of the rows, shape (R,).
            key: The seed and the step, on which the draw depends in addition to the row.
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
        """Return the ids that are not special."""
        return np.setdiff1d(np.arange(self.vocab_size), self.special)

    def _in_place_of(self, ids: np.ndarray, place: tuple[np.ndarray, ...], *key: object) -> np.ndarray:
        """Return the ids that replace these tokens."""
        other = self._pieces[numbers_at(*place, "other", *key) % np.uint64(len(self._pieces))]
        fate = (numbers_at(*place, "fate", *key) >> np.uint64(11)) * 2.0**-53
        kept = np.where(fate < MASKED + REPLACED, other, ids)
        return np.where(fate < MASKED, self.mask, kept).astype(ids.dtype)

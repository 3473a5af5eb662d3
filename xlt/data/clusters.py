"""Extend the character offsets of tokens to whole grapheme clusters (UAX 29)."""

import numpy as np
import regex

_CLUSTER = regex.compile(r"\X")


def whole_clusters(text: str, offsets: np.ndarray) -> np.ndarray:
    """Extend each token to its whole grapheme cluster, except for characters that belong to another token.

    Normalisation may turn several characters, such as a letter and its combining marks, into a single one, or
    drop some. The tokenizer's offsets then cover only the first character.

    Args:
        text: The text before normalisation.
        offsets: The first character of each token and one after the last, shape (T tokens, 2).

    Returns:
        The offsets, shape (T, 2), with ends moved to the boundaries of grapheme clusters.
    """
    if text.isascii() or not len(offsets):
        return offsets
    starts, ends = offsets.T
    borders = np.array([*(cluster.start() for cluster in _CLUSTER.finditer(text)), len(text)])
    upcoming = np.append(np.sort(starts), len(text))[np.searchsorted(np.sort(starts), ends)]
    later = borders[np.searchsorted(borders, ends)]
    previous = np.append(0, np.sort(ends))[np.searchsorted(np.sort(ends), starts, "right")]
    earlier = borders[np.searchsorted(borders, starts, "right") - 1]
    moved = np.stack([np.maximum(earlier, previous), np.minimum(later, np.maximum(upcoming, ends))], 1)
    return np.where((starts < ends)[:, None], moved, offsets)

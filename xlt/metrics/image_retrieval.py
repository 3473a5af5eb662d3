"""Retrieval of images by captions, and of captions by images: the hits among the k nearest.

R captions, M distinct images, P width of the common space, K the largest k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xlt.metrics.neighbours import nearest

RANKS = (1, 5, 10)
"""Values of k, as in IGLUE and Flickr30k (Young et al. 2014)."""


class Ranking(NamedTuple):
    """The nearest images of each caption, and the nearest captions of each image.

    Args:
        image_of: (R,) number of each caption's image, from 0 in the order of first occurrence.
        images: (R, K) numbers of the images nearest to each caption, best first.
        captions: (M, K) numbers of the captions nearest to each image, best first.
    """

    image_of: np.ndarray
    images: np.ndarray
    captions: np.ndarray

    def image_hits(self, k: int) -> Bool[np.ndarray, " R"]:
        """Return True for each caption whose image is among the k nearest images."""
        return (self.images[:, :k] == self.image_of[:, None]).any(1)

    def text_hits(self, k: int) -> Bool[np.ndarray, " M"]:
        """Return True for each image of which a caption is among the k nearest captions."""
        own = np.arange(len(self.captions))[:, None]
        return (self.image_of[self.captions[:, :k]] == own).any(1)

    def recalls(self) -> dict[str, float]:
        """Return recall at k in percent: `ir_r1` of captions that find images, `tr_r1` of the reverse."""
        ways = {"ir": self.image_hits, "tr": self.text_hits}
        return {f"{name}_r{k}": 100 * float(hits(k).mean()) for name, hits in ways.items() for k in RANKS}


def rank(
    text: Float[Tensor, "R P"], image: Float[Tensor, "R P"], keys: Sequence[int] | Int[np.ndarray, " R"]
) -> Ranking:
    """Search in both directions by cosine. Of equal cosines, the first in the order of the rows wins.

    Args:
        text: Vectors of the captions.
        image: Vectors of each caption's image.
        keys: Number that identifies each caption's image. Rows of the same image have the same number.
    """
    numbers: dict[int, int] = {}
    image_of = np.array([numbers.setdefault(key, len(numbers)) for key in map(int, keys)], np.int64)
    firsts = np.unique(image_of, return_index=True)[1]
    distinct = image[torch.from_numpy(firsts)]
    k = max(RANKS)
    images = nearest(text, distinct, min(k, len(distinct))).indices
    captions = nearest(distinct, text, min(k, len(text))).indices
    return Ranking(image_of, images.numpy(), captions.numpy())

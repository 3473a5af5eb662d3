"""The images of encoded rows: the column of their keys, and what a kind reads of an image. I images."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from xlt.data.images import Image

IMAGE_KEY = "image_key"
"""Column of the keys of a row's images, two int32 for each image. Rows without an image have no value."""


class Imagery(NamedTuple):
    """The part of a task that concerns its images.

    Args:
        as_tokens: True if each image becomes `data.image_tokens` tokens of the packed sequence, False if the
            head reads a single vector of each image.
        num_negatives: Number of images of the split to draw in each step whose vectors are wrong answers.
    """

    as_tokens: bool
    num_negatives: int = 0


def image_keys(images: Iterable[Image]) -> list[int]:
    """Return the keys of images as two int32 each, for the column IMAGE_KEY."""
    return np.array([image.key for image in images], np.uint64).view(np.int32).tolist()

"""The images of encoded rows: the column of their keys, the store of their features, and rows with features.

    <cache>/images-<key>/   an `ArrayStore`: key of each image, and its features (float16) or pixels (uint8)

R rows, I images of these rows, T tokens of an image, C width of the encoder, h x w pixels, K negatives.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xlt.data.array_store import ArrayStore, distinct
from xlt.data.features import Features, ImageRows
from xlt.data.images import Image
from xlt.data.sampling.order import sample

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


def keys_of(features: Features, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of the images of rows, shape (I,) uint64, and the number of images of each, (R,)."""
    values, counts = features.gather(IMAGE_KEY, rows)
    return np.ascontiguousarray(values).view(np.uint64), counts // 2


class IllustratedFeatures(Features):
    """The rows of a split, with the images of the rows in use.

    Args:
        path: A file that a `FeatureWriter` wrote.
        store: The images. It holds all images of the rows in use: the vector of an image, or its vector and
            its grid, or its pixels.
        rows: Numbers of the rows in use, ascending.
        imagery: The part of the task that concerns its images.
        num_tokens: Number of tokens of an image, for a task that reads tokens.
    """

    def __init__(
        self, path: Path, store: ArrayStore, rows: np.ndarray, imagery: Imagery, num_tokens: int
    ) -> None:
        super().__init__(path)
        self._store, self._imagery, self._num_tokens = store, imagery, num_tokens
        self._are_pixels = store.arrays.dtype == np.uint8
        # The order is that of the rows, so that a draw does not depend on the order in the store.
        keys = keys_of(self, rows)[0]
        self._pool = store.find(keys[distinct(keys)])

    def images(self, rows: np.ndarray, key: int) -> ImageRows:
        """Return the images of rows, in the order of the rows, and the negatives of a step.

        All micro-batches of a step get the same negatives, so that no loss depends on how the rows of a step
        are divided.

        Args:
            rows: Numbers of rows in use.
            key: Key of the step.
        """
        keys, counts = keys_of(self, rows)
        ids = self._store.find(keys)
        assert (ids >= 0).all()
        num_tokens = self._num_tokens if self._imagery.as_tokens else 0
        if self._are_pixels:
            return ImageRows(self._store.arrays[ids], counts, ids, num_tokens)
        # Only the part of an image that the task reads is touched.
        part = slice(1, None) if num_tokens > 1 else slice(0, 1)
        found = ImageRows(self._store.arrays[ids, part], counts, ids, num_tokens)
        if not self._imagery.num_negatives or not len(self._pool):
            return found
        drawn = sample(self._pool, self._imagery.num_negatives, "negatives", key)
        return found._replace(negatives=self._store.arrays[drawn, 0], negative_ids=drawn)

"""Images of a micro-batch.

I images, T tokens of an image, C width of the vision encoder, K negatives, N tokens, D hidden width.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class BatchImages(NamedTuple):
    """Features of a micro-batch's images, in the order of its rows.

    Args:
        features: (I, T, C) features in half precision, where T is 1 if the kind reads a single vector. For a
            trained vision encoder, pixels of shape (I, 3, height, width) as uint8.
        numbers: (I,) position of each image among the images of its row, from 0.
        ids: (I,) numbers that are equal for equal images of the split.
        token_indices: (I * T,) ascending indices of the packed tokens that stand for the images. Empty if the
            kind reads a single vector.
        negatives: (K, C) features of images that are drawn for the step. None if the kind draws none.
        negative_ids: (K,) numbers of these images, as in `ids`.
    """

    features: Tensor
    numbers: Tensor
    ids: Tensor
    token_indices: Tensor
    negatives: Tensor | None = None
    negative_ids: Tensor | None = None


def put_tokens(words: Float[Tensor, "1 N D"], images: BatchImages) -> Float[Tensor, "1 N D"]:
    """Return word embeddings in which the projected images replace the placeholders."""
    return words.index_copy(1, images.token_indices, images.features[None].to(words.dtype))

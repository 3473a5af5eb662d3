"""Head for retrieval of images and captions.

N tokens, R rows, K negatives, D hidden width, P width of the common space.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.encoders.text import sum_by_sequence
from xlt.models.heads.head import Columns, Head

START = 1 / 0.07
"""Factor of the cosines at the start of training."""

MAX_SCALE = 100.0
"""Largest factor of the cosines."""


class ImageTextHead(Head):
    """Head that maps captions and images into a common space, and contrasts them there.

    A caption's vector is a linear map of the mean of its states. An image's vector is a linear map of the
    vector that the model's projector gives. Both have length 1.

    Args:
        hidden_size: Width of the encoder, D.
        size: Width of the common space, P.

    Source: Radford et al. (2021), https://arxiv.org/abs/2103.00020, section 2.3 and figure 3.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.text = nn.Linear(hidden_size, size, bias=False)
        self.image = nn.Linear(hidden_size, size, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START)))

    def forward(
        self, states: Float[Tensor, "N D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "2 R P"]:
        """Return vectors of length 1: of the captions, then of the images of the rows."""
        means = sum_by_sequence(states, packing) / packing.lengths[:, None]
        return torch.stack([_unit(self.text(means)), _unit(self.image(columns["images"]))])

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the cross-entropy of each row's own image and caption, mean of both, summed over rows.

        A caption is compared with the images of the micro-batch and with the negatives, an image with the
        captions of the micro-batch. A different row of the same image does not count as a wrong answer.
        """
        ids = columns["image_ids"]
        is_same = ids[:, None] == ids
        images = logits[1]
        if "negatives" in columns:
            images = torch.cat([images, _unit(self.image(columns["negatives"]))])
            is_same = torch.cat([is_same, ids[:, None] == columns["negative_ids"]], 1)
        is_same = is_same & ~torch.eye(*is_same.shape, dtype=torch.bool, device=ids.device)
        with torch.autocast(logits.device.type, enabled=False):
            scores = self.log_scale.exp().clamp(max=MAX_SCALE) * logits[0] @ images.T
            both = _own(scores, is_same) + _own(scores[:, : len(ids)].T, is_same[:, : len(ids)].T)
        return both / 2

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the vectors of captions and of images."""
        return {"text": logits[0].float(), "image": logits[1].float()}


def _unit(vectors: Tensor) -> Float[Tensor, "R P"]:
    """Return the vectors with length 1, in single precision."""
    return F.normalize(vectors.float(), dim=-1)


def _own(scores: Float[Tensor, "R C"], is_same: Bool[Tensor, "R C"]) -> Float[Tensor, ""]:
    """Return the cross-entropy in nats of the answer with the row's own number, summed over rows."""
    own = torch.arange(len(scores), device=scores.device)
    return F.cross_entropy(scores.masked_fill(is_same, -torch.inf), own, reduction="sum")

"""Head for retrieval. N tokens, S sequences, R rows, D hidden width."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from xlt.batch.packing import Packing
from xlt.models.encoders.text import sum_by_sequence
from xlt.models.heads.head import Columns, Form, Head

SAME = 1e-5
"""Tolerance of cosine 1. Vectors within the tolerance belong to the same sentence."""


class RankingHead(Head):
    """Head without weights that compares sentences and translations by cosines of two readings.

    The first reading is the mean of the states, which retrieval compares. The second is the first token's
    state, which classification reads and LaBSE ranks by (Feng et al. 2022, section 3.1).

    Args:
        scale: Factor of the cosines.
        margin: Cosine that is subtracted from the cosine of a true pair.
        sides: Number of sentences per row: 2 for a sentence and its translation, 1 for a single sentence.
    """

    form: ClassVar[Form | None] = "sentence-similarity"

    def __init__(self, scale: float, margin: float, sides: int = 2) -> None:
        super().__init__()
        self.scale, self.margin, self.sides = scale, margin, sides

    def forward(
        self, states: Float[Tensor, "N D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "2 R sides D"]:
        """Return vectors of length 1 of each row's sentences: means, then first tokens."""
        # Normalising the sum gives the same vector as normalising the mean.
        readings = torch.stack([sum_by_sequence(states, packing), states[packing.starts]])
        return F.normalize(readings, dim=-1).view(2, -1, self.sides, states.shape[1])

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the cross-entropy of the true pair, mean of both directions and readings, summed over rows.

        A sentence that occurs twice in the micro-batch does not count as a wrong answer.
        """
        # Means identify equal sentences. First tokens of different sentences may be equal.
        alike = _alike(logits[0].detach())
        losses = [self._loss(vectors, alike) for vectors in logits.unbind()]
        return torch.stack(losses).mean()

    def _loss(self, vectors: Float[Tensor, "R 2 D"], alike: Bool[Tensor, "R R"]) -> Float[Tensor, ""]:
        """Return the loss of one reading."""
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = vectors[:, 0] @ vectors[:, 1].T
        own = torch.arange(len(cosines), device=cosines.device)
        scores = self.scale * (cosines - self.margin * torch.eye(len(cosines), device=cosines.device))
        scores = scores.masked_fill(alike, -torch.inf)
        both = F.cross_entropy(scores, own, reduction="sum") + F.cross_entropy(scores.T, own, reduction="sum")
        return both / 2

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the vectors of the means."""
        return {"vectors": logits[0].float()}


def _alike(vectors: Float[Tensor, "R 2 D"]) -> Bool[Tensor, "R R"]:
    """Return True for each two different rows that share a sentence."""
    same = (vectors.transpose(0, 1) @ vectors.permute(1, 2, 0) > 1 - SAME).any(0)
    return same.fill_diagonal_(False)

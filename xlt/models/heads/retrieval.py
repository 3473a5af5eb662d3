"""Head for retrieval. N tokens, S sequences, R rows, D hidden width."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from xlt.batch.packing import Packing
from xlt.models.encoders.text import sum_by_sequence
from xlt.models.heads.head import Columns, Head

SAME = 1e-5
"""Vectors whose cosine is so near 1 are of the same sentence."""


class RankingHead(Head):
    """Cosines of sentences and translations, read off the mean of the states and off the first token's.

    The mean is what retrieval compares, the first token what classification reads and LaBSE ranks by (Feng et
    al. 2022, section 3.1).

    Args:
        scale: What cosines are multiplied by.
        margin: What is taken off the cosine of a true pair.
        sides: Sentences of a row: 2 with its translation, 1 where only vectors are wanted.
    """

    def __init__(self, scale: float, margin: float, sides: int = 2) -> None:
        super().__init__()
        self.scale, self.margin, self.sides = scale, margin, sides

    def forward(
        self, states: Float[Tensor, "N D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "2 R sides D"]:
        """Vectors of length 1 of each row's sentences: means, then first tokens."""
        # The mean's length does not count, so neither does the number of tokens.
        readings = torch.stack([sum_by_sequence(states, packing), states[packing.starts]])
        return F.normalize(readings, dim=-1).view(2, -1, self.sides, states.shape[1])

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Cross-entropy of the true pair, the mean of both directions and readings, summed over rows.

        A sentence that stands twice in the micro-batch is no wrong answer.
        """
        # A mean tells equal sentences; first tokens may be alike of any two.
        alike = _alike(logits[0].detach())
        losses = [self._loss(vectors, alike) for vectors in logits.unbind()]
        return torch.stack(losses).mean()

    def _loss(self, vectors: Float[Tensor, "R 2 D"], alike: Bool[Tensor, "R R"]) -> Float[Tensor, ""]:
        """The loss of one reading."""
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = vectors[:, 0] @ vectors[:, 1].T
        own = torch.arange(len(cosines), device=cosines.device)
        scores = self.scale * (cosines - self.margin * torch.eye(len(cosines), device=cosines.device))
        scores = scores.masked_fill(alike, -torch.inf)
        both = F.cross_entropy(scores, own, reduction="sum") + F.cross_entropy(scores.T, own, reduction="sum")
        return both / 2

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """The means' vectors."""
        return {"vectors": logits[0].float()}


def _alike(vectors: Float[Tensor, "R 2 D"]) -> Bool[Tensor, "R R"]:
    """Which two rows, not one and the same, have a side in common."""
    same = (vectors.transpose(0, 1) @ vectors.permute(1, 2, 0) > 1 - SAME).any(0)
    return same.fill_diagonal_(False)

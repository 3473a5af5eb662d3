"""Heads that learn from plain text. N tokens, M of them hidden, R rows, D hidden width, V vocabulary."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xlt.models.encoder import Encoder, sum_by_sequence
from xlt.models.heads import Columns, Head
from xlt.packing import Packing

SAME = 1e-5
"""Vectors whose cosine is so near 1 are of the same sentence."""


class MaskedHead(Head):
    """XLM-R's head for hidden tokens, whose output weights are the encoder's word embeddings.

    Its parameters have the names of `lm_head` in transformers' XLMRobertaForMaskedLM.

    Args:
        hidden_size: Width of the encoder, D.

    Source: Liu et al. (2019), as `XLMRobertaLMHead` of transformers has it.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=1e-5)
        self.bias = nn.Parameter(torch.zeros(0))
        self._words: list[nn.Embedding] = []

    def tie(self, encoder: Encoder) -> None:
        """Share the encoder's word embeddings, and take the head it was trained with where it has one."""
        # In a list, so that the table is not counted a second time among the parameters.
        self._words = [encoder.words]
        self.bias = nn.Parameter(torch.zeros(encoder.words.num_embeddings))
        trained = encoder.masked_head()
        if trained:
            self.load_state_dict(trained)

    def places(self, packing: Packing, columns: Columns) -> Int[Tensor, " M"]:
        """The hidden tokens."""
        return columns["places"]

    def forward(
        self, states: Float[Tensor, "M D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "M V"]:
        """A logit for each piece of the vocabulary."""
        hidden = self.layer_norm(F.gelu(self.dense(states)))
        return F.linear(hidden, self._words[0].weight, self.bias).float()

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Cross-entropy, summed over the hidden tokens."""
        return F.cross_entropy(logits, columns["targets"], reduction="sum")

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Each hidden token's likeliest piece, the true one, and the loss in nats."""
        targets = columns["targets"]
        return {
            "prediction": logits.argmax(-1),
            "target": targets,
            "loss": F.cross_entropy(logits, targets, reduction="none"),
            "counts": columns["counts"],
        }


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

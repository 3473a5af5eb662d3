"""Head for tagging. D hidden width, C classes."""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.heads.head import Columns, Form, Head
from xlt.models.kernels.dropout import Dropout


class TaggingHead(Head):
    """Head that chooses one class for each word.

    Args:
        hidden_size: Width of the encoder, D.
        num_labels: Number of classes, C.
        dropout: Dropout probability.
    """

    form: ClassVar[Form | None] = "token-classification"

    def __init__(self, hidden_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, num_labels)
        self.transform: nn.Module | None = None

    def adapt(self, transform: nn.Module) -> None:
        """Read states through the encoder's own transform."""
        self.transform = transform

    def token_indices(self, packing: Packing, columns: Columns) -> Int[Tensor, " words"]:
        """Return the first token of each word."""
        return columns["token_indices"]

    def forward(
        self, states: Float[Tensor, "words D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "words C"]:
        """Return class logits of each word."""
        if self.transform is not None:
            states = self.transform(states)
        return self.out_proj(self.dropout(states)).float()

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the cross-entropy, summed over the words whose tag is a class."""
        return F.cross_entropy(logits, columns["targets"], ignore_index=-1, reduction="sum")

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the most probable class of each word."""
        return {"prediction": logits.argmax(-1), "counts": columns["counts"]}

    def probabilities(self, logits: Float[Tensor, "words C"]) -> Float[Tensor, "words C"]:
        """Return the softmax of each word's logits."""
        return logits.softmax(-1)

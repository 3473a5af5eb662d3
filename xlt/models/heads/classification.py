"""Heads for classification and multiple choice. S sequences, R rows, D hidden width, C classes or choices."""

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.heads.head import Columns, Form, Head
from xlt.models.kernels.dropout import Dropout


class Pooler(nn.Module):
    """RoBERTa's classification head: a hidden layer on the first token's state, with tanh by default.

    Args:
        hidden_size: Width of the encoder, D.
        num_outputs: Number of outputs of each sequence.
        dropout: Dropout probability.

    Source: Liu et al. (2019), as implemented in `RobertaClassificationHead` of transformers.
    """

    def __init__(self, hidden_size: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, num_outputs)
        self.transform: nn.Module | None = None
        self.activation: Callable[[Tensor], Tensor] = torch.tanh

    def forward(self, states: Float[Tensor, "S D"]) -> Float[Tensor, "S outputs"]:
        """Return one vector of outputs a sequence, from its first token's state."""
        if self.transform is not None:
            return self.out_proj(self.dropout(self.transform(states))).float()
        hidden = self.dropout(self.activation(self.dense(self.dropout(states))))
        return self.out_proj(hidden).float()


class ClassificationHead(Head):
    """Head that chooses one class for each sequence.

    Args:
        hidden_size: Width of the encoder, D.
        num_labels: Number of classes, C.
        dropout: Dropout probability.
    """

    form: ClassVar[Form | None] = "text-classification"

    def __init__(self, hidden_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.pooler = Pooler(hidden_size, num_labels, dropout)

    def adapt(self, transform: nn.Module) -> None:
        """Replace the hidden layer with the encoder's own transform of states."""
        del self.pooler.dense
        self.pooler.transform = transform

    def token_indices(self, packing: Packing, columns: Columns) -> Int[Tensor, " S"]:
        """Return the first token of each sequence."""
        return packing.starts

    def forward(
        self, states: Float[Tensor, "S D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "R C"]:
        """Return class logits."""
        return self.pooler(states)

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the cross-entropy, summed over rows."""
        return F.cross_entropy(logits, columns["targets"], reduction="sum")

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the most probable class of each row."""
        return {"prediction": logits.argmax(-1)}

    def probabilities(self, logits: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
        """Return the softmax of each row's logits."""
        return logits.softmax(-1)


class ChoiceHead(ClassificationHead):
    """Head that chooses one of a row's neighbouring sequences by a score of each.

    Args:
        hidden_size: Width of the encoder, D.
        num_choices: Number of choices of every row, C.
        dropout: Dropout probability.
    """

    form: ClassVar[Form | None] = "multiple-choice"

    def __init__(self, hidden_size: int, num_choices: int, dropout: float) -> None:
        super().__init__(hidden_size, 1, dropout)
        self.num_choices = num_choices

    def forward(
        self, states: Float[Tensor, "S D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "R C"]:
        """Return a logit for each choice."""
        return self.pooler(states).view(-1, self.num_choices)

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the most probable choice of each row, and the range of the logits of its choices."""
        spread = logits.amax(-1) - logits.amin(-1)
        return super().predict(logits, packing, columns) | {"spread": spread}

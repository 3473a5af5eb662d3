"""Head: a task's part of the model, on the token states of the shared encoder.

N tokens, M of them read, S sequences, D hidden width.
"""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.encoders.text import Encoder

Columns = dict[str, Tensor]
"""A batch's columns by name."""


class Head(nn.Module, ABC):
    """What a task puts on the shared encoder."""

    def tie(self, encoder: Encoder) -> None:
        """Take what the head shares with the encoder; called once, when both are there."""

    def token_indices(self, packing: Packing, columns: Columns) -> Int[Tensor, " M"] | None:
        """Which tokens' states the head reads, ascending; None for all."""
        return None

    @abstractmethod
    def forward(self, states: Float[Tensor, "M D"], packing: Packing, columns: Columns) -> Tensor:
        """Logits from the states of the tokens it reads."""

    @abstractmethod
    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Cross-entropy in nats, summed over the micro-batch's terms."""

    @abstractmethod
    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """What the metric needs, a leading entry a row; `counts` says how many where they vary."""

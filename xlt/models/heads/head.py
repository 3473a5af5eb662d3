"""Head: the task's part of the model, which reads token states of the shared encoder.

N tokens, M of them read, S sequences, D hidden width, C classes.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.encoders.text import Encoder

Columns = dict[str, Tensor]
"""A batch's columns by name."""

Form = Literal[
    "text-classification",
    "multiple-choice",
    "token-classification",
    "question-answering",
    "fill-mask",
    "sentence-similarity",
]
"""Name of a task on the Hugging Face hub, and of the form that transformers gives to the task's model.

Source: https://huggingface.co/tasks.
"""


class Head(nn.Module, ABC):
    """The task's part of the model, on top of the shared encoder."""

    form: ClassVar[Form | None] = None
    """Form of the head in transformers, in which `xlt export` writes it; None if transformers has none.

    A subclass with another `forward` names its own form."""

    @classmethod
    def exported_form(cls) -> Form | None:
        """Return the form of the head in transformers; None if it has no form, or another `forward`."""
        bases = cls.mro()
        named = next(i for i, base in enumerate(bases) if "form" in vars(base))
        computed = next(i for i, base in enumerate(bases) if "forward" in vars(base))
        return cls.form if named <= computed else None

    def adapt(self, transform: nn.Module) -> None:
        """Read states through the encoder's own transform. Called before weights are drawn or loaded."""

    def tie(self, encoder: Encoder) -> None:
        """Share parameters with the encoder. Called once, before training."""

    def token_indices(self, packing: Packing, columns: Columns) -> Int[Tensor, " M"] | None:
        """Return the ascending indices of the tokens whose states the head reads; None for all tokens."""
        return None

    @abstractmethod
    def forward(self, states: Float[Tensor, "M D"], packing: Packing, columns: Columns) -> Tensor:
        """Return logits from the states of the tokens that the head reads."""

    @abstractmethod
    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the cross-entropy in nats, summed over the micro-batch's terms."""

    @abstractmethod
    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the outputs that the metric needs, by name, each with one entry per row.

        If rows have several values, the values lie end to end, and `counts` holds their number in each row.
        """

    def probabilities(self, logits: Tensor) -> Float[Tensor, "values C"] | None:
        """Return the probability of each class for each value of `prediction`.

        Return None for a head that does not choose among classes.
        """
        return None

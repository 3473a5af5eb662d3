"""Head for masked language modelling. M hidden tokens, D hidden width, V vocabulary."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.encoders.text import Encoder
from xlt.models.heads.head import Columns, Form, Head


class MaskedHead(Head):
    """The encoder's own head for hidden tokens, whose output weights are the word embeddings.

    The parameters have the names of `lm_head` in transformers' XLMRobertaForMaskedLM, in all families.

    Args:
        hidden_size: Width of the encoder, D.

    Source: Liu et al. (2019), as implemented in `XLMRobertaLMHead` of transformers.
    """

    form: ClassVar[Form | None] = "fill-mask"

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size)
        self.bias = nn.Parameter(torch.zeros(0))
        self._words: list[nn.Embedding] = []

    def tie(self, encoder: Encoder) -> None:
        """Share the encoder's word embeddings, and load the encoder's pretrained head if there is one."""
        names, config = encoder.family.masked_names, encoder.config
        self.layer_norm.eps = getattr(config, names.epsilon)
        if not getattr(config, "classifier_bias", True):
            self.dense.register_parameter("bias", None)
        if not getattr(config, "norm_bias", True):
            self.layer_norm.register_parameter("bias", None)
        # A list keeps the table from being registered as a parameter a second time.
        self._words = [encoder.words]
        self.bias = nn.Parameter(torch.zeros(encoder.words.num_embeddings))
        trained = encoder.masked_head()
        if trained:
            self.load_state_dict(trained)

    def token_indices(self, packing: Packing, columns: Columns) -> Int[Tensor, " M"]:
        """Return the hidden tokens."""
        return columns["token_indices"]

    def forward(
        self, states: Float[Tensor, "M D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "M V"]:
        """Return a logit for each token of the vocabulary."""
        hidden = self.layer_norm(F.gelu(self.dense(states)))
        return F.linear(hidden, self._words[0].weight, self.bias).float()

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the cross-entropy, summed over the hidden tokens."""
        return F.cross_entropy(logits, columns["targets"], reduction="sum")

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return each hidden token's most probable token, the true token, and the loss in nats."""
        targets = columns["targets"]
        return {
            "prediction": logits.argmax(-1),
            "target": targets,
            "loss": F.cross_entropy(logits, targets, reduction="none"),
            "counts": columns["counts"],
        }

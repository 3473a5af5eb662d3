"""Head for span extraction. N tokens, S sequences, D hidden width, W positions of the longest sequence."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.heads.head import Columns, Form, Head
from xlt.models.kernels.dropout import Dropout


class SpanHead(Head):
    """Head that finds the span of an answer in each sequence. The first token stands for no answer.

    Args:
        hidden_size: Width of the encoder, D.
        dropout: Dropout probability.
        num_best: Number of best starts, and of best ends, that the candidate spans are made of.
        max_answer_length: Maximum number of tokens in a span.

    Source: Devlin et al. (2019), section 4.2–4.3, and run_squad (n-best, spans of at most 30 tokens).
    """

    form: ClassVar[Form | None] = "question-answering"

    def __init__(self, hidden_size: int, dropout: float, num_best: int, max_answer_length: int) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, 2)
        self.num_best, self.max_answer_length = num_best, max_answer_length
        self.transform: nn.Module | None = None

    def adapt(self, transform: nn.Module) -> None:
        """Read states through the encoder's own transform."""
        self.transform = transform

    def forward(
        self, states: Float[Tensor, "N D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "S W 2"]:
        """Return start and end logits at each position; -inf outside the first token and the passage."""
        if self.transform is not None:
            states = self.transform(states)
        logits = self.out_proj(self.dropout(states)).float()
        position = torch.arange(packing.longest, device=logits.device)
        passage = columns["passage"].view(-1, 2)
        allowed = (position >= passage[:, :1]) & (position < passage[:, 1:])
        allowed[:, 0] = True
        index = packing.starts[:, None] + torch.where(allowed, position, 0)
        return logits[index].masked_fill(~allowed[..., None], -torch.inf)

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return the mean of the cross-entropies of start and end, summed over sequences."""
        targets = columns["targets"].view(-1, 2)
        return F.cross_entropy(logits, targets, reduction="sum") / 2

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return start, end and score of each sequence's best span, and the score of no answer (`null`).

        The score is -inf if no span fits into the passage. A span's probability is exp(score - total), where
        `total` is the log-sum-exp of all starts plus that of all ends.
        """
        null = logits[:, 0].sum(-1)
        inner = logits.clone()
        inner[:, 0] = -torch.inf
        width = min(self.num_best, logits.shape[1])
        start, start_at = inner[..., 0].topk(width)
        end, end_at = inner[..., 1].topk(width)
        length = end_at[:, None, :] - start_at[:, :, None] + 1
        fits = (length > 0) & (length <= self.max_answer_length)
        pairs = (start[:, :, None] + end[:, None, :]).masked_fill(~fits, -torch.inf).flatten(1)
        # max would choose another one of equal spans than topk, which are common in bf16.
        scores, order = pairs.topk(min(self.num_best, pairs.shape[1]))
        best = order[:, :1]
        return {
            "start": start_at.gather(1, best // width)[:, 0],
            "end": end_at.gather(1, best % width)[:, 0],
            "score": scores[:, 0],
            "null": null,
            "total": logits.logsumexp(1).sum(-1),
        }

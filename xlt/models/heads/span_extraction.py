"""Head for span extraction. N tokens, S sequences, D hidden width, W positions of the longest sequence."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.heads.head import Columns, Head
from xlt.models.kernels.dropout import Dropout


class SpanHead(Head):
    """Start and end of an answer in each sequence; the first token stands for no answer.

    Args:
        hidden_size: Width of the encoder, D.
        dropout: Probability.
        num_best: Spans kept for each sequence.
        max_answer_length: Most tokens in a span.

    Source: Devlin et al. (2019), section 4.2–4.3, and run_squad (n-best, spans of at most 30 tokens).
    """

    def __init__(self, hidden_size: int, dropout: float, num_best: int, max_answer_length: int) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, 2)
        self.num_best, self.max_answer_length = num_best, max_answer_length

    def forward(
        self, states: Float[Tensor, "N D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "S W 2"]:
        """Start and end logits at each position; -inf but at the first token and in the passage."""
        logits = self.out_proj(self.dropout(states)).float()
        position = torch.arange(packing.longest, device=logits.device)
        passage = columns["passage"].view(-1, 2)
        allowed = (position >= passage[:, :1]) & (position < passage[:, 1:])
        allowed[:, 0] = True
        index = packing.starts[:, None] + torch.where(allowed, position, 0)
        return logits[index].masked_fill(~allowed[..., None], -torch.inf)

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Mean of the cross-entropies of start and end, summed over sequences."""
        targets = columns["targets"].view(-1, 2)
        return F.cross_entropy(logits, targets, reduction="sum") / 2

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Each sequence's best spans (start, end, score) and the score of no answer."""
        null = logits[:, 0].sum(-1)
        inner = logits.clone()
        inner[:, 0] = -torch.inf
        width = min(self.num_best, logits.shape[1])
        start, start_at = inner[..., 0].topk(width)
        end, end_at = inner[..., 1].topk(width)
        length = end_at[:, None, :] - start_at[:, :, None] + 1
        fits = (length > 0) & (length <= self.max_answer_length)
        pairs = (start[:, :, None] + end[:, None, :]).masked_fill(~fits, -torch.inf).flatten(1)
        score, best = pairs.topk(min(self.num_best, pairs.shape[1]))
        # As many for every batch, however short its sequences.
        missing = (0, self.num_best - score.shape[1])
        return {
            "start": F.pad(start_at.gather(1, best // width), missing),
            "end": F.pad(end_at.gather(1, best % width), missing),
            "score": F.pad(score, missing, value=-torch.inf),
            "null": null,
        }

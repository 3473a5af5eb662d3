"""Heads on token states: one forward, one loss summed over its terms, one prediction.

N tokens, M of them read, S sequences, R rows, D hidden width, C classes or choices, W positions of the
longest sequence.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xlt.models.dropout import Dropout
from xlt.models.encoder import Encoder
from xlt.packing import Packing

Columns = dict[str, Tensor]


class Head(nn.Module, ABC):
    """What a task puts on the shared encoder."""

    def tie(self, encoder: Encoder) -> None:
        """Take what the head shares with the encoder; called once, when both are there."""

    def places(self, packing: Packing, columns: Columns) -> Int[Tensor, " M"] | None:
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


class Pooler(nn.Module):
    """RoBERTa's classification head: the first token through a hidden layer and tanh.

    Source: Liu et al. (2019), as `RobertaClassificationHead` of transformers has it.
    """

    def __init__(self, hidden_size: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, num_outputs)

    def forward(self, states: Float[Tensor, "S D"]) -> Float[Tensor, "S outputs"]:
        """One vector of outputs a sequence, from its first token's state."""
        hidden = self.dropout(torch.tanh(self.dense(self.dropout(states))))
        return self.out_proj(hidden).float()


class ClassificationHead(Head):
    """One class a sequence.

    Args:
        hidden_size: Width of the encoder, D.
        num_labels: Classes, C.
        dropout: Probability.
    """

    def __init__(self, hidden_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.pooler = Pooler(hidden_size, num_labels, dropout)

    def places(self, packing: Packing, columns: Columns) -> Int[Tensor, " S"]:
        """The first token of each sequence."""
        return packing.starts

    def forward(
        self, states: Float[Tensor, "S D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "R C"]:
        """Class logits."""
        return self.pooler(states)

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Cross-entropy, summed over rows."""
        return F.cross_entropy(logits, columns["targets"], reduction="sum")

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """The likeliest class of each row."""
        return {"prediction": logits.argmax(-1)}


class ChoiceHead(ClassificationHead):
    """One score a sequence; the choices of a row, neighbouring sequences, compete.

    Args:
        hidden_size: Width of the encoder, D.
        num_choices: Choices of every row, C.
        dropout: Probability.
    """

    def __init__(self, hidden_size: int, num_choices: int, dropout: float) -> None:
        super().__init__(hidden_size, 1, dropout)
        self.num_choices = num_choices

    def forward(
        self, states: Float[Tensor, "S D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "R C"]:
        """A logit for each choice."""
        return self.pooler(states).view(-1, self.num_choices)


class TaggingHead(Head):
    """One class for each labelled token.

    Args:
        hidden_size: Width of the encoder, D.
        num_labels: Classes, C.
        dropout: Probability.
    """

    def __init__(self, hidden_size: int, num_labels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, num_labels)

    def places(self, packing: Packing, columns: Columns) -> Int[Tensor, " words"]:
        """The first token of each word."""
        return columns["places"]

    def forward(
        self, states: Float[Tensor, "words D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "words C"]:
        """Class logits of each word."""
        return self.out_proj(self.dropout(states)).float()

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Cross-entropy, summed over the words whose tag is a class."""
        return F.cross_entropy(logits, columns["targets"], ignore_index=-1, reduction="sum")

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """The likeliest class of each word."""
        return {"prediction": logits.argmax(-1), "counts": columns["counts"]}


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

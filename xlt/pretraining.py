"""The kinds that learn from plain text: masked language modelling, and the ranking of translations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from xlt.data.encode import TextEncoder
from xlt.data.examples import Text
from xlt.data.features import Columns, Features
from xlt.data.masking import Masking
from xlt.metrics.classification import accuracy, majority
from xlt.models.heads import Head
from xlt.models.neighbours import nearest
from xlt.models.text_heads import MaskedHead, RankingHead
from xlt.task import Outputs, Scores, Task, sequence_columns

TIE = 1e-6
"""Cosines that differ by less are equal: the same sentence may stand twice among the translations."""


def _check_translation(example: Text) -> None:
    """Raise ValueError for a text whose translation is None."""
    if example.translation is None:
        raise ValueError("translation must be text, not None: an empty translation is ''")


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling(Task[Text]):
    """Guess hidden tokens of a text, or of a text and its translation read together (TLM).

    A text beyond data.max_length makes several rows; the longer side of a pair is cut. Positions
    run on through a pair, as XLM-R reads pairs, where XLM begins the translation at 0 again.

    Args:
        share: Of the tokens, the part to guess.
        with_translation: True if the examples are texts with their translations (TLM).

    Source: Devlin et al. (2019), section 3.1; TLM of Conneau and Lample (2019), section 3.3.
    """

    share: float = 0.15
    with_translation: bool = False

    inputs: ClassVar[tuple[str, ...]] = ()

    is_plain_text: ClassVar[bool] = True

    def check(self, example: Text) -> None:
        """Refuse a text without a translation if the task reads both."""
        if self.with_translation:
            _check_translation(example)

    def is_labelled(self, example: Text) -> bool:
        """Whether there is text."""
        return bool(example.text.strip())

    def masking(self, text: TextEncoder) -> Masking:
        """The share of the tokens, special ones left out."""
        tokenizer = text.tokenizer
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"the tokenizer of model.encoder has no mask token, which {self.name} needs: name "
                "mask_token in its tokenizer_config.json"
            )
        return Masking(int(tokenizer.mask_token_id), text.special, text.num_ids, self.share)  # type: ignore[arg-type]

    def encode(self, examples: Sequence[Text], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """A row a piece of text, or a pair; `weight` is the number of tokens to guess."""
        pairs = iter(text.pairs([(e.text, e.translation) for e in examples if e.translation is not None]))
        rows = [text.pieces(e.text) if e.translation is None else [next(pairs)] for e in examples]
        columns = sequence_columns([piece for row in rows for piece in row], 1, first)
        masking = self.masking(text)
        columns["weight"] = [[masking.num_masked(ids)] for ids in columns["input_ids"]]
        columns["example"] = [[first + i] for i, row in enumerate(rows) for _ in row]
        return columns, sum(piece.is_cut for row in rows for piece in row)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """XLM-R's own head, with the weights that it was trained with where the encoder has them."""
        return MaskedHead(hidden_size)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Accuracy over the hidden tokens; their loss in nats, and its exponential, the perplexity."""
        targets, found, losses = (
            torch.from_numpy(np.hstack(outputs[name])) for name in ("target", "prediction", "loss")
        )
        loss = losses.double().mean().item()
        return Scores(
            {"accuracy": accuracy(found, targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {"loss": loss, "perplexity": float(np.exp(loss)), "tokens": float(len(targets))},
        )


@dataclass(frozen=True, kw_only=True)
class TranslationRanking(Task[Text]):
    """Find each sentence's translation among those of the micro-batch: trains what retrieval tests.

    Args:
        scale: What cosines are multiplied by.
        margin: What is taken off the cosine of a true pair.

    Source: Yang et al. (2019), https://arxiv.org/abs/1902.08564, as in LaBSE (Feng et al. 2022), section 3.1.
    """

    scale: float = 20.0
    margin: float = 0.1

    inputs: ClassVar[tuple[str, ...]] = ()

    is_plain_text: ClassVar[bool] = True

    def check(self, example: Text) -> None:
        """Refuse a text without a translation."""
        _check_translation(example)

    def is_labelled(self, example: Text) -> bool:
        """Whether both sides have text."""
        return bool(example.text.strip() and (example.translation or "").strip())

    def encode(self, examples: Sequence[Text], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Two sequences a row: a sentence and its translation."""
        encoded = text.singles([side for e in examples for side in (e.text, e.translation or "")])
        cut = {i // 2 for i, piece in enumerate(encoded) if piece.is_cut}
        return sequence_columns(encoded, 2, first), len(cut)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A head without weights: the mean of each sequence's states."""
        return RankingHead(self.scale, self.margin)

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Share of the sentences whose translation is the nearest of all, mean of both directions."""
        vectors = torch.from_numpy(np.stack(outputs["vectors"])).float()
        one, other = vectors[:, 0].contiguous(), vectors[:, 1].contiguous()
        gold = (one * other).sum(-1, keepdim=True)
        found = [
            (gold >= nearest(*sides, 1).scores - TIE).double().mean()
            for sides in ((one, other), (other, one))
        ]
        return Scores({"accuracy": 50 * float(sum(found))}, {"accuracy": 100 / len(rows)}, {})

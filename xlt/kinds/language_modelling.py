"""Language modelling: the hidden tokens of plain text, or of a text and its translation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder
from xlt.data.examples import Text
from xlt.data.features import Columns
from xlt.data.sampling.masking import Masking
from xlt.kinds.columns import sequence_columns
from xlt.kinds.task import Scores, Task
from xlt.metrics.classification import accuracy, majority
from xlt.metrics.collapse import collapse_details
from xlt.models.heads.head import Head
from xlt.models.heads.language_modelling import MaskedHead


def check_translation(example: Text) -> None:
    """Raise ValueError for a text whose translation is None."""
    if example.translation is None:
        raise ValueError("translation must be text, not None. Give '' for an empty translation")


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling(Task[Text]):
    """Prediction of hidden tokens of a text, or of a text and its translation read together (TLM).

    A text longer than data.max_length becomes several rows. In a pair, the longer side is truncated.
    Positions continue from a text to its translation, as XLM-R reads pairs; XLM restarts them at 0.

    Args:
        mlm_probability: Share of the tokens to predict, 0 to 1.
        with_translation: True if the examples are texts with their translations (TLM).

    Source: Devlin et al. (2019), section 3.1; TLM of Conneau and Lample (2019), section 3.3.
    """

    mlm_probability: float = 0.15
    with_translation: bool = False

    inputs: ClassVar[tuple[str, ...]] = ()

    is_plain_text: ClassVar[bool] = True

    def check(self, example: Text) -> None:
        """Raise ValueError for a text without a translation if the task reads both."""
        if self.with_translation:
            check_translation(example)

    def is_labelled(self, example: Text) -> bool:
        """Return True if the text is not blank."""
        return bool(example.text.strip())

    def masking(self, text: TextEncoder) -> Masking:
        """Return the rule that hides `mlm_probability` of the tokens, special tokens excluded.

        Raises:
            ValueError: The tokenizer has no mask token.
        """
        tokenizer = text.tokenizer
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f"the tokenizer of model.encoder has no mask token, which {self.name} needs: name "
                "mask_token in its tokenizer_config.json"
            )
        return Masking(int(tokenizer.mask_token_id), text.special_ids, text.num_ids, self.mlm_probability)  # type: ignore[arg-type]

    def encode(self, examples: Sequence[Text], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each piece of text, or each pair, as a row. `weight` is the number of tokens to predict."""
        pairs = iter(text.pairs([(e.text, e.translation) for e in examples if e.translation is not None]))
        rows = [text.pieces(e.text) if e.translation is None else [next(pairs)] for e in examples]
        columns = sequence_columns([piece for row in rows for piece in row], 1, first)
        masking = self.masking(text)
        columns["weight"] = [[masking.num_masked(ids)] for ids in columns["input_ids"]]
        columns["example"] = [[first + i] for i, row in enumerate(rows) for _ in row]
        return columns, sum(piece.is_cut for row in rows for piece in row)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return XLM-R's own head, with its pretrained weights if the encoder has them."""
        return MaskedHead(hidden_size)

    def score(self, predictions: Predictions) -> Scores:
        """Return accuracy over the hidden tokens, with their mean loss in nats and its exponential."""
        targets = predictions.joined("target")
        loss = predictions.joined("loss").double().mean().item()
        return Scores(
            {"accuracy": accuracy(predictions.classes, targets)},
            {"accuracy": accuracy(majority(targets), targets)},
            {"loss": loss, "perplexity": float(np.exp(loss)), "tokens": float(len(targets))}
            | collapse_details(predictions.classes.tolist(), targets.tolist()),
        )

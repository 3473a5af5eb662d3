"""Classification of a text, or a pair of texts, about images: single stream, images as tokens.

Source: Bugliarello et al. (2022), https://arxiv.org/abs/2201.11732 (IGLUE): XVNLI, xGQA and MaRVL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from xlt.batch.predictions import Predictions
from xlt.data.class_names import ClassNumber, is_missing, name_of
from xlt.data.encode import TextEncoder
from xlt.data.examples import UNLABELLED, ImageTextPair, TextPair
from xlt.data.features import FIRST_SEGMENTS, Columns
from xlt.data.image_store import IMAGE_KEY, Imagery, image_keys
from xlt.kinds.classification import Classification
from xlt.kinds.task import Scores

UNSEEN = -1
"""Target of a row whose answer is not a class of the training rows."""


@dataclass(frozen=True, kw_only=True)
class VisualClassification(Classification):
    """One class for a text, or a pair of texts, about images, scored by accuracy.

    Each image becomes `data.image_tokens` tokens after the first token of the sequence. They do not count for
    `data.max_length`. An answer that is not in the training split counts as an error. Detail `unseen_answers`
    is the number of such answers.

    Args:
        num_images: Number of images of every row.
        has_open_labels: True if the classes are the answers of the training split, as in GQA.
    """

    num_images: int = 1
    has_open_labels: bool = False

    def with_labels_of(self, examples: Iterable[TextPair]) -> Self:
        """Return the task with the sorted answers of the training examples, unless the task has classes."""
        if self.labels or not self.has_open_labels:
            return self
        used = {str(example.label) for example in examples if self.is_labelled(example)}
        return self.settled(sorted(used))

    def by_name(self, example: TextPair) -> TextPair:
        """Return the example with the index of its label, or with its answer if the classes are open."""
        if not self.has_open_labels:
            return super().by_name(example)
        answer = example.label
        named = name_of(answer) if isinstance(answer, ClassNumber) else answer
        return example if is_missing(named) else replace(example, label=str(named))

    def classes(self, example: TextPair) -> Sequence[str]:
        """Return the label's name."""
        return [str(example.label)] if self.has_open_labels else super().classes(example)

    def check(self, example: TextPair) -> None:
        """Raise ValueError for an unknown label, a wrong number of texts, or a wrong number of images."""
        super().check(example)
        if not isinstance(example, ImageTextPair):
            raise ValueError(
                f"read returned a {type(example).__name__}: a task about images needs an ImageTextPair"
            )
        if len(example.images) != self.num_images:
            raise ValueError(
                f"the row has {len(example.images)} images, but the TASK sets num_images={self.num_images}"
            )

    def _index(self, example: TextPair) -> int:
        """Return the index of the label, or -1 for an example without a label, or with an unseen answer."""
        if not self.has_open_labels:
            return super()._index(example)
        return self.labels.index(str(example.label)) if example.label in self.labels else UNSEEN

    def is_labelled(self, example: TextPair) -> bool:
        """Return True if the example has a label."""
        if not self.has_open_labels:
            return super().is_labelled(example)
        return not is_missing(example.label) and example.label not in ("-", UNLABELLED)

    def encode(self, examples: Sequence[TextPair], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each example as a row of one sequence, with pad tokens in place of its images.

        Raises:
            ValueError: The tokenizer has no pad token.
        """
        columns, num_cut = super().encode(examples, first, text)
        images = [example.images if isinstance(example, ImageTextPair) else () for example in examples]
        pads = [[_pad_token(text)] * (text.image_tokens * len(own)) for own in images]
        rows = zip(columns["input_ids"], pads, strict=True)
        ids = [[*tokens[:1], *pad, *tokens[1:]] for tokens, pad in rows]
        changed = {"input_ids": ids, "lengths": [[len(tokens)] for tokens in ids]}
        if FIRST_SEGMENTS in columns:
            firsts = zip(columns[FIRST_SEGMENTS], pads, strict=True)
            changed[FIRST_SEGMENTS] = [[first + len(pad)] for (first,), pad in firsts]
        return {**columns, **changed, IMAGE_KEY: [image_keys(own) for own in images]}, num_cut

    def imagery(self) -> Imagery:
        """Return the use of images: each becomes tokens of the sequence."""
        return Imagery(as_tokens=True)

    def score(self, predictions: Predictions) -> Scores:
        """Return accuracy, with the number of unseen answers if the classes are open."""
        scores = super().score(predictions)
        if not self.has_open_labels:
            return scores
        unseen = float((predictions.targets == UNSEEN).sum())
        return scores._replace(details={"unseen_answers": unseen} | scores.details)


def _pad_token(text: TextEncoder) -> int:
    """Return the id of the token that stands for a part of an image.

    Raises:
        ValueError: The tokenizer has no pad token.
    """
    token = text.tokenizer.pad_token_id
    if not isinstance(token, int):
        raise ValueError(
            "the tokenizer of model.encoder has no pad token, which stands for images: name pad_token in its "
            "tokenizer_config.json"
        )
    return token

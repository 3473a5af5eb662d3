"""Distillation: a student's sentence vectors learn those of a teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder
from xlt.data.examples import Text
from xlt.data.features import Columns
from xlt.data.teacher import TEACHER, TEXT_KEY, Teacher, Teaching, text_key
from xlt.kinds.columns import sequence_columns
from xlt.kinds.language_modelling import check_translation
from xlt.kinds.task import Scores, Task
from xlt.metrics.neighbours import nearest
from xlt.models.encoders.text import load_config
from xlt.models.heads.distillation import DistillationHead
from xlt.models.heads.head import Head

TIE = 1e-6
"""Tolerance of equal cosines. The same text may occur twice among the rows."""


@dataclass(frozen=True, kw_only=True)
class Distillation(Task[Text]):
    """Imitation of a teacher's sentence vectors by cosine, with a contrast to vectors of other sentences.

    The student's vector is the mean of its last layer's states over all tokens of a sentence. On plain text,
    it learns the teacher's vector of the same text. On pairs, the vectors of both sides learn the teacher's
    vector of the translation.

    Args:
        teacher: The teacher.
        with_translation: True if the examples are texts with their translations.
        temperature: Divisor of the cosines in the contrast, above 0.
        contrast: Factor of the contrast. 0 leaves the cosine alone.
        num_negatives: Number of rows of the same split that are drawn in each step. Their teacher vectors are
            the wrong answers of the contrast.

    Source: Reimers and Gurevych (2020), https://arxiv.org/abs/2004.09813, section 2.
    """

    teacher: Teacher
    with_translation: bool = False
    temperature: float = 0.02
    contrast: float = 1.0
    num_negatives: int = 512

    inputs: ClassVar[tuple[str, ...]] = (TEACHER,)

    is_plain_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.temperature <= 0 or self.num_negatives < 1:
            raise ValueError(
                f"temperature is {self.temperature} and num_negatives is {self.num_negatives}: temperature "
                "must be above 0, and num_negatives at least 1"
            )

    def check(self, example: Text) -> None:
        """Raise ValueError for a text without a translation if the task reads both."""
        if self.with_translation:
            check_translation(example)

    def is_labelled(self, example: Text) -> bool:
        """Return True if no side is blank."""
        return all(side.strip() for side in self._sides(example))

    def _sides(self, example: Text) -> list[str]:
        """Return the texts that the student reads. The teacher reads the last of them."""
        return [example.text, example.translation or ""] if self.with_translation else [example.text]

    def encode(self, examples: Sequence[Text], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each example as a row of a sequence, or of two, with the hash of the teacher's text."""
        sides = [self._sides(example) for example in examples]
        per_row = 1 + self.with_translation
        encoded = text.singles([side for row in sides for side in row])
        columns = sequence_columns(encoded, per_row, first)
        columns[TEXT_KEY] = [text_key(row[-1]) for row in sides]
        return columns, len({i // per_row for i, piece in enumerate(encoded) if piece.is_cut})

    def teaching(self) -> Teaching:
        """Return the teacher, the text that it reads, and the number of negatives."""
        return Teaching(self.teacher, lambda example: self._sides(example)[-1], self.num_negatives)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a head with a linear map from the student's space to the teacher's."""
        teacher_size = load_config(self.teacher.encoder).hidden_size
        return DistillationHead(hidden_size, teacher_size, self.temperature, self.contrast)

    def score(self, predictions: Predictions) -> Scores:
        """Return the share of sentences whose own teacher vector is the nearest of all rows, in percent.

        The figure `cosine` is the mean cosine of a sentence with its teacher vector.
        """
        vectors = predictions.vectors
        own = torch.from_numpy(predictions.gather(TEACHER)).view(len(vectors), -1)
        cosines = (vectors * F.normalize(own, dim=-1)[:, None]).sum(-1)
        found = [
            float((cosines[:, i] >= nearest(side.contiguous(), own, 1).scores[:, 0] - TIE).double().mean())
            for i, side in enumerate(vectors.unbind(1))
        ]
        return Scores(
            {"accuracy": 100 * sum(found) / len(found)},
            {"accuracy": 100 / len(predictions)},
            {"cosine": float(cosines.double().mean())},
        )

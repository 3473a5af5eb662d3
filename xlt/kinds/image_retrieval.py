"""Retrieval of images by captions and of captions by images: dual encoder.

Source: Bugliarello et al. (2022), https://arxiv.org/abs/2201.11732 (IGLUE): xFlickr&CO; contrast of Radford
et al. (2021), https://arxiv.org/abs/2103.00020.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder
from xlt.data.examples import ImageCaption
from xlt.data.features import Columns
from xlt.data.image_store import IMAGE_KEY, Imagery, image_keys
from xlt.kinds.columns import sequence_columns
from xlt.kinds.task import Scores, Task
from xlt.metrics.collapse import collapse_details
from xlt.metrics.image_retrieval import Ranking, rank
from xlt.models.heads.head import Head
from xlt.models.heads.image_retrieval import ImageTextHead


@dataclass(frozen=True, kw_only=True)
class VisualRetrieval(Task[ImageCaption]):
    """Search for the image of each caption and for a caption of each image, scored by recall at 1.

    Images are the distinct images of the split. An image is found by its captions if one of them is the
    nearest. The score is the mean of both directions. Recalls at 5 and 10 are details.

    Args:
        size: Width of the common space of captions and images.
        num_negatives: Number of images of the split to draw in each step as wrong answers, in addition to
            those of the micro-batch.
    """

    size: int = 256
    num_negatives: int = 512

    inputs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.size < 1 or self.num_negatives < 0:
            raise ValueError(
                f"size is {self.size} and num_negatives is {self.num_negatives}: size must be at least 1, "
                "and num_negatives at least 0"
            )

    def is_labelled(self, example: ImageCaption) -> bool:
        """Return True if the caption is not blank."""
        return bool(example.text.strip())

    def encode(self, examples: Sequence[ImageCaption], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each caption as a row of one sequence, with the key of its image."""
        encoded = text.singles([example.text for example in examples])
        keys = {IMAGE_KEY: [image_keys(example.images) for example in examples]}
        return sequence_columns(encoded, 1, first) | keys, sum(piece.is_cut for piece in encoded)

    def imagery(self) -> Imagery:
        """Return the use of images: a single vector of each, and `num_negatives` further images in a step."""
        return Imagery(as_tokens=False, num_negatives=self.num_negatives)

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a new head, which maps captions and images into a common space."""
        return ImageTextHead(hidden_size, self.size)

    def _ranking(self, predictions: Predictions) -> Ranking:
        """Return the nearest images and captions."""
        text, image = (
            torch.from_numpy(np.asarray(predictions.outputs[name])).float() for name in ("text", "image")
        )
        keys = np.ascontiguousarray(predictions.gather(IMAGE_KEY).astype(np.int32)).view(np.int64)
        return rank(text, image, keys)

    def score(self, predictions: Predictions) -> Scores:
        """Return recall at 1 of both directions. Chance is 100 divided by the number of images.

        Chance is the same in both directions: of R captions of M images, an image with c captions is found
        with probability c / R, whose mean over images is 1 / M.
        """
        ranking = self._ranking(predictions)
        recalls = ranking.recalls()
        metrics = {name: recalls.pop(name) for name in ("ir_r1", "tr_r1")}
        chance = dict.fromkeys(metrics, 100 / len(ranking.captions))
        collapse = collapse_details(ranking.images[:, 0].tolist(), ranking.image_of.tolist())
        return Scores(metrics, chance, {**recalls, "images": float(len(ranking.captions))} | collapse)

    def example_scores(self, predictions: Predictions) -> np.ndarray | None:
        """Return the mean of both directions for each image with its caption: 0, 50 or 100.

        Return None if an image has several captions.
        """
        ranking = self._ranking(predictions)
        if len(ranking.captions) < len(ranking.images):
            return None
        return 50.0 * (ranking.image_hits(1).astype(float) + ranking.text_hits(1))

"""Projection of image features to the width of the text encoder, and the vision encoder if it is trained.

I images, T tokens of an image, C width of the vision encoder, D hidden width, K negatives.
"""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xlt.batch.batch import Batch
from xlt.batch.images import BatchImages
from xlt.models.encoders.text import Encoder
from xlt.models.encoders.vision import VisionEncoder
from xlt.models.transformers_private import initialise

MAX_IMAGES = 8
"""Maximum number of images of a row."""

IMAGES, IMAGE_IDS = "images", "image_ids"
"""Columns of the vectors of the rows' images, and of numbers that are equal for equal images."""

NEGATIVES, NEGATIVE_IDS = "negatives", "negative_ids"
"""The same columns for the images that are drawn for the step."""


class VisionSettings(NamedTuple):
    """Settings of a model's images.

    Args:
        vision_encoder: Name of the vision encoder.
        image_tokens: Number of tokens that stand for an image.
        width: Width of the vision encoder, C. 0 for a model that was trained without images.
        is_trained: True if the vision encoder is trained with the model.
        is_blind: True if the model was trained without images.
    """

    vision_encoder: str
    image_tokens: int
    width: int
    is_trained: bool = False
    is_blind: bool = False


class Vision(nn.Module):
    """Linear projection of image features, to which the tokens' places are added.

    Args:
        settings: Settings of the images.
        hidden_size: Width of the text encoder, D.
        encoder: The vision encoder, if it is trained. Defaults to None: batches hold features then.
    """

    def __init__(
        self, settings: VisionSettings, hidden_size: int, encoder: VisionEncoder | None = None
    ) -> None:
        super().__init__()
        self.settings, self.encoder = settings, encoder
        self.projector = nn.Linear(settings.width, hidden_size)
        self.grid = nn.Embedding(settings.image_tokens, hidden_size)
        self.number = nn.Embedding(MAX_IMAGES, hidden_size)

    def project(self, features: Float[Tensor, "... C"]) -> Float[Tensor, "... D"]:
        """Return projections of features, each of which is normalised to mean 0 and variance 1 first."""
        return self.projector(F.layer_norm(features.float(), features.shape[-1:]))

    def tokens(self, images: BatchImages) -> Float[Tensor, "tokens D"]:
        """Return the embeddings of the images' tokens, end to end: feature + place in the grid + number."""
        features = self._features(images)
        if self.encoder is not None and self.settings.image_tokens > 1:
            features = features[:, 1:]
        places = self.grid.weight + self.number(images.numbers)[:, None]
        return (self.project(features) + places).flatten(0, 1)

    def vectors(self, images: BatchImages) -> dict[str, Tensor]:
        """Return a column for each head that compares images: vectors and ids, also of the negatives."""
        columns = {IMAGES: self.project(self._features(images)[:, 0]), IMAGE_IDS: images.ids}
        if images.negatives is not None and images.negative_ids is not None:
            columns |= {NEGATIVES: self.project(images.negatives), NEGATIVE_IDS: images.negative_ids}
        return columns

    def _features(self, images: BatchImages) -> Float[Tensor, "I T C"]:
        """Return the features of the images: given, or computed from their pixels."""
        return images.features if self.encoder is None else self.encoder(images.features)


def project_images(batch: Batch, vision: Vision | None) -> Batch:
    """Return the batch with projected images: token embeddings in `images.features`, or vectors as columns.

    Args:
        batch: A micro-batch.
        vision: The projection. None for a model without images.
    """
    images = batch.images
    if images is None or len(images.features) == 0:
        return batch._replace(images=None)
    assert vision is not None
    if images.token_indices.numel() == 0:
        return batch._replace(images=None, columns=batch.columns | vision.vectors(images))
    return batch._replace(images=images._replace(features=vision.tokens(images)))


def new_vision(settings: VisionSettings, hidden_size: int) -> Vision:
    """Return a Vision, which loads the vision encoder if it is trained.

    Args:
        settings: Settings of the images.
        hidden_size: Width of the text encoder, D.

    Raises:
        FileNotFoundError: The vision encoder cannot be loaded.
    """
    if not settings.is_trained:
        return Vision(settings, hidden_size)
    return Vision(settings, hidden_size, VisionEncoder(settings.vision_encoder, settings.image_tokens))


def start_vision(
    settings: VisionSettings | None, encoder: Encoder, earlier: Vision | None, keeps_heads: bool
) -> Vision | None:
    """Return the projection with which a run begins; None for a run without images.

    A run of the same vision encoder starts with the weights of the earlier run. A run without images keeps
    the projection of the earlier run as it is, for later runs.

    Args:
        settings: Settings of the run's images. None if its tasks read text alone.
        encoder: The text encoder.
        earlier: The projection of the run that the encoder comes from. None if it has none.
        keeps_heads: True if the run begins with trained heads.

    Raises:
        FileNotFoundError: The vision encoder cannot be loaded.
        ValueError: The earlier run read text alone, but its heads are kept; or it trained the vision encoder,
            which this run does not.
    """
    if earlier is not None:
        earlier.requires_grad_(False)
    if settings is None or settings.is_blind:
        return earlier
    check_kept_heads(settings, keeps_heads, earlier is not None)
    vision = new_vision(settings, encoder.config.hidden_size)
    for part in (vision.projector, vision.grid, vision.number):
        initialise(part, encoder.transformer)
    if earlier is not None and earlier.settings.vision_encoder == settings.vision_encoder:
        _take_over(vision, earlier)
    return vision


def check_kept_heads(settings: VisionSettings | None, keeps_heads: bool, has_projection: bool) -> None:
    """Check that a run on images does not keep the heads of a run on text.

    Args:
        settings: Settings of the run's images. None if its tasks read text alone.
        keeps_heads: True if the run begins with trained heads.
        has_projection: True if the encoder's folder has a projection of images.

    Raises:
        ValueError: The encoder's folder has heads without a projection.
    """
    if settings is not None and not settings.is_blind and keeps_heads and not has_projection:
        raise ValueError(
            "model.keep_heads is true, but model.encoder has no projection of images, because its run read "
            "only text. Set model.keep_heads to false, or name a run with images"
        )


def _take_over(vision: Vision, earlier: Vision) -> None:
    """Copy weights of equal shape. A grid of another size keeps its new weights.

    Raises:
        ValueError: The earlier run trained the vision encoder, but this run does not.
    """
    if earlier.settings.is_trained and not vision.settings.is_trained:
        raise ValueError(
            "model.encoder has a vision encoder that was trained with it, but model.vision_trainable is "
            "false: set it to true, or name another model.vision_encoder"
        )
    state = vision.state_dict()
    for name, tensor in earlier.state_dict().items():
        if name in state and state[name].shape == tensor.shape:
            state[name].copy_(tensor)

"""Features of images for the models of an evaluation."""

from pathlib import Path
from typing import Any

from xlt.kinds.task import Task
from xlt.models.saving import load_vision_settings
from xlt.splits.illustrating import ImageCache


class ImageCaches:
    """Caches of image features, one for each vision encoder of the models.

    Args:
        cache: Folder of encoded rows.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[tuple[str, int, bool], ImageCache] = {}

    def of(self, task: Task[Any], model: str) -> ImageCache | None:
        """Return the features of images for a model; None if the task or the model reads text alone.

        Args:
            task: The task.
            model: Name of the encoder, or folder of the run.
        """
        vision = load_vision_settings(model)
        if task.imagery() is None or vision is None or vision.is_blind:
            return None
        key = vision.vision_encoder, vision.image_tokens, vision.is_trained
        if key not in self._known:
            self._known[key] = ImageCache(*key, self._cache)
        return self._known[key]

"""Image models of `transformers`, or the image half of models of images and text.

I images, T tokens, C width, g x k grid.
"""

import json
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoImageProcessor, AutoModel

from xlt.models.finite import check_finite
from xlt.system.encoder_files import quietly
from xlt.system.file_errors import raise_of_file

EXAMPLES = (
    "openai/clip-vit-base-patch32, google/siglip2-base-patch16-224, facebook/dinov2-base or, without the "
    "hub, efficientnet-lite0"
)


class ImageModel(nn.Module):
    """Image model of `transformers`, with the size, crop and normalisation of its image processor.

    Args:
        name: A name on the hub, or a folder with the model and its `preprocessor_config.json`.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: The model reads no images, weights are missing, or its image processor does more than
            resize, crop, rescale and normalise to a fixed size.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._where = f"model.vision_encoder {name!r}"
        with quietly():
            self.transformer, self._has_pooler = _load(name, self._where)
            self._processor = _processor(name, self._where)
        self.scale = self._processor.rescale_factor if self._processor.do_rescale else 1.0
        is_normalised = self._processor.do_normalize
        self.mean = tuple(self._processor.image_mean) if is_normalised else (0.0, 0.0, 0.0)
        self.std = tuple(self._processor.image_std) if is_normalised else (1.0, 1.0, 1.0)
        self._check_processor()

    @property
    def processing(self) -> str:
        """Return a text that differs if images are prepared otherwise."""
        settings = json.dumps(self._processor.to_dict(), sort_keys=True, default=str)
        return f"{type(self._processor).__name__} {settings}"

    def resize(self, image: Image.Image) -> np.ndarray:
        """Return an RGB image, resized and cropped by the image processor, as uint8 (3, height, width)."""
        prepared = self._processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        return prepared["pixel_values"][0]

    def forward(
        self, pixels: Float[Tensor, "I 3 h w"]
    ) -> tuple[Float[Tensor, "I C"], Float[Tensor, "I C g k"]]:
        """Return a vector of each image, and its grid without class and register tokens.

        The vector is the model's pooled output. If the model has none, or its weights are not in the
        checkpoint, it is the mean of the grid.

        Raises:
            ValueError: The tokens do not form a grid.
        """
        output = self.transformer(pixel_values=pixels)
        states = output.last_hidden_state
        grid = states if states.ndim == 4 else self._grid(states, pixels.shape[2], pixels.shape[3])
        if self._has_pooler and output.pooler_output is not None:
            return output.pooler_output.flatten(1), grid
        return grid.mean((2, 3)), grid

    def _grid(self, states: Float[Tensor, "I T C"], height: int, width: int) -> Float[Tensor, "I C g k"]:
        """Return the tokens of image patches as a grid. Other tokens stand before them."""
        config = self.transformer.config
        patch = getattr(config, "patch_size", None)
        num_tokens, num_rows, num_columns = states.shape[1], 0, 0
        if isinstance(patch, int):
            # Swin halves the grid between its stages.
            patch *= 2 ** (len(getattr(config, "depths", [1])) - 1)
            num_rows, num_columns = height // patch, width // patch
        num_special = num_tokens - num_rows * num_columns
        # A class token, a token for distillation (DeiT), or a class token and registers.
        if num_special not in {0, 1, 2, 1 + getattr(config, "num_register_tokens", 0)}:
            raise ValueError(
                f"{self._where} ({config.model_type}) gives {num_tokens} tokens for {height} x {width} "
                f"pixels, which do not form a grid of {num_rows} x {num_columns}. Name another model, such "
                f"as {EXAMPLES}"
            )
        return states[:, num_special:].transpose(1, 2).unflatten(2, (num_rows, num_columns))

    def _check_processor(self) -> None:
        """Refuse an image processor that cannot be split into a resize to a fixed size and a normalisation.

        Two images of different sizes are tried, and compared with the processor's own output.

        Raises:
            ValueError: The processor is refused.
        """
        shapes = {self._checked_shape(97, 61), self._checked_shape(50, 120)}
        if None in shapes or len(shapes) > 1:
            raise ValueError(
                f"{self._where}: its image processor {type(self._processor).__name__} does more than resize, "
                "crop, rescale and normalise to a fixed size. Name a model with a fixed size, such as "
                f"{EXAMPLES}"
            )

    def _checked_shape(self, height: int, width: int) -> tuple[int, ...] | None:
        """Return the shape of a random image after `resize`; None if the processor's output is another."""
        noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (height, width, 3), np.uint8)
        image = Image.fromarray(noise)
        mean, std = (np.array(values)[:, None, None] for values in (self.mean, self.std))
        try:
            resized = self.resize(image)
            expected = self._processor(image, return_tensors="np")["pixel_values"][0]
        except (KeyError, TypeError, ValueError, AttributeError):  # it takes other arguments
            return None
        if resized.dtype != np.uint8 or resized.ndim != 3 or resized.shape != expected.shape:
            return None
        is_same = np.allclose((resized * self.scale - mean) / std, expected, atol=1e-4)
        return resized.shape if is_same else None


def _load(name: str, where: str) -> tuple[Any, bool]:
    """Return the image model in single precision, and True if its pooled output has weights of its own.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: The model reads no images, or weights are missing.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        config = getattr(config, "vision_config", config)
        model_class = MODEL_MAPPING.get(type(config), None)
        if getattr(model_class, "main_input_name", "") != "pixel_values":
            raise ValueError(
                f"{where} is a {config.model_type}, which reads no images. Name an image model, such as "
                f"{EXAMPLES}"
            )
        model, report = AutoModel.from_pretrained(
            name, config=config, output_loading_info=True, dtype="float32"
        )
    except (OSError, SafetensorError) as error:
        raise_of_file(where, error)
        raise FileNotFoundError(
            f"{where} is neither a folder with a model nor a model that the hub gave "
            f"({str(error).strip().splitlines()[0]}). Name an image model, such as {EXAMPLES}"
        ) from error
    missing = {key for key in report["missing_keys"] if not key.startswith("pooler.")}
    if missing:
        raise ValueError(
            f"{where} lacks {len(missing)} weights of a {type(model).__name__}, such as {min(missing)}. Name "
            f"a whole image model, such as {EXAMPLES}"
        )
    check_finite(model.state_dict(), where, "fetch the model again, or name another")
    return model, missing == set(report["missing_keys"])


def _processor(name: str, where: str) -> Any:
    """Return the model's image processor, the variant that computes with Pillow.

    Raises:
        FileNotFoundError: The model has no image processor.
    """
    try:
        return AutoImageProcessor.from_pretrained(name, backend="pil")
    except (OSError, ValueError, ImportError) as error:
        raise FileNotFoundError(
            f"{where} has no image processor that can be loaded ({str(error).strip().splitlines()[0]}). Put "
            f"its preprocessor_config.json beside the model, or name another, such as {EXAMPLES}"
        ) from error

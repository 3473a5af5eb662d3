"""Vision encoders: features of images, from an image model of `transformers` or EfficientNet-Lite0.

I images, T tokens, C width, h x w pixels.
"""

import hashlib
import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from xlt.models.encoders import efficientnet
from xlt.models.encoders.efficientnet import EfficientNetLite0
from xlt.models.encoders.image_models import ImageModel
from xlt.system.checks import require
from xlt.system.image_files import decode

VISION_VERSION = 1
"""Version of the code that makes features of images. Raise it when the same image gets other features."""


class VisionEncoder(nn.Module):
    """Encoder that gives each image a global vector, and the tokens of a grid.

    The encoder is always in eval mode, also when it is trained: BatchNorm keeps its statistics and nothing
    is dropped out, so that the features of an image do not depend on the other images of its batch.

    Args:
        name: `efficientnet-lite0`, or a name on the hub or a folder of an image model of `transformers`:
            CLIP, SigLIP, ViT, DINOv2, ConvNeXt and others. Of a model of images and text, only the image half
            is loaded.
        image_tokens: Number of tokens of each image: 1 for the global vector alone, or the square of a number
            for the grid, pooled. Defaults to 1.

    Raises:
        FileNotFoundError: There is no such model, or it has no weights.
        ValueError: The model reads no images, its tokens do not form a grid, the grid cannot give the number
            of tokens, or a package is missing.
    """

    def __init__(self, name: str, image_tokens: int = 1) -> None:
        super().__init__()
        # Weights that are drawn and then overwritten must not move the run's random numbers.
        with torch.random.fork_rng(devices=[]):
            self.backbone = EfficientNetLite0() if name == efficientnet.NAME else ImageModel(name)
        for key, values in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            self.register_buffer(key, torch.tensor(values)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.train(False)
        self.image_tokens, self._side = image_tokens, math.isqrt(max(image_tokens, 1))
        example = self.backbone.resize(Image.new("RGB", (64, 64)))
        self.size: tuple[int, int] = (example.shape[1], example.shape[2])
        """Height and width of the input in pixels."""
        with torch.no_grad():
            vector, grid = self.backbone(self._normalised(torch.from_numpy(example)[None]))
        assert vector.shape[1] == grid.shape[1]
        self.width: int = grid.shape[1]
        """Width of a feature, C."""
        limit = min(grid.shape[2:])
        fits = self._side**2 == image_tokens and self._side <= limit
        allowed = ", ".join(str(side**2) for side in range(1, limit + 1))
        require(fits, "data.image_tokens", image_tokens, f"be one of {allowed} for {name}")

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Stay in eval mode, whatever the mode."""
        return super().train(False)

    @property
    def processing(self) -> str:
        """Return a hash of everything that prepared pixels depend on."""
        return hashlib.sha256(f"{VISION_VERSION} {self.backbone.processing}".encode()).hexdigest()

    @property
    def definition(self) -> str:
        """Return a hash of everything that features depend on."""
        digest = hashlib.sha256(f"{self.processing} {self.image_tokens}".encode())
        for key, tensor in sorted(self.backbone.state_dict().items()):
            digest.update(f"{key} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def prepare(self, content: bytes) -> np.ndarray:
        """Return the pixels of an image file, resized and cropped, as uint8 of shape (3, height, width).

        Raises:
            ValueError: The image is refused, see `decode`.
        """
        return self.backbone.resize(decode(content))

    def forward(self, pixels: UInt8[Tensor, "I 3 h w"]) -> Float[Tensor, "I T C"]:
        """Return the features of images.

        T is 1 for `image_tokens` 1: the global vector. Else T is 1 + `image_tokens`: the global vector, and
        the grid row by row. If the grid is larger, it is average-pooled.
        """
        vector, grid = self.backbone(self._normalised(pixels))
        if self.image_tokens == 1:
            return vector[:, None]
        tokens = F.adaptive_avg_pool2d(grid, self._side).flatten(2).transpose(1, 2)
        return torch.cat([vector[:, None], tokens], dim=1)

    def _normalised(self, pixels: UInt8[Tensor, "I 3 h w"]) -> Float[Tensor, "I 3 h w"]:
        """Return pixels as the backbone reads them."""
        return (pixels.float() * self.backbone.scale - self.mean) / self.std

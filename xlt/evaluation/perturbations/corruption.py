"""Corruptions of images by corrupt-tta: noise, blur, weather and digital faults at severities 1 to 5.

Severities are defined for images of 224 pixels, as those of ImageNet-C: a blur of ten pixels hides less of a
larger image. An image is therefore scaled first: its shorter side gets 224 pixels, its longer side at most
896.

All draws depend on the seed only. corrupt-tta draws from numpy's global generator, whose state is restored.

Source: Hendrycks and Dietterich (2019), https://arxiv.org/abs/1903.12261 (ImageNet-C). corrupt-tta follows
its kinds and severities with other code, such as a motion blur without ImageMagick, so scores are not
comparable with scores on ImageNet-C.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from threading import Lock

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from xlt.data.images import decode

VERSION = 1
"""Version of this module. Raise it when a change gives other images."""

KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "glass_blur",
    "defocus_blur",
    "motion_blur",
    "zoom_blur",
    "fog",
    "frost",
    "snow",
    "spatter",
    "contrast",
    "brightness",
    "saturate",
    "jpeg_compression",
    "pixelate",
    "elastic_transform",
)
"""The kinds of corrupt-tta."""

SEVERITIES = range(1, 6)

SIDE = 224
"""Pixels of the shorter side of an image that is corrupted."""

LONGEST = 4 * SIDE
"""Maximum number of pixels of the longer side."""

IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)
"""Share of the values that impulse noise replaces, by severity, as in ImageNet-C."""

_TURN = Lock()
"""Numpy's global generator belongs to one thread at a time."""


def check_library() -> None:
    """Check that corrupt-tta can be imported.

    Raises:
        ValueError: corrupt-tta or a package that it needs cannot be imported.
    """
    try:
        import corrupt_tta  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"perturbations names a corruption of images, which needs corrupt-tta, but {error}. Install it: "
            "pip install -e '.[vision]'. On a machine without libGL, replace opencv-python by "
            "opencv-python-headless"
        ) from error


@cache
def definition() -> str:
    """Return a text that differs if other code corrupts images."""
    return f"version {VERSION} corrupt-tta {version('corrupt-tta')}"


def corrupted(content: bytes, kind: str, severity: int, seed: int) -> bytes:
    """Return an image file with a corrupted image, as PNG.

    Args:
        content: Content of an image file.
        kind: Kind of the corruption, one of KINDS.
        severity: 1 to 5.
        seed: Seed of all draws, below 2^64.

    Raises:
        ValueError: The content is not an image.
    """
    pixels = corrupted_pixels(np.asarray(_scaled(decode(content))), kind, severity, seed)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _scaled(image: Image.Image) -> Image.Image:
    """Return the image with a shorter side of SIDE pixels and a longer side of at most LONGEST pixels."""
    scale = SIDE / min(image.size)
    width, height = (min(LONGEST, round(scale * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def corrupted_pixels(
    pixels: UInt8[np.ndarray, "height width 3"], kind: str, severity: int, seed: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pixels of a corrupted image.

    Args:
        pixels: Pixels of the image.
        kind: Kind of the corruption, one of KINDS.
        severity: 1 to 5.
        seed: Seed of all draws, below 2^64.
    """
    from corrupt_tta import corrupt

    with seeded(seed):
        if kind == "impulse_noise":
            found = _with_impulses(pixels, severity)
        else:
            found = corrupt(pixels, severity, kind)
    return np.rint(np.clip(found, 0, 255)).astype(np.uint8)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, and restore its state at the end.

    Args:
        seed: The seed, below 2^64.
    """
    with _TURN:
        state = np.random.get_state()
        np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
        try:
            yield
        finally:
            np.random.set_state(state)


def _with_impulses(
    pixels: UInt8[np.ndarray, "height width 3"], severity: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pixels with values replaced by 0 or 255.

    corrupt-tta's impulse noise draws from a generator without a seed, so every call gives another image.
    """
    is_hit = np.random.random_sample(pixels.shape) < IMPULSE[severity - 1]
    is_white = np.random.random_sample(pixels.shape) < 0.5
    return np.where(is_hit, np.where(is_white, 255, 0), pixels).astype(np.uint8)

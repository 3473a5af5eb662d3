"""Decode image files of any common format into RGB images of 8 bits per channel."""

import io

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats that are read. Pillow runs other programs for some of the rest, such as EPS."""

MAX_PIXELS = 89_478_485
"""Maximum number of pixels. From this size on, Pillow takes a file for a decompression bomb."""

MIN_SIDE = 8
"""Minimum height and width in pixels. Smaller images stand for a missing image on web pages."""

MAX_RATIO = 50
"""Maximum ratio of the longer to the shorter side. Beyond it, an image that is resized by its shorter side
takes too much memory."""


def decode(content: bytes) -> Image.Image:
    """Return the image of an image file as RGB, 8 bits per channel, upright.

    Converted: grey, palette, CMYK, YCbCr and Lab images to RGB, without regard to colour profiles. A
    transparent image is laid on white. 16 bits per channel become 8. Of an animation or a file with several
    pages, the first is taken. A rotation in the EXIF data is applied.

    Refused: a file that is empty, damaged or cut off, or not of the formats in FORMATS; 32-bit grey images,
    whose range is unknown; more than MAX_PIXELS pixels, which is checked before the pixels are read; a side
    shorter than MIN_SIDE pixels; sides with a ratio above MAX_RATIO.

    Args:
        content: Content of the file.

    Raises:
        ValueError: The image is refused.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(*image.size)
            image.load()
            image = ImageOps.exif_transpose(image)
            return _as_rgb(image)
    except _Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _Refused(f"the image has more than {MAX_PIXELS:,} pixels: make it smaller") from error
    except Image.UnidentifiedImageError as error:
        kind = "is empty" if not content else f"is not of a known format; it begins with {content[:8]!r}"
        raise _Refused(
            f"the image file {kind}. Give one of the formats {', '.join(FORMATS)}, or leave the row out"
        ) from error
    except Exception as error:  # Pillow raises errors of any type for damaged files.
        raise _Refused(
            f"the image file is damaged or cut off ({type(error).__name__}: {error}). Fetch it again, or "
            "leave the row out"
        ) from error


class _Refused(ValueError):
    """Raised for an image that is not used."""


def _check_size(width: int, height: int) -> None:
    """Refuse images that are too small, too large or too narrow."""
    size = f"the image has {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise _Refused(f"{size}, more than {MAX_PIXELS:,} in all: make it smaller")
    if min(width, height) < MIN_SIDE:
        raise _Refused(
            f"{size}: each side must have at least {MIN_SIDE}. Such images stand for missing photos; leave "
            "the row out"
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise _Refused(
            f"{size}: the longer side may be at most {MAX_RATIO} times the shorter. Crop the image"
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 becomes 255
    elif image.mode in ("I", "F"):
        raise _Refused(
            f"the image has 32 bits per pixel (Pillow's mode {image.mode}), whose range is unknown: save it "
            "with 8 or 16 bits per channel"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")

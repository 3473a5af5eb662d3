"""Images of a data set's rows, as files in memory or on disk.

A row names its image by the bytes of an image file, by a struct of `bytes` and `path` as `datasets` writes
it, or by the path of a file. The content of the file identifies the image: rows and data sets with the same
file share its features.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import PIL.Image

KEY_BYTES = 8
"""Number of bytes of the SHA-256 that identify an image."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image file, which is read when its content is needed.

    Args:
        key: The first 8 bytes of the file's SHA-256, as a number. Changed images have keys of their own.
        read: Function that returns the content of the file.
    """

    key: int
    read: Callable[[], bytes] = field(compare=False, repr=False)


def key_of(content: bytes) -> int:
    """Return the key of an image file with this content."""
    return int.from_bytes(hashlib.sha256(content).digest()[:KEY_BYTES], "little")


def image_of(value: Any, folder: Path = Path()) -> Image:
    """Return the image that a value of a row stands for.

    Args:
        value: Bytes of an image file, a mapping with `bytes` and `path`, the path of a file, or an Image.
        folder: Folder of a relative path.

    Raises:
        TypeError: The value is of another type, or empty.
        FileNotFoundError: There is no such file.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, dict) and {"bytes", "path"} & set(value):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | bytearray | memoryview) and len(value):
        content = bytes(value)
        return Image(key_of(content), partial(bytes, content))
    if isinstance(value, str | Path) and str(value):
        path = folder / value
        return Image(key_of(path.read_bytes()), path.read_bytes)
    raise TypeError(
        f"the image must be the bytes of an image file, a struct of bytes and path, or a path, not "
        f"{type(value).__name__}" + ("" if value else " without content")
    )


def decode(content: bytes) -> PIL.Image.Image:
    """Return the image of a file, as RGB.

    Raises:
        ValueError: The content is not an image.
    """
    try:
        return PIL.Image.open(io.BytesIO(content)).convert("RGB")
    except OSError as error:
        raise ValueError(f"the image cannot be read: {error}") from error

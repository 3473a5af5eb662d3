"""Images of a data set's rows, as files in memory or on disk.

A row names its image by the bytes of an image file, by a struct of `bytes` and `path` as `datasets` writes
it, or by the path of a file. The content of the file identifies the image: rows and data sets with the same
file share its features. `decode` says which image files are used, and what becomes of each format.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xlt.system.image_files import decode as decode

KEY_BYTES = 8
"""Number of bytes of the SHA-256 that identify an image."""

_LOCATION = ContextVar("location", default="")
"""Path of the data file whose row is being read. Empty if no row is being read."""


@contextmanager
def images_beside(location: str) -> Iterator[None]:
    """Read relative paths of images from the folder of a data file, inside the block.

    Args:
        location: Path of the data file. For any other text, such as the name of rows on the hub, the folder
            is the working directory.
    """
    token = _LOCATION.set(location)
    try:
        yield
    finally:
        _LOCATION.reset(token)


def _folder() -> Path:
    """Return the folder of relative paths."""
    location = Path(_LOCATION.get())
    return location.parent if location.is_file() else Path()


@dataclass(frozen=True, slots=True)
class Image:
    """An image file, which is read when its content is needed.

    A copy, such as the one that a process gets by pickle, keeps the key but cannot be read: contents would
    fill the pipes to processes that encode, and the memory of lists of examples.

    Args:
        key: The first 8 bytes of the file's SHA-256, as a number. Changed images have keys of their own.
        read: Function that returns the content of the file.
        row: Number of the image's row in its data file. Images are read fastest in this order. Defaults to 0.
    """

    key: int
    read: Callable[[], bytes] = field(compare=False, repr=False)
    row: int = field(default=0, compare=False, repr=False)

    def __reduce__(self) -> tuple[type["Image"], tuple[int, Callable[[], bytes], int]]:
        """Return the parts of a copy."""
        return Image, (self.key, _left_out, self.row)


def _left_out() -> bytes:
    """Refuse to read a copied image.

    Raises:
        ValueError: Always.
    """
    raise ValueError("this image is a copy, whose content was left out: read the row again")


def key_of(content: bytes) -> int:
    """Return the key of an image file with this content."""
    return int.from_bytes(hashlib.sha256(content).digest()[:KEY_BYTES], "little")


def image_of(value: Any, folder: Path | None = None) -> Image:
    """Return the image that a value of a row stands for.

    Args:
        value: Bytes of an image file, a mapping with `bytes` and `path`, the path of a file, or an Image.
        folder: Folder of a relative path. Defaults to the folder of the data file whose row is being read.

    Raises:
        TypeError: The value is of another type, or empty.
        FileNotFoundError: There is no such file.
        ValueError: The value is an address of the web.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, dict) and {"bytes", "path"} & set(value):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | bytearray | memoryview) and len(value):
        content = bytes(value)
        return Image(key_of(content), partial(bytes, content))
    if isinstance(value, str) and value.lower().startswith(("http://", "https://")):
        raise ValueError(
            f"the image {value} is an address of the web, but images must be files or bytes. Download the "
            "images, and write their paths or bytes into the rows"
        )
    if isinstance(value, str | Path) and str(value):
        path = (_folder() if folder is None else folder) / value
        try:
            return Image(key_of(path.read_bytes()), path.read_bytes)
        except OSError as error:
            raise FileNotFoundError(
                f"the image {value} cannot be read at {path.absolute()} ({error.strerror})"
            ) from error
    raise TypeError(
        f"the image must be the bytes of an image file, a struct of bytes and path, or a path, not "
        f"{type(value).__name__}" + ("" if value else " without content")
    )

"""Atomic writes: after a crash, a file has its old content or all of its new content."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file's content, or create the file.

    Args:
        path: The file, in a folder that exists.
        content: The whole new content. Text is written as UTF-8.

    Raises:
        OSError: The file cannot be written. The old content is untouched.
    """
    scratch = scratch_path(path)
    try:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        publish(scratch, path)
    finally:
        discard(scratch)


def publish(scratch: Path, path: Path) -> None:
    """Move a complete scratch file to its final path, so that the move survives a power cut.

    Args:
        scratch: The complete file, in the folder of `path`.
        path: The final path. An existing file is replaced.
    """
    sync(scratch)
    scratch.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds the content of a file, or the entries of a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def scratch_path(path: Path) -> Path:
    """Return the path at which this process writes a file before the file is complete. The name is hidden."""
    return path.with_name(f".{path.name}-{os.getpid()}")


def discard(scratch: Path) -> None:
    """Delete an incomplete file. An error is ignored, because it would hide why the file is incomplete."""
    with contextlib.suppress(OSError):
        scratch.unlink()

"""The cache of encoded splits: the name of each folder, and folders that appear only when complete.

The key in a folder's name is a hash of everything that the features depend on: the rows, the task's settings
and code, the tokenizer and its limits, and the versions of xlt's own code that reads and encodes rows.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from xlt.data.encode import ENCODING_VERSION, TextEncoder
from xlt.data.features import FEATURES_VERSION
from xlt.data.sources import RawSplit
from xlt.kinds.task import Task
from xlt.splits.encoded_split import META
from xlt.splits.reading import READING_VERSION
from xlt.splits.user_code import content_of, held_by
from xlt.system.yaml_files import expand_home

UNUSED = ("read", "source", "mean_without_english", "labels_of_rows")
"""Fields of a task whose values do not change its rows. The files of `read` and the rows count instead."""


def cache_folder(cache: str | None) -> Path:
    """Return the folder of encoded rows.

    Args:
        cache: The folder. If None, the variable XLT_CACHE. Defaults to ~/.cache/xlt.
    """
    return Path(expand_home(cache or os.environ.get("XLT_CACHE") or "~/.cache/xlt"))


def versions_of(task: Task[Any]) -> dict[str, int]:
    """Return the versions of xlt's code that makes the rows of a task, by name."""
    return {
        "READING_VERSION": READING_VERSION,
        "ENCODING_VERSION": ENCODING_VERSION,
        "FEATURES_VERSION": FEATURES_VERSION,
        f"{type(task).__name__}.encoding_version": task.encoding_version,
    }


def key_of(task: Task[Any], raw_splits: Sequence[RawSplit], text: TextEncoder, code: Sequence[Path]) -> str:
    """Return a hash of everything that the features depend on, 16 hexadecimal digits.

    Args:
        task: The task. Its settings count.
        raw_splits: The rows. Their names and fingerprints count.
        text: The tokenizer and its limits.
        code: Files of the task's own code, such as `user_code` finds. Their content counts.
    """
    digest = hashlib.sha256()
    for path in code:
        digest.update(content_of(path))
    for split in raw_splits:
        digest.update(f"{split.name} {split.fingerprint}\n".encode())
    settings: dict[str, Any] = {k: repr(v) for k, v in vars(task).items() if k not in UNUSED}
    settings |= {"held by read": held_by(task.read)} | versions_of(task)
    imagery = task.imagery()
    image_tokens = [text.image_tokens] if imagery is not None and imagery.as_tokens else []
    segments = ["segments"] if text.has_segments else []
    special = text.tokenizer.pad_token_id, text.tokenizer.unk_token_id
    limits = [text.max_length, text.stride, *image_tokens, *segments, *special]
    digest.update(json.dumps([settings, *limits]).encode())
    digest.update(text.definition.encode())
    return digest.hexdigest()[:16]


def is_complete(folder: Path) -> bool:
    """Return True if a folder holds an encoded split."""
    return (folder / META).is_file()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that gets the final name when the block ends without an error.

    If another process finishes the same folder first, that folder stays.

    Args:
        folder: The final name.

    Raises:
        OSError: The cache cannot be written.
    """
    scratch = folder.with_name(f".{folder.name}-{os.getpid()}-{uuid4().hex[:8]}")
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise OSError(
            f"the cache {folder.parent} cannot be written ({error.strerror}). Set data.cache (or XLT_CACHE) "
            "to a folder that can"
        ) from error
    try:
        yield scratch
        _publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _publish(scratch: Path, folder: Path) -> None:
    """Give a complete scratch folder its final name."""
    for path in scratch.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    try:
        scratch.rename(folder)
    except OSError:
        if not is_complete(folder):
            raise

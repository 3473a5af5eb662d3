"""Messages for file errors of the operating system: the file, the reason, and a way to fix it."""

import errno
import os
from pathlib import Path

FIXES = {
    errno.EACCES: "Give this user the permission, or name another folder",
    errno.EPERM: "Give this user the permission, or name another folder",
    errno.EROFS: "Name a folder on a writable disk",
    errno.ENOSPC: "Free some space, or name a folder on another disk",
    errno.EDQUOT: "Free some space, or name a folder on another disk",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.EIO: "The disk fails: copy the file to another disk",
}
"""Error number → how to fix the error."""


def file_error(error: BaseException) -> OSError | None:
    """Return the file error that is, or caused, an error. Return None if there is no such file error.

    A broken connection does not count, nor does a missing file that a library only looked for.

    Args:
        error: The error, whose causes are searched too.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and _is_of_file(found):
            return found
        found = found.__cause__ or found.__context__
    return None


def _is_of_file(error: OSError) -> bool:
    """Return False for a connection error, and for a missing file outside the cache of Hugging Face."""
    if isinstance(error, ConnectionError | TimeoutError) or error.errno is None or error.filename is None:
        return False
    return error.errno != errno.ENOENT or cache_of(error.filename) is not None


def raise_of_file(what: str, error: BaseException) -> None:
    """Raise an error that names the file, if a file error is or caused the error. Otherwise do nothing.

    Args:
        what: Name of the thing that was read, for the message.
        error: The error.

    Raises:
        OSError: A file error is or caused the error.
    """
    found = file_error(error)
    if found is not None:
        raise OSError(f"{what}: {explained(found)}") from error


def cache_of(filename: str | bytes) -> tuple[str, Path] | None:
    """Return the variable and the folder of the Hugging Face cache that holds a file, or None.

    Args:
        filename: The file, or a folder above the cache.
    """
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    own = {name: os.environ.get(name) for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE")}
    path = Path(os.fsdecode(filename)).absolute()
    for name, folder in {**own, "HF_HOME": home}.items():
        # The folder that cannot be created may be one above the cache.
        if folder and (path.is_relative_to(folder) or Path(folder).is_relative_to(path)):
            return name, Path(folder)
    return None


def explained(error: OSError) -> str:
    """Return a message for a file error: the file, the reason, and how to fix it."""
    reason = ": ".join(filter(None, (str(error.filename or ""), error.strerror or str(error))))
    cache = cache_of(error.filename) if error.filename else None
    if cache is None:
        return f"{reason}. {FIXES.get(error.errno or 0, 'Check that the file exists and is readable')}"
    name, folder = cache
    return f"the cache of Hugging Face, {folder}, cannot be used ({reason}). Set {name} to a writable folder"

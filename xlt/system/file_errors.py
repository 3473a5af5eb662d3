"""Errors of the operating system about files: which file, and what to do about it."""

import errno
import os
from pathlib import Path

MENDS = {
    errno.EACCES: "Give this user the permission, or name another folder",
    errno.EPERM: "Give this user the permission, or name another folder",
    errno.EROFS: "Name a folder on a disk that can be written",
    errno.ENOSPC: "Free some space, or name a folder on another disk",
    errno.EDQUOT: "Free some space, or name a folder on another disk",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.EIO: "The disk fails: copy the file to another one",
}


def file_error(error: BaseException) -> OSError | None:
    """Return the system's error about a file that is, or led to, an error; None if there is none.

    A broken connection is none, nor is a file that a library looked for in vain.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and _is_of_file(found):
            return found
        found = found.__cause__ or found.__context__
    return None


def _is_of_file(error: OSError) -> bool:
    """Return False for a connection, and for a file that is not there and is no cache."""
    if isinstance(error, ConnectionError | TimeoutError) or error.errno is None or error.filename is None:
        return False
    return error.errno != errno.ENOENT or cache_of(error.filename) is not None


def raise_of_file(what: str, error: BaseException) -> None:
    """Raise an error that names the file, if the system's error about one led to an error.

    Args:
        what: The name of what was to be read.
        error: The error.

    Raises:
        OSError: A file was at fault.
    """
    found = file_error(error)
    if found is not None:
        raise OSError(f"{what}: {explained(found)}") from error


def cache_of(filename: str | bytes) -> tuple[str, Path] | None:
    """Return the cache of Hugging Face that a file is in, and the variable that sets it; None if in none."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    own = {name: os.environ.get(name) for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE")}
    path = Path(os.fsdecode(filename)).absolute()
    for name, folder in {**own, "HF_HOME": home}.items():
        # A folder above the cache may be the one that cannot be made.
        if folder and (path.is_relative_to(folder) or Path(folder).is_relative_to(path)):
            return name, Path(folder)
    return None


def explained(error: OSError) -> str:
    """Return what is wrong with which file, and what to do."""
    reason = ": ".join(filter(None, (str(error.filename or ""), error.strerror or str(error))))
    cache = cache_of(error.filename) if error.filename else None
    if cache is None:
        return f"{reason}. {MENDS.get(error.errno or 0, 'See that the file is there and can be read')}"
    return (
        f"the cache of Hugging Face, {cache[1]}, cannot be used ({reason}). Set {cache[0]} to a folder that "
        "can be written"
    )

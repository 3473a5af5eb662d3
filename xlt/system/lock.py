"""Locks on folders: two processes that write to one folder would spoil each other's record.

The lock is the kernel's (`flock`, by the package filelock) and ends with its holder, so a killed process
leaves no lock behind. On NFS, Linux passes such locks on to the server, so they hold across nodes.
"""

import contextlib
import errno
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds to wait for a process that is about to end, such as the one that this process replaces."""

UNFINISHED = ".saving-"
"""Begin of the names of folders with files that are not complete yet."""

LOCK = ".lock"

WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems that have no locks."""


@contextlib.contextmanager
def locked(path: Path, patience: float = PATIENCE, key: str = "trainer.default_root_dir") -> Iterator[None]:
    """Hold a file's lock; on a file system without locks, warn and continue without.

    Args:
        path: The file. Its text names the holder, for people to read.
        patience: Seconds to wait for the holder to end. Defaults to `PATIENCE`.
        key: Config key that names the folder, for the error.

    Raises:
        ValueError: Another process holds the lock.
    """
    # A soft lock, filelock's substitute where the kernel has none, would outlive a killed holder.
    lock = FileLock(path, patience, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = path.read_text(encoding="utf-8").strip()
            log.warning("%s is in use by %s: waiting up to %g s for its end", path.parent, holder, patience)
            lock.acquire(poll_interval=0.2)
    except Timeout as error:
        raise ValueError(
            f"another process is at work in {path.parent} ({path.read_text(encoding='utf-8').strip()}): wait "
            f"for its end, stop it, or set {key} to another folder"
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        log.warning("%s cannot be locked (%s): keep other processes from writing to it", path.parent, error)
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder in `out` for files that are not complete yet, and delete it after the block.

    Such folders of killed processes are deleted before. Those of living processes have a lock, and stay.

    Args:
        out: A folder that exists.

    Raises:
        OSError: The folder cannot be written.
    """
    for left in out.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError), FileLock(left / LOCK, timeout=0, fallback_to_soft=False):
            shutil.rmtree(left)
    with TemporaryDirectory(dir=out, prefix=UNFINISHED) as scratch, locked(Path(scratch) / LOCK):
        yield Path(scratch)

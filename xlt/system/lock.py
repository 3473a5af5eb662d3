"""One process a run's folder: two that write to it at a time would spoil each other's record.

The lock is the kernel's, on an open file, so that the death of its holder releases it: what a killed run
leaves in the folder locks nobody out.
"""

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds to wait for a run that is about to end, such as the one whose place this one takes."""


@contextlib.contextmanager
def locked(path: Path, patience: float = PATIENCE, key: str = "trainer.default_root_dir") -> Iterator[None]:
    """Hold the file's lock.

    Args:
        path: The file; what it says is for people.
        patience: Seconds to wait for the holder to end.
        key: What names the folder, for the error.

    Raises:
        ValueError: Another process holds it.
    """
    with path.open("a+", encoding="utf-8") as file:
        until = time.monotonic() + patience
        while not _take(file.fileno()):
            if time.monotonic() > until:
                file.seek(0)
                raise ValueError(
                    f"another process is at work in {path.parent} ({file.read().strip()}): let it end, or "
                    f"stop it, or set {key} to another folder"
                )
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _take(handle: int) -> bool:
    """Try to take the lock; on a file system without locks there is none to wait for."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        log.warning("the run's folder cannot be locked (%s): see that no other process writes to it", error)
    return True

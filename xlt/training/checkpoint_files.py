"""Checkpoint files: verified by a hash, never incomplete, and searched for the newest or the best.

A save serialises the checkpoint into a scratch file while training waits. A thread then hashes the file,
syncs it to the disk and moves it to its final path. `<name>.sha256` holds the hash, as sha256sum writes it.
"""

import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from xlt.models.finite import spoiled
from xlt.system.files import discard, publish, scratch_path, write_atomically
from xlt.system.hashing import hash_file
from xlt.system.tables import counted

SUFFIX = ".ckpt"

SAVE_FIX = (
    "free some disk space, or make the folder writable. Earlier checkpoints are undamaged, and the same "
    "command resumes the run"
)
"""How to fix a failed save."""


class VerifiedCheckpointIO(CheckpointIO):
    """Writer of whole checkpoints with their hash, and reader that refuses a checkpoint with another hash.

    Args:
        after_save: Called in the thread with the path of a checkpoint that has reached the disk.
    """

    def __init__(self, after_save: Callable[[Path], None] | None = None) -> None:
        self._after_save = after_save
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Serialise a checkpoint, and let the thread do the rest. A save waits for the save before.

        Raises:
            OSError: This or the last checkpoint cannot be written. Earlier checkpoints are untouched.
        """
        self.finish()
        path = Path(path)
        scratch = scratch_path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _serialise(checkpoint, scratch)
        except OSError as error:
            discard(scratch)
            raise _save_error(path, error) from error
        self._pending = self._thread.submit(self._complete, scratch, path)

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk.

        Raises:
            OSError: The checkpoint cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _complete(self, scratch: Path, path: Path) -> None:
        """Hash a serialised checkpoint, and move it to its final path."""
        try:
            write_atomically(_manifest(path), f"{hash_file(scratch)}  {path.name}\n")
            publish(scratch, path)
            if self._after_save:
                self._after_save(path)
        except OSError as error:
            raise _save_error(path, error) from error
        finally:
            discard(scratch)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint whose hash is right. Code in the file is refused, and never run.

        Raises:
            ValueError: The hash is wrong, or the file holds more than tensors and plain values.
        """
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint and its hash."""
        Path(path).unlink(missing_ok=True)
        _manifest(Path(path)).unlink(missing_ok=True)


def read_checkpoint(path: Path, map_location: Any = "cpu", mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint whose hash is right. Code in the file is refused, and never run.

    Args:
        path: The file.
        map_location: Device of the tensors, as torch.load takes it.
        mmap: Map the tensors into memory instead of reading all of them, for a reader that needs only some.

    Raises:
        ValueError: The hash is wrong, or the file holds more than tensors and plain values.
    """
    fault = fault_of(path)
    if fault:
        raise ValueError(f"checkpoint {path} {fault}")
    try:
        return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"checkpoint {path} holds more than tensors and plain values, such as code, and was not "
            f"read. Delete it and {_manifest(path).name} to resume from an earlier checkpoint"
        ) from error


def _serialise(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint into a file. A failed write raises its own error, not the later one of torch."""
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _save_error(path: Path, error: OSError) -> OSError:
    """Return the error for a checkpoint that cannot be written."""
    return OSError(f"checkpoint {path} cannot be written ({error.strerror or error}): {SAVE_FIX}")


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint whose hash is right and whose weights are finite, or None.

    Warns about each newer checkpoint that is skipped.

    Args:
        folder: Folder of the checkpoints.
    """
    for path in sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True):
        fault = fault_of(path) or weights_fault(path)
        if not fault:
            return path
        rank_zero_warn(f"checkpoint {path} {fault}: it is skipped")
    return None


def best(folder: Path) -> Path | None:
    """Return the checkpoint of the best validation, the newest if the best is damaged, or None.

    Args:
        folder: Folder of the checkpoints.
    """
    path = newest(folder)
    if path is None:
        return None
    states = VerifiedCheckpointIO().load_checkpoint(path)["callbacks"]
    steps = [state["best_step"] for state in states.values() if "best_step" in state]
    if not steps or not steps[0]:
        return path
    chosen = path_of(folder, steps[0])
    fault = fault_of(chosen) or weights_fault(chosen)
    if fault:
        rank_zero_warn(f"the best checkpoint, {chosen}, {fault}: taking the newest, {path.name}")
    return path if fault else chosen


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after a step."""
    return folder / f"step-{step:09d}{SUFFIX}"


def step_of(path: Path) -> int:
    """Return the step after which a checkpoint was saved."""
    return int(path.stem.removeprefix("step-"))


def fault_of(path: Path) -> str:
    """Return the reason why a checkpoint file is unusable, or an empty text if its hash is right."""
    manifest = _manifest(path)
    if not path.is_file():
        return "is missing"
    try:
        expected = manifest.read_bytes().split(b" ")[0].decode()
        found = hash_file(path)
    except FileNotFoundError:
        return f"has no {manifest.name}"
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    return "" if expected == found else "is damaged: its SHA-256 is not the one in " + manifest.name


def weights_fault(path: Path) -> str:
    """Return a text about NaN or infinity in a checkpoint's weights, or an empty text if there is none.

    Args:
        path: The checkpoint, whose hash is right. An unreadable file passes, because its reader refuses it.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        names = spoiled(found["state_dict"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        return ""
    return f"holds NaN or infinity in {counted(len(names), 'tensor')}, such as {names[0]}" if names else ""


def _manifest(path: Path) -> Path:
    """Return the path of the file with a checkpoint's hash."""
    return path.with_name(path.name + ".sha256")

"""Files that are whole or not there: checkpoints with their hash, and the search for one that verifies.

A checkpoint is serialised beside its final place, where training waits; a thread then syncs it to the disk,
hashes it, renames it and syncs the folder. `<name>.sha256` holds the hash in sha256sum's format.
"""

import contextlib
import os
import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from xlt.models.finite import spoiled
from xlt.system.hashing import hash_file

SUFFIX = ".ckpt"

ROOM = "make room, or let the folder be written; what was saved before is whole, and the same command goes on"
"""How to mend a failed save."""


class VerifiedIO(CheckpointIO):
    """Writes a checkpoint whole or not at all, and reads none whose hash differs.

    Args:
        after_save: Called in the thread with a checkpoint that has reached the disk.
    """

    def __init__(self, after_save: Callable[[Path], None] | None = None) -> None:
        self._after_save = after_save
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Serialise, and leave the rest to the thread; a save waits for the one before.

        Raises:
            OSError: This or the last checkpoint could not be written; nothing saved before is touched.
        """
        self.finish()
        path = Path(path)
        scratch = _beside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _serialise(checkpoint, scratch)
        except OSError as error:
            _discard(scratch)
            raise _not_written(path, error) from error
        self._pending = self._thread.submit(self._complete, scratch, path)

    def finish(self) -> None:
        """Wait until the last checkpoint stands in its place.

        Raises:
            OSError: It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _complete(self, scratch: Path, path: Path) -> None:
        """Sync, hash, rename."""
        try:
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
            write_whole(_manifest(path), f"{hash_file(scratch)}  {path.name}\n")
            scratch.replace(path)
            _sync_folder(path.parent)
            if self._after_save:
                self._after_save(path)
        except OSError as error:
            raise _not_written(path, error) from error
        finally:
            _discard(scratch)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint that verifies; code in it is refused and not run.

        Raises:
            ValueError: It does not verify, or holds more than tensors and plain values.
        """
        fault = fault_of(Path(path))
        if fault:
            raise ValueError(f"checkpoint {path} {fault}")
        try:
            return torch.load(path, map_location=map_location, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(
                f"checkpoint {path} holds something else than tensors and plain values, such as code, and is "
                f"not read: delete it with {_manifest(Path(path)).name} to go on from an earlier one"
            ) from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint and its hash."""
        Path(path).unlink(missing_ok=True)
        _manifest(Path(path)).unlink(missing_ok=True)


def _serialise(checkpoint: dict[str, Any], path: Path) -> None:
    """Write the file; after a failed write torch's own writer fails too, and hides the reason."""
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _not_written(path: Path, error: OSError) -> OSError:
    """What to say of a failed save."""
    return OSError(f"checkpoint {path} cannot be written ({error.strerror or error}): {ROOM}")


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that verifies; says which newer ones it passes over, and why."""
    for path in sorted(folder.glob(f"step-*{SUFFIX}"), reverse=True):
        fault = fault_of(path) or unfit(path)
        if not fault:
            return path
        rank_zero_warn(f"checkpoint {path} {fault}: going back to an earlier one")
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint of the best validation, or the newest where that one does not verify."""
    path = newest(folder)
    if path is None:
        return None
    states = VerifiedIO().load_checkpoint(path)["callbacks"]
    steps = [state["best_step"] for state in states.values() if "best_step" in state]
    if not steps or not steps[0]:
        return path
    chosen = path_of(folder, steps[0])
    fault = fault_of(chosen) or unfit(chosen)
    if fault:
        rank_zero_warn(f"the best checkpoint, {chosen}, {fault}: taking the newest, {path.name}")
    return path if fault else chosen


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return folder / f"step-{step:09d}{SUFFIX}"


def step_of(path: Path) -> int:
    """The step that a checkpoint is of."""
    return int(path.stem.removeprefix("step-"))


def fault_of(path: Path) -> str:
    """What is wrong with a checkpoint; empty where nothing is."""
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


def unfit(path: Path) -> str:
    """Say why a whole checkpoint's weights are unusable; empty if they are finite, or cannot be read.

    Args:
        path: The checkpoint, which verifies.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        names = spoiled(found["state_dict"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        return ""  # whoever loads it says so
    return f"holds NaN or infinity in {len(names)} tensors, such as {names[0]}" if names else ""


def write_whole(path: Path, content: str | bytes) -> None:
    """Give a file this content, whole or not at all."""
    scratch = _beside(path)
    try:
        with scratch.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        _discard(scratch)


def _discard(scratch: Path) -> None:
    """Delete what did not become whole, where it can be; why it did not is what is to be told."""
    with contextlib.suppress(OSError):
        scratch.unlink()


def _beside(path: Path) -> Path:
    """Where a file is written before it is whole; hidden, and this process's own."""
    return path.with_name(f".{path.name}-{os.getpid()}")


def _manifest(path: Path) -> Path:
    """Where a checkpoint's hash stands."""
    return path.with_name(path.name + ".sha256")


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

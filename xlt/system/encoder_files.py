"""Reading an encoder's files: every error of a library becomes one message with the file and a way to fix it.

The libraries raise errors of many classes for damaged files, and their messages name neither encoder nor
file.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from transformers.utils import logging

from xlt.system.file_errors import raise_of_file
from xlt.system.folders import WITHOUT_NETWORK, model_folder

POINTER = b"version https://git-lfs"
"""First bytes of a file that Git LFS has not downloaded."""

MAX_REASON = 200
"""Maximum number of characters of a library's message that are shown."""

ADAPTER = "adapter_config.json"
"""File of peft. transformers loads the weights of such a folder as an adapter's."""

MERGE = (
    "an adapter of peft: merge the adapter into its encoder (merge_and_unload), save the encoder with "
    "save_pretrained, and name that folder"
)
"""Words about the folder of an adapter, and about the use of the adapter."""

Part = Literal["config", "tokenizer", "weights"]
"""A part of an encoder that is read."""

FILES = {
    "config": ("config.json",),
    "tokenizer": ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*"),
    "weights": ("*.safetensors", "*.bin"),
}
"""Patterns of the files of each part."""


@contextmanager
def quietly() -> Iterator[None]:
    """Hide the progress bars and the table of missing weights of transformers inside the block."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(name: str, part: Part) -> Iterator[None]:
    """Turn each error of a library inside the block into one message.

    Args:
        name: Name of the encoder: on the hub, a folder, or the folder of a finished run.
        part: What is read.

    Raises:
        OSError: A file cannot be read.
        FileNotFoundError: The encoder, or this part of it, is missing or damaged.
        ValueError: A package that reads the part is not installed.
        MemoryError: The encoder does not fit into memory.
    """
    what = f"model.encoder {name!r}"
    try:
        with quietly():
            yield
    except MemoryError:
        raise
    except ImportError as error:
        raise ValueError(
            f"{what}: its {part} needs a package that is not installed ({_in_one_line(error)}). Install it, "
            "or name another model"
        ) from error
    except Exception as error:
        raise_of_file(f"the {part} of {what}" if part != "config" else what, error)
        raise FileNotFoundError(_message(name, part, _in_one_line(error))) from error


def _message(name: str, part: Part, reason: str) -> str:
    """Return what is wrong with a part of an encoder, and how to fix it."""
    folder = Path(model_folder(name))
    what = f"model.encoder {name!r}"
    pattern = " or ".join(FILES[part][:2])
    found = [path for kind in FILES[part] for path in sorted(folder.glob(kind))]
    for path in found:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                return (
                    f"{what}: {path} is a pointer of Git LFS and not the file itself. Run `git lfs pull` in "
                    "the folder"
                )
    if found:
        fix = (
            f"write it again: xlt export --run {name} --out {folder}"
            if name != str(folder)
            else "copy it again"
        )
        return (
            f"{what}: its {part} cannot be loaded from {found[0]} ({reason}). The file is damaged, or was "
            f"written by another version of the library: {fix}"
        )
    if folder.is_dir():
        if part == "weights":
            return (
                f"{what}: its weights cannot be loaded, because {folder} has no {pattern}. Name a model with "
                "weights. xlt.fit can draw random weights (model.from_scratch)"
            )
        inner = [path.parent for path in sorted(folder.glob("*/config.json"))]
        hint = f", or name {inner[0]}" if inner and part == "config" else ""
        if part == "config" and (folder / ADAPTER).is_file():
            hint = f". It holds {ADAPTER}, {MERGE}"
        return f"{what}: {folder} has no {pattern}. Copy the encoder's file into the folder{hint}"
    if part == "weights":
        return (
            f"{what}: its weights cannot be loaded ({reason}). Name a model with weights. xlt.fit can draw "
            "random weights (model.from_scratch)"
        )
    thing = (
        f"has no {part} that can be loaded" if part == "tokenizer" else "is no folder, and cannot be loaded"
    )
    return f"{what} {thing} from the hub ({reason}). {WITHOUT_NETWORK}"


def _in_one_line(error: Exception) -> str:
    """Return the class and the beginning of the message of an error."""
    message = " ".join(str(error).split()) or "no reason is given"
    return f"{type(error).__name__}: {message[:MAX_REASON]}{'…' if len(message) > MAX_REASON else ''}"


def type_in(name: str) -> str | None:
    """Return the `model_type` in the config.json of an encoder's folder. Return None for a name on the hub.

    Args:
        name: Name of the encoder.

    Raises:
        ValueError: The file is not JSON, or names no type, or the folder is an adapter's.
    """
    path = Path(model_folder(name)) / "config.json"
    if not path.is_file():
        return None
    if (path.parent / ADAPTER).is_file():
        raise ValueError(f"model.encoder {name!r}: {path.parent} holds {ADAPTER}, {MERGE}")
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"model.encoder {name!r}: {path} is not JSON ({error}). The file is damaged: copy it again"
        ) from error
    kind = found.get("model_type") if isinstance(found, dict) else None
    if not isinstance(kind, str):
        raise ValueError(
            f"model.encoder {name!r}: {path} has no model_type. Write it into the file, such as "
            '"model_type": "xlm-roberta"'
        )
    return kind

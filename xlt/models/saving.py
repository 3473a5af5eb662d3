"""Save an encoder as files that transformers loads (config, weights, tokenizer), and the heads beside it."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from xlt.models.encoders.families import family_of
from xlt.models.encoders.multimodal import Vision, VisionSettings, new_vision
from xlt.models.encoders.text import load_config
from xlt.models.finite import check_finite
from xlt.system.encoder_files import quietly
from xlt.system.folders import HEADS, VISION, VISION_SETTINGS, model_folder
from xlt.system.lock import LOCK, scratch_folder

WRITE_FIX = "free some disk space, or make the folder writable; the same command then writes the model"
"""How to fix a failed export."""

AGAIN = "If its run still has its checkpoints, xlt export writes the file again"

Heads = Mapping[str, Mapping[str, Tensor]]
"""Weights of heads, by the name of the head and the name of the weight."""


def save_encoder(
    weights: Mapping[str, Tensor],
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    masked_head: Mapping[str, Tensor],
    heads: Heads,
    labels: Mapping[str, Sequence[str]],
    out: Path,
    precision: Literal["float16", "float32"],
    vision: tuple[VisionSettings, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write an encoder into a folder. Each file appears only when complete, the weights last.

    Args:
        weights: Weights of the encoder, by their names in transformers. They are not copied.
        name: Name of the encoder that training began with, which has the config.
        tokenizer: The tokenizer. It is written if the folder has none.
        masked_head: Weights of the encoder's own head for masked tokens. Empty if it has none.
        heads: Weights of the tasks' heads.
        labels: Names of each head's classes.
        out: The folder.
        precision: Precision of the weights.
        vision: Settings of images and weights of their projection. Defaults to none.

    Raises:
        OSError: The folder cannot be written.
        NotFiniteError: A weight is NaN or infinite, or becomes so in this precision.
    """
    model = encoder_model(load_config(name), weights, masked_head)
    model.to(getattr(torch, precision))
    flat = {f"{head}.{key}": tensor for head, state in heads.items() for key, tensor in state.items()}
    settings, projection = vision or (None, {})
    _check_exported({**model.state_dict(), **flat, **projection}, out, precision)
    with _scratch(out) as scratch:
        with quietly():
            model.save_pretrained(scratch)
        _save_heads(flat, {head: list(labels.get(head, ())) for head in heads}, scratch / HEADS)
        if settings is not None:
            (scratch / VISION_SETTINGS).write_text(json.dumps(settings._asdict()), encoding="utf-8")
        if projection:
            save_file(dict(projection), scratch / VISION)
        if not all((out / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            tokenizer.save_pretrained(scratch)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    files: Mapping[str, bytes],
    out: Path,
    precision: Literal["float16", "float32"],
) -> None:
    """Write a model of transformers into a folder. Each file appears only when complete, the weights last.

    Args:
        model: The model.
        tokenizer: The tokenizer.
        files: Content of further files, by their path in the folder.
        out: The folder.
        precision: Precision of the weights.

    Raises:
        OSError: The folder cannot be written.
        NotFiniteError: A weight is NaN or infinite, or becomes so in this precision.
    """
    model.to(getattr(torch, precision))  # type: ignore[arg-type]
    _check_exported(model.state_dict(), out, precision)
    with _scratch(out) as scratch:
        with quietly():
            model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        for name, content in files.items():
            path = scratch / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def _check_exported(weights: Mapping[str, Tensor], out: Path, precision: str) -> None:
    """Raise NotFiniteError if a weight is NaN or infinite in the precision of an export."""
    check_finite(
        weights,
        f"the model for {out}, in {precision},",
        "it is not exported; take an earlier checkpoint, or float32 if float16 overflows",
    )


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Give a folder for new files, and move the files into `out` after the block, the weights last."""
    out.mkdir(parents=True, exist_ok=True)
    with scratch_folder(out) as scratch:
        try:
            yield scratch
        except SafetensorError as error:
            raise OSError(f"the model cannot be written into {out} ({error}): {WRITE_FIX}") from error
        for path in sorted(
            (path for path in scratch.rglob("*") if path.is_file() and path.name != LOCK),
            key=lambda path: (path.suffix == ".safetensors", path.name not in (HEADS, VISION), path.name),
        ):
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            target = out / path.relative_to(scratch)
            target.parent.mkdir(exist_ok=True)
            path.replace(target)


def encoder_model(
    config: PretrainedConfig, weights: Mapping[str, Tensor], masked_head: Mapping[str, Tensor]
) -> PreTrainedModel:
    """Return the bare model or the model for masked tokens, which shares the memory of its weights.

    Args:
        config: Config of the encoder.
        weights: Weights of the encoder.
        masked_head: Weights of the head for masked tokens. Empty for the bare model.
    """
    state, family = dict(weights), family_of(config)
    with torch.device("meta"):
        if not masked_head:
            model = family.bare(config)
        else:
            model = family.masked(config)
            head = family.masked_state(masked_head, state[f"{family.words}.weight"])
            state = {f"{model.base_model_prefix}.{name}": tensor for name, tensor in state.items()} | head
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    return model


def _save_heads(flat: Mapping[str, Tensor], labels: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write the heads into a file. Without heads, no file is written."""
    if flat:
        save_file(dict(flat), path, {"labels": json.dumps(labels)})


def load_heads(name: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, list[str]]]:
    """Return the weights of the heads beside an encoder, and the names of their classes.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.

    Raises:
        FileNotFoundError: The run is not finished.
        ValueError: The file is damaged, or its weights are not finite.
    """
    path = Path(model_folder(name)) / HEADS
    if not path.is_file():
        return {}, {}
    heads: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            labels = json.loads(file.metadata()["labels"])
            for key in file.keys():  # noqa: SIM118 (no mapping)
                head, _, weight = key.partition(".")
                heads.setdefault(head, {})[weight] = file.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). {AGAIN}") from error
    flat = {f"{head}.{key}": tensor for head, state in heads.items() for key, tensor in state.items()}
    check_finite(flat, str(path), "take another run, or export an earlier checkpoint of this one")
    return heads, labels


def load_vision_settings(name: str) -> VisionSettings | None:
    """Return the settings of images of the model beside an encoder; None if its runs read text alone.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.

    Raises:
        FileNotFoundError: The run is not finished.
    """
    path = Path(model_folder(name)) / VISION_SETTINGS
    return VisionSettings(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def load_vision(name: str) -> Vision | None:
    """Return the projection of images beside an encoder; None if its last run read no images, or was blind.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.

    Raises:
        FileNotFoundError: The run is not finished, or its vision encoder cannot be loaded.
        ValueError: The file is damaged, or its weights are not finite.
    """
    settings, path = load_vision_settings(name), Path(model_folder(name)) / VISION
    if settings is None or settings.is_blind or not path.is_file():
        return None
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). {AGAIN}") from error
    check_finite(state, str(path), "take another run, or export an earlier checkpoint of this one")
    vision = new_vision(settings, len(state["projector.weight"]))
    vision.load_state_dict(state)
    return vision

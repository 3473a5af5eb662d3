"""Trained LoRA on disk, in the format of peft: reading, writing, and addition to the weights of an encoder.

A run with LoRA has a folder `model/adapter` with adapter_config.json and adapter_model.safetensors. The
metadata of the weights has the hash of the frozen encoder, so that a LoRA is never added to another encoder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from xlt.models.encoders.text import Encoder
from xlt.models.finite import check_finite
from xlt.models.frozen import hash_of_parameters
from xlt.models.lora import NAME
from xlt.system.files import write_atomically
from xlt.system.folders import model_folder

FOLDER = "adapter"
"""Subfolder of a run's model for its LoRA."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PREFIX = "base_model.model."
"""Beginning of all names in a file of peft."""

A, B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Adapter:
    """A trained LoRA.

    Args:
        where: Its folder, or the checkpoint that holds it, for error messages.
        weights: The matrices A and B of each linear layer, by their names in peft without the prefix.
        config: Content of adapter_config.json.
        encoder_hash: Hash of the encoder that was frozen. Empty if it is not known.
        language_lora: Folder of the language LoRA that lay below. Empty if there was none.
    """

    where: str
    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    encoder_hash: str = ""
    language_lora: str = ""

    @property
    def encoder(self) -> str:
        """Name of the encoder that was frozen."""
        return str(self.config["base_model_name_or_path"])

    @torch.no_grad()
    def added_to(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return an encoder's weights plus (alpha / rank) B A, for the linear layers that have matrices.

        Args:
            weights: The encoder's weights by name, in single precision.

        Raises:
            ValueError: The encoder has no such layers, or layers of another size.

        Source: Hu et al. 2021, section 4.1.
        """
        scale, found = self.config["lora_alpha"] / self.config["r"], {}
        for name in self.weights:
            if not name.endswith(A):
                continue
            layer = name.removesuffix(A)
            delta = (self.weights[f"{layer}{B}"] @ self.weights[name]) * scale
            old = weights.get(f"{layer}.weight")
            if old is None or old.shape != delta.shape:
                there = "no such layer" if old is None else f"the shape {tuple(old.shape)}"
                raise ValueError(
                    f"the LoRA {self.where} does not fit the encoder: {layer} has the shape "
                    f"{tuple(delta.shape)} in the LoRA, and the encoder has {there}. Name a LoRA that was "
                    "trained on this encoder"
                )
            found[f"{layer}.weight"] = old + delta.to(old.device)
        return found

    def add_to(self, encoder: Encoder) -> None:
        """Add the product of the matrices to the weights of an encoder, in place.

        Raises:
            ValueError: The LoRA does not fit the encoder.
        """
        transformer = encoder.transformer
        transformer.load_state_dict(self.added_to(transformer.state_dict()), strict=False)

    def check_encoder(self, encoder_hash: str, name: str) -> None:
        """Check that an encoder is the one that was frozen.

        Args:
            encoder_hash: Hash of the encoder.
            name: Name of the encoder.

        Raises:
            ValueError: The encoder has other weights.
        """
        if self.encoder_hash not in ("", encoder_hash):
            raise ValueError(
                f"the LoRA {self.where} was trained on other weights than those of {name} (hash "
                f"{self.encoder_hash[:12]} there, {encoder_hash[:12]} now). Name a LoRA that was trained on "
                f"{name}, or restore the weights"
            )


def adapter_of(
    where: str,
    trained: Mapping[str, Tensor],
    config: str,
    encoder: str,
    encoder_hash: str,
    language_lora: str,
) -> Adapter:
    """Return the LoRA in the weights of a checkpoint.

    Args:
        where: The checkpoint, for error messages.
        trained: Trained weights of the encoder by name.
        config: Content of adapter_config.json.
        encoder: Name of the encoder that was frozen.
        encoder_hash: Its hash.
        language_lora: Folder of the language LoRA below. Empty if there is none.
    """
    weights = {name.replace(f".{NAME}.", "."): tensor for name, tensor in trained.items()}
    settings = json.loads(config) | {"base_model_name_or_path": encoder}
    return Adapter(where, weights, settings, encoder_hash, language_lora)


def save_adapter(adapter: Adapter, out: Path) -> None:
    """Write a LoRA as files that `PeftModel.from_pretrained` of peft loads.

    Args:
        adapter: The LoRA.
        out: The folder.

    Raises:
        NotFiniteError: A weight is NaN or infinite.
        OSError: The folder cannot be written.
    """
    check_finite(adapter.weights, f"the LoRA for {out}", "it is not exported; take an earlier checkpoint")
    out.mkdir(parents=True, exist_ok=True)
    facts = {"encoder_hash": adapter.encoder_hash, "language_lora": adapter.language_lora}
    weights = {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in adapter.weights.items()}
    write_atomically(out / CONFIG, json.dumps(adapter.config, indent=2, sort_keys=True) + "\n")
    # safetensors writes several keys in a random order, so that the file's hash would not follow its content.
    write_atomically(out / WEIGHTS, save(weights, {"xlt": json.dumps(facts)}))


def adapter_folder(name: str) -> Path:
    """Return the folder of a LoRA.

    Args:
        name: Folder of a finished run, of its export, or of a LoRA in the format of peft.

    Raises:
        FileNotFoundError: The run is not finished, or the folder has no LoRA.
    """
    folder = Path(name)
    if not (folder / CONFIG).is_file():
        folder = Path(model_folder(name)) / FOLDER
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"{name} has no LoRA: {folder / CONFIG} is missing. Name the folder of a finished run that was "
            "trained with model.lora"
        )
    return folder


def load_adapter(name: str) -> Adapter:
    """Read a LoRA.

    Args:
        name: Folder of a finished run, of its export, or of a LoRA in the format of peft.

    Raises:
        FileNotFoundError: The run is not finished, or the folder has no LoRA.
        ValueError: A file is damaged, the weights are not finite, or the folder holds more than plain LoRA.
    """
    folder = adapter_folder(name)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("xlt", "{}"))
            weights = {key.removeprefix(PREFIX): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"the LoRA in {folder} cannot be read ({error}). If its run still has its checkpoints, "
            "xlt export writes the files again"
        ) from error
    is_plain = not any(config.get(key) for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern"))
    others = [name for name in weights if not name.endswith((A, B))]
    if not is_plain or others:
        raise ValueError(
            f"{folder} holds more than plain LoRA ({others[0] if others else 'a variant in ' + CONFIG}). "
            "xlt reads matrices A and B of linear layers alone"
        )
    check_finite(weights, str(folder), "take another run, or export an earlier checkpoint of this one")
    return Adapter(str(folder), weights, config, **facts)


def exchanged(name: str, language_lora: str) -> Encoder:
    """Return the encoder of a run with LoRA, with another language LoRA below the run's own LoRA.

    Args:
        name: Folder of the run, or of its export.
        language_lora: Folder of the language LoRA.

    Raises:
        ValueError: The run was trained without a language LoRA, the language LoRA was trained on another
            encoder, or the encoder has changed.
    """
    task, language = load_adapter(name), load_adapter(language_lora)
    if not task.language_lora:
        raise ValueError(
            f"{name} was trained without model.language_lora, so {language_lora} cannot replace it: leave "
            "the language LoRA out"
        )
    encoder = Encoder(task.encoder)
    found = hash_of_parameters(encoder.transformer.named_parameters())
    for adapter in (language, task):
        adapter.check_encoder(found, task.encoder)
        adapter.add_to(encoder)
    return encoder

"""Lean fine-tuning: a run trains a part of the encoder, or LoRA, and its checkpoints hold that part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xlt.models.adapters import WEIGHTS, Adapter, adapter_folder, adapter_of, load_adapter
from xlt.models.encoders.text import Encoder
from xlt.models.frozen import check_same, freeze, frozen_parameters, hash_of_parameters
from xlt.models.lora import Lora, add_lora, config_text, import_peft
from xlt.system.checks import require
from xlt.system.hashing import hash_file

KEY = "frozen"
"""Key of the hashes in a checkpoint."""


def check_keys(
    lora: Lora,
    frozen_layers: int | None,
    language_lora: str | None,
    from_scratch: bool,
    compile: bool,
    gradient_checkpointing: bool,
) -> None:
    """Check the keys under `model.` that exclude each other, before the encoder is loaded.

    Raises:
        ValueError: Keys do not fit together, or peft is missing.
    """
    is_lean = lora.is_used or frozen_layers is not None
    rule = "be false with model.lora or model.frozen_layers, which keep the encoder's weights as they are"
    require(not (from_scratch and is_lean), "model.from_scratch", from_scratch, rule)
    rule = "be left out without model.lora, because the weights would not stay those of the language LoRA"
    require(lora.is_used or language_lora is None, "model.language_lora", language_lora, rule)
    rule = "be false with model.lora, with which compiled layers were not tested"
    require(not (compile and lora.is_used), "model.compile", compile, rule)
    rule = (
        "be false with model.compile, because compiled layers choose for themselves what they compute again"
    )
    require(not (gradient_checkpointing and compile), "model.gradient_checkpointing", True, rule)
    if lora.is_used:
        import_peft()


class Lean:
    """The part of an encoder that is not trained. The encoder is frozen, and gets its LoRA.

    Args:
        encoder: The encoder, which is changed.
        name: Name of the encoder.
        lora: LoRA to train.
        frozen_layers: Number of the lowest layers to freeze with the embeddings. None to freeze nothing. With
            LoRA, the embeddings and all layers are frozen, and these layers get no LoRA.
        language_lora: Folder of the language LoRA to add to the encoder first. None for none.
        seed: Seed of the initial LoRA.

    Raises:
        FileNotFoundError: The folder has no language LoRA.
        ValueError: The encoder has no such layers, or the language LoRA is of another encoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        lora: Lora,
        frozen_layers: int | None,
        language_lora: str | None,
        seed: int,
    ) -> None:
        self._name, self._language_lora, self._lora = name, language_lora or "", lora
        if frozen_layers is not None:
            freeze(encoder, frozen_layers)
        if lora.is_used:
            most = len(encoder.layers) - 1
            rule = f"be at most {most} with model.lora, so that a layer is left for it"
            require((frozen_layers or 0) <= most, "model.frozen_layers", frozen_layers, rule)
            encoder.transformer.requires_grad_(False)
        frozen = frozen_parameters(encoder)
        self._hashes: dict[str, str] = {}
        if frozen:
            found = hash_of_parameters(frozen.items())
            self._hashes = {
                "encoder": found,
                "language_lora": _add_language(encoder, language_lora, name, found),
            }
        if lora.is_used:
            add_lora(encoder, lora, seed, frozen_layers or 0)

    def leave_out(self, checkpoint: dict[str, Any], encoder: Encoder) -> None:
        """Take the frozen weights out of a checkpoint, and add their hash."""
        frozen = frozen_parameters(encoder)
        if not frozen:
            return
        for name in frozen:
            del checkpoint["state_dict"][f"encoder.transformer.{name}"]
        lora = config_text(encoder) if self._lora.is_used else ""
        checkpoint[KEY] = {**self._hashes, "lora": lora}

    def put_back(self, checkpoint: dict[str, Any], encoder: Encoder) -> None:
        """Put the frozen weights of the encoder into a checkpoint that was read.

        Raises:
            ValueError: The frozen weights have changed since the checkpoint was saved.
        """
        frozen = frozen_parameters(encoder)
        if not frozen:
            return
        check_same(checkpoint[KEY], self._hashes, self._name, self._language_lora)
        names = {f"encoder.transformer.{name}": parameter.detach() for name, parameter in frozen.items()}
        checkpoint["state_dict"] |= names


def _add_language(encoder: Encoder, language_lora: str | None, name: str, encoder_hash: str) -> str:
    """Add a language LoRA to the encoder, and return the hash of the LoRA; an empty text without one."""
    if language_lora is None:
        return ""
    adapter = load_adapter(language_lora)
    adapter.check_encoder(encoder_hash, name)
    adapter.add_to(encoder)
    return hash_file(adapter_folder(language_lora) / WEIGHTS)


def complete(
    trained: Mapping[str, Tensor],
    frozen: Mapping[str, str] | None,
    name: str,
    language_lora: str | None,
    path: Path,
) -> tuple[Mapping[str, Tensor], Adapter | None]:
    """Return the whole weights of a checkpoint's encoder, and its LoRA, which the weights include.

    Args:
        trained: Weights of the encoder in the checkpoint.
        frozen: Hashes of the frozen weights in the checkpoint. None if nothing was frozen.
        name: Name of the encoder that the run began with.
        language_lora: Folder of the language LoRA below. None for none.
        path: The checkpoint.

    Returns:
        The weights by name, and the LoRA or None.

    Raises:
        ValueError: The frozen weights have changed since the checkpoint was saved.
    """
    if frozen is None:
        return trained, None
    encoder = Encoder(name)
    base = dict(encoder.transformer.named_parameters())
    found = hash_of_parameters((key, value) for key, value in base.items() if key not in trained)
    language = "" if language_lora is None else hash_file(adapter_folder(language_lora) / WEIGHTS)
    check_same(frozen, {"encoder": found, "language_lora": language}, name, language_lora or "")
    if not frozen["lora"]:
        return {**encoder.transformer.state_dict(), **trained}, None
    if language_lora is not None:
        load_adapter(language_lora).add_to(encoder)
    adapter = adapter_of(str(path), trained, frozen["lora"], name, found, language_lora or "")
    weights = encoder.transformer.state_dict()
    return weights | adapter.added_to(weights), adapter

"""LoRA: trained matrices of low rank beside frozen linear layers, by peft. Keys under `model.lora`.

A linear layer with the weights W gives W x + (alpha / rank) B A x. A starts with random numbers and B with
zeros, so that training starts from the encoder as it is.
"""

import json
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from xlt.models.encoders.text import Encoder
from xlt.models.kernels.dropout import replace_dropout
from xlt.models.kernels.linear import replace_linear
from xlt.models.transfer_model import seeded
from xlt.system.checks import require

ALL = "all-linear"
"""Value of `targets` for all linear layers."""

NAME = "default"
"""Name of the adapter in the names of its weights, as peft gives them."""


@dataclass(frozen=True)
class Lora:
    """LoRA: train matrices of low rank beside the encoder's frozen linear layers. Needs the extra lora.

    Args:
        rank: Rank of the matrices, such as 8. 0 trains the weights of the encoder instead.
        alpha: Factor of the matrices, which is divided by the rank. Must be above 0. Defaults to twice the
            rank.
        dropout: Dropout probability of the input of the matrices. Must lie in 0 to 1, 1 excluded.
        targets: Names of the linear layers that get matrices, such as [query, key, value], or [all-linear]
            for all of them. Defaults to the layers that peft names for the encoder (query and value in
            XLM-R), and to all for an encoder that peft does not know.

    Source: Hu et al. 2021 (arXiv 2106.09685).
    """

    rank: int = 0
    alpha: float | None = None
    dropout: float = 0.0
    targets: list[str] | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: A value is not allowed.
        """
        rule = "be at least 1, or 0 to train the weights of the encoder instead"
        require(self.rank >= 0, "model.lora.rank", self.rank, rule)
        require(self.alpha is None or self.alpha > 0, "model.lora.alpha", self.alpha, "be above 0")
        fits = 0 <= self.dropout < 1
        require(fits, "model.lora.dropout", self.dropout, "lie in 0 to 1, 1 excluded")
        rule = "name at least one layer, or be left out"
        require(self.targets is None or bool(self.targets), "model.lora.targets", self.targets, rule)
        for key in ("alpha", "dropout", "targets"):
            value = getattr(self, key)
            require(
                self.is_used or not value, f"model.lora.{key}", value, "be left out if model.lora.rank is 0"
            )

    @property
    def is_used(self) -> bool:
        """True if a run trains LoRA."""
        return self.rank > 0


NO_LORA = Lora()
"""No LoRA: a run trains the weights of the encoder."""


def import_peft() -> Any:
    """Return the package peft.

    Raises:
        ValueError: The package is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ValueError(
            f"model.lora needs the package peft, which is not installed ({error}). Install it with "
            "pip install -e '.[lora]'"
        ) from error
    return peft


def add_lora(encoder: Encoder, lora: Lora, seed: int, frozen_layers: int = 0) -> None:
    """Freeze an encoder, and add trained matrices to its linear layers.

    Args:
        encoder: The encoder.
        lora: Rank, factor, dropout and layers.
        seed: Seed of the initial matrices.
        frozen_layers: Number of the lowest layers that get no matrices. Defaults to 0.

    Raises:
        ValueError: peft is missing, or the encoder has no such linear layers.
    """
    peft, transformer = import_peft(), encoder.transformer
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    targets = lora.targets or known.get(encoder.config.model_type) or [ALL]
    _check_targets(targets, transformer)
    names = _names_above(frozen_layers, targets, encoder) if frozen_layers else list(targets)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL if ALL in names else names,
    )
    with seeded(seed):
        peft.inject_adapter_in_model(config, transformer, NAME)
    layers_with_lora: list[Any] = [
        m for m in transformer.modules() if isinstance(m, peft.tuners.lora.LoraLayer)
    ]
    for layer in layers_with_lora:
        # Autocast converts the input itself. peft would first convert the input to single precision.
        layer.cast_input_dtype_enabled = False
    replace_dropout(transformer)
    replace_linear(transformer)


def _check_targets(targets: list[str], transformer: PreTrainedModel) -> None:
    """Raise ValueError for a name that ends the name of no linear layer."""
    linear = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if target != ALL and not any(_ends(name, [target]) for name in linear):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise ValueError(
                f"model.lora.targets names {target}, but the encoder has no linear layer of this name. Name "
                f"some of {known}, or {ALL}"
            )


def _names_above(frozen_layers: int, targets: list[str], encoder: Encoder) -> list[str]:
    """Return the full names of the linear layers with the names `targets` above the lowest layers.

    peft can leave out layers too, but not with all linear layers, nor in each family.
    """
    prefix = encoder.family.layers
    return [
        f"{prefix}.{i}.{name}"
        for i, layer in enumerate(encoder.layers)
        if i >= frozen_layers
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear) and (ALL in targets or _ends(name, targets))
    ]


def _ends(name: str, targets: list[str]) -> bool:
    """Return True if the last parts of a module's name are one of the targets."""
    return any(f".{name}".endswith(f".{target}") for target in targets)


def config_text(encoder: Encoder) -> str:
    """Return the content of peft's adapter_config.json for an encoder with LoRA."""
    transformer: Any = encoder.transformer
    settings = transformer.peft_config[NAME].to_dict() | {"inference_mode": True}
    return json.dumps(settings, default=sorted, indent=2, sort_keys=True)

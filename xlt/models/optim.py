"""AdamW, its learning rates by layer, and their schedule in optimizer steps."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from xlt.models.encoders.text import Encoder
from xlt.system.checks import require

HEADS = ("heads.", "vision.projector.", "vision.grid.", "vision.number.")
"""Beginnings of the names of parameters that start with random weights in a TransferModule."""

_LAYER = re.compile(r"encoder\..*\.layers?\.(\d+)\.")
"""Pattern of the names of a layer's parameters in a TransferModule."""


def check_rates(
    learning_rate: float,
    warmup_steps: int,
    weight_decay: float,
    layer_decay: float | None,
    head_learning_rate: float | None,
) -> None:
    """Check the keys of the optimizer under `model.`.

    Raises:
        ValueError: A value is out of range.
    """
    require(0 < learning_rate < math.inf, "model.learning_rate", learning_rate, "be above 0, and finite")
    require(warmup_steps >= 0, "model.warmup_steps", warmup_steps, "be 0 or more steps")
    require(weight_decay >= 0, "model.weight_decay", weight_decay, "be 0 or more")
    fits = layer_decay is None or 0 < layer_decay <= 1
    require(fits, "model.layer_decay", layer_decay, "lie in 0 to 1, 0 excluded")
    fits = head_learning_rate is None or 0 < head_learning_rate < math.inf
    rule = "be above 0, and finite, or be left out"
    require(fits, "model.head_learning_rate", head_learning_rate, rule)


def adamw(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    head_learning_rate: float | None = None,
) -> AdamW:
    """Return a fused AdamW without weight decay on biases and norms.

    Args:
        model: The model. Parameters that need no gradient are left out.
        learning_rate: Peak learning rate of the encoder's top layer.
        weight_decay: Weight decay of all other parameters.
        layer_decay: Factor from the learning rate of a layer to that of the layer below. Defaults to 1, one
            rate for the whole encoder.
        head_learning_rate: Peak learning rate of the heads and of the projection of images. Defaults to
            `learning_rate`.

    Returns:
        The optimizer. Its first parameter group has the rate `learning_rate`, unless only the heads have
        trained parameters.

    Source: Loshchilov and Hutter (2019). No decay on biases and norms: Devlin et al. (2019). Epsilon and
    betas: RoBERTa's fine-tuning (Liu et al. 2019, appendix C). Rates by layer: Howard and Ruder (2018),
    section 3.2; Clark et al. (2020), appendix B. Unlike there, heads have the top layer's rate by default.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if layer_decay == 1 and head_learning_rate is None:
        groups = _groups((parameter for _, parameter in named), learning_rate, weight_decay)
    else:
        groups = []
        encoder = getattr(model, "encoder", None)
        norm = encoder.family.final_norm if isinstance(encoder, Encoder) else ""
        rates = _rates([name for name, _ in named], learning_rate, layer_decay, head_learning_rate, norm)
        for rate in sorted(set(rates.values()), key=lambda rate: (rate != learning_rate, -rate)):
            own = [parameter for name, parameter in named if rates[name] == rate]
            groups += _groups(own, rate, weight_decay)
    return AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def _groups(parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return the two parameter groups of a learning rate: with and without weight decay."""
    decayed, kept = [], []
    for parameter in parameters:
        (decayed if parameter.ndim > 1 else kept).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay, "lr": rate},
        {"params": kept, "weight_decay": 0.0, "lr": rate},
    ]


def _rates(
    names: Sequence[str], top: float, layer_decay: float, heads: float | None, final_norm: str
) -> dict[str, float]:
    """Return the peak learning rate of each parameter of a TransferModule by its name.

    Args:
        names: Names of the parameters.
        top: Rate of the encoder's top layer.
        layer_decay: Factor from a layer to the layer below. The embeddings are below the lowest layer.
        heads: Rate of the heads and of the projection of images. If None, the rate of the top layer.
        final_norm: Path in the encoder of the norm after the last layer, which has the top layer's rate.
            Empty if there is none.
    """
    levels: dict[str, int] = {}
    for name in names:
        found = _LAYER.match(name)
        levels[name] = int(found[1]) + 1 if found else 0
    highest = max(levels.values(), default=0)
    if final_norm:
        levels |= {name: highest for name in names if name.startswith(f"encoder.transformer.{final_norm}.")}
    head_rate = top if heads is None else heads
    return {
        name: head_rate if name.startswith(HEADS) else top * layer_decay ** (highest - level)
        for name, level in levels.items()
    }


def linear_schedule(optimizer: AdamW, warmup_steps: int, max_steps: int) -> LambdaLR:
    """Return a schedule that rises linearly for `warmup_steps` + 1 steps, then falls linearly to 0.

    Args:
        optimizer: The optimizer.
        warmup_steps: Number of optimizer steps before the peak learning rate.
        max_steps: Number of optimizer steps after which the learning rate is 0.
    """

    def factor(step: int) -> float:
        """Return the learning rate as a share of its peak after `step` steps."""
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))

    return LambdaLR(optimizer, factor)

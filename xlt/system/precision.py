"""Precision of the computation: which one is fast on a device."""

import logging
import platform
from typing import Literal

import torch

from xlt.system.torch_private import has_bf16_instructions, onednn_takes

log = logging.getLogger(__name__)

FixedPrecision = Literal["32-true", "bf16-mixed"]
"""Precision of an evaluation or a prediction."""

Precision = Literal["auto", "32-true", "bf16-mixed"]
"""Precision that a user can ask for; `auto` becomes one of the other two."""


def has_bf16() -> bool:
    """Return True if the CPU multiplies bf16 numbers itself, without a conversion to single precision.

    oneDNN reports bf16 support on every x86 CPU with AVX512, although some of them convert each number.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        return has_bf16_instructions()
    return onednn_takes(torch.bfloat16)


def fast_precision(accelerator: str) -> FixedPrecision:
    """Return bf16-mixed if the device multiplies bf16 numbers itself, otherwise 32-true.

    Args:
        accelerator: Lightning's name of the device: auto, cpu, gpu, cuda or mps.
    """
    if torch.cuda.is_available() and accelerator != "cpu":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_mps = torch.backends.mps.is_available() and accelerator != "cpu"
        is_fast = has_bf16() and not has_mps
    return "bf16-mixed" if is_fast else "32-true"


def chosen_precision(
    precision: Precision, accelerator: str, begun: FixedPrecision | None = None
) -> FixedPrecision:
    """Return the precision of the computation, and log the choice for `auto`.

    Args:
        precision: The precision that the user asked for.
        accelerator: Lightning's name of the device.
        begun: Precision of the work that is resumed, which `auto` keeps. Defaults to no such work.
    """
    if precision != "auto":
        return precision
    chosen = begun or fast_precision(accelerator)
    has = "has" if chosen == "bf16-mixed" else "has no"
    log.info(
        "precision: %s (auto: %s)", chosen, "as before" if begun else f"the device {has} bf16 instructions"
    )
    return chosen


def warn_of_slow_bf16(precision: str, device: str, key: str, is_resumed: bool = False) -> None:
    """Warn if bf16 is slower than single precision.

    Args:
        precision: Precision, such as bf16-mixed.
        device: Type of the device, such as cpu.
        key: Config key of the precision.
        is_resumed: True if a run is resumed, which keeps its precision. Defaults to False.
    """
    if device == "cpu" and "bf16" in precision and not has_bf16():
        log.warning(
            "%s is %s, but this CPU has no bf16 instructions: a step takes 2 to 30 times as long as in "
            "32-true. %s",
            key,
            precision,
            "This run was started in it and keeps it: for 32-true, start a run with another --name"
            if is_resumed
            else f"Set {key} to auto or 32-true",
        )

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


def chosen_precision(precision: Precision, accelerator: str) -> FixedPrecision:
    """Return the precision, or the fast one of the device for `auto`.

    Args:
        precision: The precision.
        accelerator: Lightning's name of the device.
    """
    return fast_precision(accelerator) if precision == "auto" else precision


def warn_of_slow_bf16(precision: str, device: str, key: str) -> None:
    """Warn if bf16 is slower than single precision.

    Args:
        precision: Precision, such as bf16-mixed.
        device: Type of the device, such as cpu.
        key: Config key of the precision.
    """
    if device == "cpu" and "bf16" in precision and not has_bf16():
        log.warning(
            "%s is %s, but this CPU has no bf16 instructions: a step takes 2 to 30 times as long as in "
            "32-true. Set %s to auto or 32-true",
            key,
            precision,
            key,
        )

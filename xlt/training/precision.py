"""Whether a precision is the one to choose on a device."""

import logging
import platform

import torch

from xlt.system.torch_private import has_bf16_instructions, onednn_takes

log = logging.getLogger(__name__)


def has_bf16() -> bool:
    """Whether the CPU multiplies bf16 numbers itself, not by way of single precision.

    oneDNN says that it supports bf16 on every x86 CPU with AVX512, also where it then converts each number.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        return has_bf16_instructions()
    return onednn_takes(torch.bfloat16)


def warn_of_slow_bf16(precision: str, device: str, key: str) -> None:
    """Say so where bf16 will be slower than single precision.

    Args:
        precision: Such as bf16-mixed.
        device: Its type, such as cpu.
        key: What the precision is called in the config.
    """
    if device == "cpu" and "bf16" in precision and not has_bf16():
        log.warning(
            "%s is %s, but this CPU has no bf16 instructions: its products take twice as long as those of "
            "32-true, or longer",
            key,
            precision,
        )

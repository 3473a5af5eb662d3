"""Warning about a precision that is slow on a device."""

import logging
import platform

import torch

from xlt.system.torch_private import has_bf16_instructions, onednn_takes

log = logging.getLogger(__name__)


def has_bf16() -> bool:
    """Return True if the CPU multiplies bf16 numbers itself, without a conversion to single precision.

    oneDNN reports bf16 support on every x86 CPU with AVX512, although some of them convert each number.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        return has_bf16_instructions()
    return onednn_takes(torch.bfloat16)


def warn_of_slow_bf16(precision: str, device: str, key: str) -> None:
    """Warn if bf16 is slower than single precision.

    Args:
        precision: Precision, such as bf16-mixed.
        device: Type of the device, such as cpu.
        key: Config key of the precision.
    """
    if device == "cpu" and "bf16" in precision and not has_bf16():
        log.warning(
            "%s is %s, but this CPU has no bf16 instructions: matrix products take at least twice as long as "
            "in 32-true. Set %s to 32-true",
            key,
            precision,
            key,
        )

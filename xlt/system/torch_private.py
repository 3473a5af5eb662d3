"""Private parts of torch, read in version 2.13: the only module of xlt that touches them.

oneDNN's operators are looked up when they are called, for a build of torch without oneDNN lacks them.
N tokens, I inputs and O outputs of a linear layer.
"""

from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

FLASH_ATTENTION = torch.ops.aten._flash_attention_forward
"""Flash attention over end-to-end sequences, the operator below torch's own functions for CUDA."""

EFFICIENT_ATTENTION = torch.ops.aten._efficient_attention_forward
"""Memory-efficient attention likewise."""


def has_bf16_instructions() -> bool:
    """Return True if an x86 CPU multiplies bf16 numbers by AVX512 or AMX."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def onednn_takes(number_format: torch.dtype) -> bool:
    """Return True if oneDNN has products of bfloat16 or float16 on this CPU, fast or slow."""
    if number_format == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def linear_pointwise(
    states: Float[Tensor, "*N I"],
    weight: Float[Tensor, "O I"],
    bias: Tensor | None,
    then: Literal["none", "gelu"],
) -> Float[Tensor, "*N O"]:
    """Return a linear layer's output, or GELU of the output, by one product of oneDNN.

    Source: torch/_inductor/fx_passes/mkldnn_fusion.py, which replaces linear layers by this operator.
    """
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, then, [], "none")


def set_recompile_limit(num_variants: int) -> None:
    """Set the maximum number of variants that torch.compile makes of one function."""
    torch._dynamo.config.recompile_limit = num_variants


def become(module: nn.Module, kind: type[M]) -> M:
    """Change a module's class in place: parameters, hooks and names stay, and `kind.forward` runs.

    Args:
        module: The module.
        kind: A subclass of the module's class that adds no state in `__init__`.

    Raises:
        TypeError: `kind` is not a subclass of the module's class.
    """
    if not issubclass(kind, type(module)):
        raise TypeError(f"a {type(module).__name__} cannot become {kind.__name__}, which does not extend it")
    same: Any = module
    same.__class__ = kind
    return same

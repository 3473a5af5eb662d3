"""Refuse NaN and infinity in weights and logits, which would otherwise reach the scores as numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from xlt.system.checks import NotFiniteError


def spoiled(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity. The host waits for the device once.

    Args:
        tensors: Tensors by name, such as a module's state.
    """
    floats = {
        name: tensor.detach()
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel()
    }
    if not floats:
        return []
    # NaN is both the smallest and the largest value of a tensor that holds it. A sum would copy the tensor.
    bounds = [torch.stack(torch.aminmax(tensor)).double() for tensor in floats.values()]
    are_fine = torch.stack(bounds).isfinite().all(1).tolist()
    return [name for name, is_fine in zip(floats, are_fine, strict=True) if not is_fine]


def check_finite(tensors: Mapping[str, Tensor], where: str, how_to_fix: str) -> None:
    """Check that tensors hold no NaN and no infinity.

    Args:
        tensors: Tensors by name, such as a module's state.
        where: The folder, run or checkpoint that holds the tensors, for the error message.
        how_to_fix: Text that tells a user how to get other tensors, for the error message.

    Raises:
        NotFiniteError: A tensor holds NaN or infinity.
    """
    names = spoiled(tensors)
    if names:
        raise NotFiniteError(
            f"{where} holds NaN or infinity in {len(names)} of {len(tensors)} tensors, such as {names[0]}: "
            f"{how_to_fix}"
        )


def has_nan(logits: Tensor) -> Tensor:
    """Return True, on the logits' device, if a logit is NaN or +inf. -inf marks impossible choices."""
    return ~(logits < torch.inf).all()

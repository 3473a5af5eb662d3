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
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floats:
        return []
    # A sum is finite if all terms are, unless it overflows. Tensors with such sums are checked again.
    sums = torch.stack([tensor.detach().sum(dtype=torch.float64) for tensor in floats.values()]).cpu()
    doubtful = [name for name, fine in zip(floats, sums.isfinite().tolist(), strict=True) if not fine]
    return [name for name in doubtful if not floats[name].isfinite().all()]


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

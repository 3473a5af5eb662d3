"""Refuses NaN and infinity in weights and logits, which otherwise pass for numbers up to the scores."""

from collections.abc import Mapping

import torch
from torch import Tensor

from xlt.system.checks import NotFiniteError


def spoiled(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity; the device is waited for once.

    Args:
        tensors: Such as a module's state.
    """
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floats:
        return []
    # A sum is finite where all terms are, but for one that overflows: those few are looked at again.
    sums = torch.stack([tensor.detach().sum(dtype=torch.float64) for tensor in floats.values()]).cpu()
    doubtful = [name for name, fine in zip(floats, sums.isfinite().tolist(), strict=True) if not fine]
    return [name for name in doubtful if not floats[name].isfinite().all()]


def check_finite(tensors: Mapping[str, Tensor], where: str, mend: str) -> None:
    """Raise NotFiniteError where a tensor holds NaN or infinity.

    Args:
        tensors: Such as a module's state.
        where: The folder, run or checkpoint whose tensors they are.
        mend: How to get others.
    """
    names = spoiled(tensors)
    if names:
        raise NotFiniteError(
            f"{where} holds NaN or infinity in {len(names)} of {len(tensors)} tensors, such as {names[0]}: "
            f"{mend}"
        )


def has_nan(logits: Tensor) -> Tensor:
    """A flag on the logits' device: True where any is NaN or +inf; -inf marks what cannot be chosen."""
    return ~(logits < torch.inf).all()

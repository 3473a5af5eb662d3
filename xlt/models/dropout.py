"""Dropout whose masks cost little on a CPU.

torch's own draws one Bernoulli number an element, one after the other, a large part of a packed step. Here
four 16-bit numbers come of one 64-bit draw of the same generator, and the mask is their comparison with a
threshold. The probability is rounded to a multiple of 2^-16. On other devices torch's own is used.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Masked(torch.autograd.Function):
    """Multiply by a 0/1 mask and the inverse of the probability to keep."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.mul(states, mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return torch.mul(grad, mask).mul_(ctx.scale), None, None


def dropout(states: Tensor, probability: float) -> Tensor:
    """The states with each element zero with this probability, the rest scaled up to the same mean."""
    if probability <= 0:
        return states
    dropped = round(probability * 2**16)
    if states.device.type != "cpu" or dropped >= 2**16:
        return F.dropout(states, probability)
    count = states.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[:count].view(states.shape)
    # The mask has the states' own dtype, so that applying it is one multiplication.
    mask = torch.empty(states.shape, dtype=states.dtype)
    torch.ge(numbers, dropped - 2**15, out=mask)
    return _Masked.apply(states, mask, 2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` with the masks of this module."""

    def forward(self, input: Tensor) -> Tensor:
        """The input, or in training the input with elements dropped."""
        return dropout(input, self.p) if self.training else input


def replace_dropout(model: nn.Module) -> None:
    """Put this module's Dropout in place of every `nn.Dropout` inside the model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))

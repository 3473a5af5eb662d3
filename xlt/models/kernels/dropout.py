"""Dropout whose masks cost little on a CPU.

torch's own draws one Bernoulli number an element, one after the other, a large part of a packed step.
Here numpy's SFC64, seeded by torch's generator, draws 64-bit words; the mask is the comparison of their four
16-bit numbers with a threshold. The parts of a large mask have generators of their own, so that threads
share them out. The probability is rounded to a multiple of 2^-16. On other devices torch's own is used.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HALVES = (torch.float16, torch.bfloat16)

DRAWN = 2**20
"""Numbers of a part: few enough that their memory is taken again by the next."""


class _Masked(torch.autograd.Function):
    """Multiply by a 0/1 mask and the inverse of the probability to keep."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return _scaled(states, mask, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _scaled(grad, mask, ctx.scale), None, None


def _scaled(states: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The product of all three in one pass."""
    return torch.addcmul(states.new_zeros(()), states, mask, value=scale)


def scale_of(probability: float) -> float:
    """What the elements kept are multiplied by: the inverse of their share; 0 where none is kept."""
    kept = 2**16 - round(probability * 2**16)
    return 2**16 / kept if kept else 0.0


def keep_mask(states: Tensor, probability: float) -> Tensor:
    """A mask in the states' shape and dtype: 0 with this probability, else 1."""
    dropped = round(probability * 2**16)
    if dropped == 2**16:
        return torch.zeros_like(states)
    seed = int(torch.empty((), dtype=torch.int64).random_(2**63 - 1))
    # A mask in the states' own dtype is applied by one multiplication; numpy sees a half as its bits.
    mask = torch.empty(states.shape, dtype=states.dtype)
    bits = torch.int16 if states.dtype in HALVES else states.dtype
    numbers = mask.view(-1).view(bits).numpy()
    one = torch.ones((), dtype=states.dtype).view(bits).numpy()

    def draw(part: int) -> None:
        """Draw one part of the mask."""
        out = numbers[part * DRAWN : (part + 1) * DRAWN]
        words = np.random.SFC64(seed + part).random_raw((len(out) + 3) // 4)
        np.multiply(words.view(np.int16)[: len(out)] >= dropped - 2**15, one, out=out)

    parts, threads = range(-(-len(numbers) // DRAWN)), torch.get_num_threads()
    alone = min(len(parts), threads) < 2
    for _ in map(draw, parts) if alone else _pool(threads).map(draw, parts):
        pass
    return mask


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that draw; numpy lets go of the interpreter meanwhile."""
    return ThreadPoolExecutor(threads, "dropout")


def dropout(states: Tensor, probability: float) -> Tensor:
    """The states with each element zero with this probability, the rest scaled up to the same mean."""
    if probability <= 0:
        return states
    if states.device.type != "cpu":
        return F.dropout(states, probability)
    return _Masked.apply(states, keep_mask(states, probability), scale_of(probability))


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

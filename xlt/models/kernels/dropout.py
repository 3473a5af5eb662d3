"""Dropout with masks that are cheap on a CPU.

torch draws a Bernoulli number for each element, one after the other, which takes a large part of a packed
step. Here numpy's SFC64, seeded by torch's generator, draws 64-bit words, and each word's four 16-bit numbers
are compared with a threshold. The parts of a large mask have generators of their own, so that several threads
can draw. The probability is rounded to a multiple of 2^-16. Other devices use torch's dropout.
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
"""Size of a part of a mask in elements: small enough that parts reuse the same memory."""


class _Masked(torch.autograd.Function):
    """Product of states, a 0/1 mask, and the inverse of the probability to keep an element."""

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
    """Return the product of all three in a single pass."""
    return torch.addcmul(states.new_zeros(()), states, mask, value=scale)


def scale_of(probability: float) -> float:
    """Return the factor of the elements that are kept: the inverse of their share; 0 if none is kept."""
    kept = 2**16 - round(probability * 2**16)
    return 2**16 / kept if kept else 0.0


def keep_mask(states: Tensor, probability: float) -> Tensor:
    """Return a mask with the states' shape and dtype: 0 with this probability, else 1."""
    dropped = round(probability * 2**16)
    if dropped == 2**16:
        return torch.zeros_like(states)
    if states.device.type != "cpu":
        return torch.empty_like(states).bernoulli_(1 - dropped / 2**16)
    seed = int(torch.empty((), dtype=torch.int64).random_(2**63 - 1))
    # A mask in the states' own dtype needs a single multiplication. numpy sees half precision as bits.
    mask = torch.empty(states.shape, dtype=states.dtype)
    bits = torch.int16 if states.dtype in HALVES else states.dtype
    numbers = mask.view(-1).view(bits).numpy()
    one = torch.ones((), dtype=states.dtype).view(bits).numpy()

    def draw(part: int) -> None:
        """Draw a part of the mask."""
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
    """Return threads that draw. numpy releases the interpreter's lock while it draws."""
    return ThreadPoolExecutor(threads, "dropout")


def dropout(states: Tensor, probability: float) -> Tensor:
    """Set each element to zero with this probability, and scale the others so that the mean stays."""
    if probability <= 0:
        return states
    if states.device.type != "cpu":
        return F.dropout(states, probability)
    return _Masked.apply(states, keep_mask(states, probability), scale_of(probability))


class Dropout(nn.Dropout):
    """`nn.Dropout` with the masks of this module."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input, in training with elements dropped."""
        return dropout(input, self.p) if self.training else input


def replace_dropout(model: nn.Module) -> None:
    """Replace every `nn.Dropout` inside the model by this module's Dropout."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))

"""First-order MAML: adapt the weights to support rows, take the gradient of the query rows, and undo it.

With weights w, support loss S, query loss Q and inner learning rate a, one adaptation step gives
w' = w - a S'(w). The gradient of the step is Q'(w'), which the optimizer applies to w. MAML's own gradient is
(1 - a S''(w)) Q'(w'); first-order MAML leaves S'' out.

Source: Finn et al. 2017 (arXiv 1703.03400), algorithm 1 and section 5.2.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, nn

B = TypeVar("B")

Gradients = list[Tensor | None]
"""Gradient of each parameter. None for a parameter on which the loss does not depend."""


def halves(batches: list[B]) -> tuple[list[B], list[B]]:
    """Return the support micro-batches and the query micro-batches of a step."""
    middle = len(batches) // 2
    return batches[:middle], batches[middle:]


def summed_gradients(
    parameters: Sequence[nn.Parameter],
    batches: Sequence[B],
    loss: Callable[[B], Tensor],
    held_gradients: AbstractContextManager[None],
) -> Gradients:
    """Return the gradients of the summed losses of micro-batches. No gradient is left in `grad`.

    DDP takes no notice of these gradients, so that they are those of this rank.

    Args:
        parameters: The parameters, at least one.
        batches: Micro-batches, at least one.
        loss: Returns the loss of a micro-batch.
        held_gradients: Context in which a backward pass holds the gradients of the word embeddings back. The
            first pass outside the context adds all of them.
    """

    def of(batch: B) -> Gradients:
        """Return the gradients of a micro-batch."""
        value = loss(batch)
        with torch.autocast(value.device.type, enabled=False):
            return list(torch.autograd.grad(value, parameters, allow_unused=True))

    total: Gradients = [None] * len(parameters)
    with held_gradients:
        for batch in batches[:-1]:
            total = _sums(total, of(batch))
    return _sums(total, of(batches[-1]))


def _sums(ours: Gradients, theirs: Gradients) -> Gradients:
    """Return the sum of each pair of gradients. None counts as 0."""
    return [b if a is None else a if b is None else a + b for a, b in zip(ours, theirs, strict=True)]


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over all ranks."""
    if not torch.distributed.is_initialized():
        return tensor
    # Gradients of two parameters may share their memory.
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


class InnerLoop:
    """Adaptation of weights by plain SGD, which keeps the original weights.

    Args:
        steps: Number of adaptation steps.
        learning_rate: Learning rate of the adaptation steps.
    """

    def __init__(self, steps: int, learning_rate: float) -> None:
        self._steps, self._learning_rate = steps, learning_rate
        self._originals: dict[nn.Parameter, Tensor] = {}
        self._adapted: set[nn.Parameter] = set()

    @torch.no_grad()
    def adapt(self, parameters: Iterable[nn.Parameter], gradients: Callable[[], Gradients]) -> None:
        """Adapt parameters in place, by the mean of the gradients of all ranks.

        Args:
            parameters: The parameters.
            gradients: Returns the gradients of the parameters on this rank, at the present weights.
        """
        self.restore()
        for _ in range(self._steps):
            with torch.enable_grad():
                found = gradients()
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    self._keep(parameter)
                    parameter.sub_(mean_over_ranks(gradient), alpha=self._learning_rate)
            # Autocast has copies of the weights in half precision, from before the adaptation.
            torch.clear_autocast_cache()

    def _keep(self, parameter: nn.Parameter) -> None:
        """Keep the original value of a parameter."""
        if parameter in self._adapted:
            return
        self._adapted.add(parameter)
        if parameter in self._originals:
            # New memory takes several times longer than the memory of the last step.
            self._originals[parameter].copy_(parameter)
        else:
            self._originals[parameter] = parameter.clone()

    @torch.no_grad()
    def restore(self) -> None:
        """Give all adapted parameters their original values, bit for bit."""
        for parameter in self._adapted:
            parameter.copy_(self._originals[parameter])
        self._adapted.clear()

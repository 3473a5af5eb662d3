"""Joint learning: one optimizer step adds up the gradients of all its micro-batches."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from xlt.batch.batch import Batch


def joint_loss(
    batches: Sequence[Batch],
    loss: Callable[[Batch], Tensor],
    backward: Callable[[Tensor], None],
    held_gradients: AbstractContextManager[None],
) -> Tensor:
    """Return the loss of the step's last micro-batch, after the backward passes of all others.

    The caller runs the last backward pass. Under DDP, this pass sums the gradients of all ranks, once a step.

    Args:
        batches: Micro-batches of the step, at least one.
        loss: Returns a micro-batch's part of the step's loss.
        backward: Runs the backward pass of a loss, which adds its gradients to those of earlier passes.
        held_gradients: Context in which a backward pass holds the gradients of the word embeddings back. The
            first pass outside the context adds all of them.
    """
    with held_gradients:
        for batch in batches[:-1]:
            backward(loss(batch))
    return loss(batches[-1])

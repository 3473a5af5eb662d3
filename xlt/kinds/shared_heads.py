"""Heads that several tasks of a run share."""

from collections.abc import Iterable
from typing import Any

from xlt.data.sampling.order import seed_of
from xlt.kinds.task import Task
from xlt.models.encoders.text import Encoder
from xlt.models.heads.head import Head
from xlt.models.transfer_model import TrainedHeads, adapted, load_weights, seeded
from xlt.models.transformers_private import initialise


def by_head(tasks: Iterable[Task[Any]]) -> dict[str, Task[Any]]:
    """Return the first task of each head, by the head's key.

    Raises:
        ValueError: Tasks with a common head have different classes, or different kinds of head.
    """
    found: dict[str, Task[Any]] = {}
    for task in tasks:
        first = found.setdefault(task.head_key, task)
        are_alike = isinstance(task, type(first)) or isinstance(first, type(task))
        if task.labels != first.labels or not are_alike:
            raise ValueError(
                f"{task.name} and {first.name} share a head, but have different classes. Name the classes in "
                "the task's file, in one order for all languages"
            )
    return found


def fresh_head(
    task: Task[Any], encoder: Encoder, dropout: float, seed: int, trained: TrainedHeads | None
) -> Head:
    """Return a task's head, with initial weights that depend on the seed and the head's key only.

    Args:
        task: The task.
        encoder: The encoder below the head.
        dropout: Dropout probability of the head.
        seed: Seed of the run.
        trained: Trained heads, from which the weights are taken instead. None to draw the weights.

    Raises:
        ValueError: The head is not among the trained heads, or was trained with other classes.
    """
    with seeded(seed_of("head", seed, task.head_key)):
        head = adapted(task.head(encoder.config.hidden_size, dropout), encoder.config)
        initialise(head, encoder.transformer)
    if trained is not None:
        try:
            load_weights(head, task.head_key, task.labels, trained)
        except ValueError as error:
            raise ValueError(f"model.keep_heads is true, but {error}, or set it to false") from error
    head.tie(encoder)
    return head

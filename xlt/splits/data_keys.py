"""Checks of the keys under `data.` that need no rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from xlt.kinds.task import Task
from xlt.models.encoders.text import load_config, most_tokens
from xlt.system.checks import require


def check_sizes(
    tokens_per_micro_batch: int, micro_batches_per_step: int, max_length: int, stride: int, encoder: str
) -> None:
    """Raise ValueError where lengths and limits contradict each other."""
    limit = most_tokens(load_config(encoder))
    if max_length > limit:
        raise ValueError(
            f"data.max_length is {max_length} tokens, but {encoder} has positions for {limit}: "
            f"set data.max_length to at most {limit}"
        )
    require(max_length >= 8, "data.max_length", max_length, "be at least 8 tokens")
    require(
        tokens_per_micro_batch >= max_length,
        "data.tokens_per_micro_batch",
        tokens_per_micro_batch,
        f"hold a sequence of data.max_length, {max_length} tokens",
    )
    require(
        micro_batches_per_step >= 1, "data.micro_batches_per_step", micro_batches_per_step, "be at least 1"
    )
    require(0 <= stride < max_length, "data.stride", stride, "lie between 0 and data.max_length")


def check_trainable(tasks: Mapping[str, Task[Any]]) -> None:
    """Raise ValueError for a task that is evaluated only."""
    for name, task in tasks.items():
        if not task.needs_training:
            raise ValueError(
                f"data.tasks names {name}, which has no training rows: python -m xlt.evaluate tests an "
                "encoder on it as it is"
            )


def volumes_of(volume: int | dict[str, int] | None, tasks: Sequence[str]) -> dict[str, int | None]:
    """The volume of each task.

    Raises:
        ValueError: One is below 1, or of a task that is not there.
    """
    by_task = volume if isinstance(volume, dict) else dict.fromkeys(tasks, volume)
    unknown = set(by_task) - set(tasks)
    if unknown:
        raise ValueError(
            f"data.volume names {sorted(unknown)}, where data.tasks has {list(tasks)}: a volume is of a task "
            "in each of its languages, mlm, not mlm/sw"
        )
    for name, value in by_task.items():
        require(value is None or value >= 1, f"data.volume of {name}", value, "be at least 1 example")
    return {name: by_task.get(name) for name in tasks}

"""Checks of an evaluation's keys, and values for each task: one value for all, or a mapping from tasks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from xlt.data.encode import MAX_LENGTH
from xlt.kinds.task import Task, name_of
from xlt.system.checks import require
from xlt.tasks import by_task

V = TypeVar("V")

Choice = Literal["validation", "test"]
"""Split to evaluate on."""


def values_by_task(key: str, values: V | Mapping[str, V], tasks: Sequence[Task[Any]]) -> dict[str, V]:
    """Return the value of each task that has one.

    Args:
        key: The key, for messages.
        values: One value for all tasks, or values by task.
        tasks: The tasks of the evaluation.

    Raises:
        ValueError: A value is of a task that is not evaluated.
    """
    if not isinstance(values, Mapping):
        return {task.name: values for task in tasks}
    found = by_task(values)
    check_names(key, found, tasks)
    return found


def check_names(key: str, names: Iterable[str], tasks: Sequence[Task[Any]]) -> None:
    """Raise ValueError if a key names a task that is not evaluated."""
    unknown = sorted(set(names) - {task.name for task in tasks})
    if unknown:
        raise ValueError(
            f"{key} names {', '.join(unknown)}, which tasks does not. Add the task to tasks, or drop it from "
            f"{key}"
        )


def check_sizes(
    volume: int | None, max_length: int | None, stride: int | None, tokens_per_micro_batch: int
) -> None:
    """Raise ValueError for a size out of range."""
    require(volume is None or volume >= 1, "volume", volume, "be at least 1 example")
    length = MAX_LENGTH if max_length is None else max_length
    require(length >= 8, "max_length", max_length, "be at least 8 tokens")
    fits = stride is None or 0 <= stride < length
    require(fits, "stride", stride, f"lie in 0 to {length - 1}, below max_length")
    require(tokens_per_micro_batch >= 1, "tokens_per_micro_batch", tokens_per_micro_batch, "be at least 1")


def check_distinct(**keys: Sequence[str] | None) -> None:
    """Raise ValueError for a key with an empty list, or with a name that occurs twice."""
    for key, names in keys.items():
        fits = names is None or 0 < len(names) == len(set(map(name_of, names)))
        require(fits, key, names, "name at least one, each once, or be left out")


def splits_by_task(split: Choice | dict[str, Choice], tasks: Sequence[Task[Any]]) -> dict[str, Choice]:
    """Return the split of each task; `validation` for tasks without one."""
    chosen: dict[str, Choice] = values_by_task("split", split, tasks)
    return {task.name: chosen.get(task.name, "validation") for task in tasks}

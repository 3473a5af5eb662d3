"""Values of a key for each task: one value for all tasks, or a mapping from tasks to values."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from xlt.kinds.task import Task
from xlt.tasks import by_task

V = TypeVar("V")


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

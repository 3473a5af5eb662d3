"""Heads that several tasks of a run share."""

from collections.abc import Iterable
from typing import Any

from xlt.kinds.task import Task


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

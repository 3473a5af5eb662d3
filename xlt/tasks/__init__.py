"""The tasks, one file each; a file's name is the task's name, and nothing lists them.

A task of your own is a module of your own, named in full: `mylab.scitail`.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlt.task import Task


def known() -> list[str]:
    """Names of the tasks that come with xlt."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Task[Any]:
    """The task of this name.

    Args:
        name: A file of this package, or the full name of a module that holds `TASK`; with `/<language>`
            the task in one language.

    Raises:
        ValueError: There is no such task.
    """
    base, stroke, language = name.partition("/")
    module = f"{__name__}.{base}" if "." not in base else base
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(module) if _is_language(language) or not stroke else None
    except (ImportError, ValueError):
        found = None
    if found is None:
        close = difflib.get_close_matches(name, known(), 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"unknown task {name!r}.{hint} Known tasks: {', '.join(known())}; a task of your own is "
            "named by its module, such as mylab.scitail; one in a language as mnli/de"
        )
    task = getattr(importlib.import_module(module), "TASK", None)
    if not isinstance(task, Task):
        raise ValueError(f"task {name!r}: {module} has no value TASK of a kind of xlt.kinds")
    return replace(task, name=base.rpartition(".")[2] + stroke + language, module=module)


def load_all(names: Sequence[str], roots: Sequence[Path]) -> dict[str, Task[Any]]:
    """The tasks by name; a task of plain text in each language that there is.

    Raises:
        ValueError: There are none, one is unknown, or two share a name.
    """
    if not names:
        raise ValueError(f"data.tasks is empty: name at least one of {', '.join(known())}")
    loaded = [task for name in names for task in _in_each_language(load(name), roots)]
    found = {task.name: task for task in loaded}
    if len(found) < len(loaded):
        raise ValueError(f"data.tasks names a task twice: {', '.join(names)}")
    return found


def _in_each_language(task: Task[Any], roots: Sequence[Path]) -> list[Task[Any]]:
    """The task, or where its rows come by language and none is named, one for each."""
    languages = [] if task.language else task.sources[0].languages(roots)
    return [replace(task, name=f"{task.name}/{language}") for language in languages] or [task]


def _is_language(text: str) -> bool:
    """Whether this can be a language's code, or a pair of them."""
    return re.fullmatch(r"\w+(-\w+)*", text) is not None

"""The tasks, one file each; a file's name is the task's name, and nothing lists them.

A task of your own is a module of your own, named in full: `mylab.scitail`.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import sys
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
    return replace(task, name=base.rpartition(".")[2] + stroke + language)


def _is_language(text: str) -> bool:
    """Whether this can be a language's code, or a pair of them."""
    return text.replace("-", "").isalnum()

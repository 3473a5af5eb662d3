"""The tasks, one file for each. The name of a file is the name of its task, and no list names the tasks.

A task of your own is a module of your own. Its name is the full name of the module: `mylab.scitail`.
"""

import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import xlt
from xlt.data.files import Files
from xlt.data.multilingual import ENGLISH
from xlt.kinds.task import Task, name_of

V = TypeVar("V")

FOREIGN = (str(Path(xlt.__file__).parent), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
"""Folders of code that is not a user's own."""


def known() -> list[str]:
    """Return the names of the tasks that come with xlt."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Task[Any]:
    """Return a task by its name.

    Args:
        name: Name of a file of this package, or the full name of a module that holds `TASK`. With
            `/<language>`, the task in one language.

    Raises:
        ValueError: There is no such task, or its module cannot be imported.
    """
    base, stroke, language = name.partition("/")
    module = f"{__name__}.{base}" if "." not in base else base
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if not (_is_language(language) or not stroke) or not _is_there(name, module):
        own = [".".join(path.with_suffix("").parts[-2:]) for path in Path.cwd().glob("*/*.py")]
        close = difflib.get_close_matches(name, [*known(), *own], 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"unknown task {name!r}.{hint} Known tasks: {', '.join(known())}. Name a task of your own by its "
            "module, such as mylab.scitail, and a task in one language as mnli/de"
        )
    with _imported(name, module):
        task = getattr(importlib.import_module(module), "TASK", None)
    if not isinstance(task, Task):
        raise ValueError(f"task {name!r}: {module} has no value TASK of a kind of xlt.kinds")
    _check_kind(name, type(task))
    _check_names(name, task)
    _check_languages(name, task)
    return replace(task, name=name_of(name), module=module)


def _check_kind(name: str, kind: type[Task[Any]]) -> None:
    """Raise ValueError if a method of a kind that scores predictions takes other arguments than `Task`'s."""
    for method in ("score", "submission", "example_scores", "predicted_classes", "evaluate"):
        expected, found = (list(signature(getattr(owner, method)).parameters) for owner in (Task, kind))
        if len(found) != len(expected):
            raise ValueError(
                f"task {name!r}: {kind.__name__}.{method} takes {', '.join(found)}, but must take "
                f"{', '.join(expected)}. Predictions holds outputs, rows and references"
            )


def _check_names(name: str, task: Task[Any]) -> None:
    """Raise ValueError if the labels or languages of a task are no tuple of texts, or one stands twice."""
    for key in ("labels", "languages"):
        found = getattr(task, key)
        if isinstance(found, str):
            raise ValueError(
                f"task {name!r}: {key} is the text {found!r}, and must be a tuple: write {key}=({found!r},)"
            )
        odd = [value for value in found if not isinstance(value, str)]
        if odd:
            raise ValueError(
                f"task {name!r}: {key} holds {odd[0]!r}, and must hold texts: write {str(odd[0])!r}"
            )
        twice = sorted({value for value in found if list(found).count(value) > 1})
        if twice:
            raise ValueError(f"task {name!r}: {key} names {', '.join(twice)} twice. Name each once")


def _check_languages(name: str, task: Task[Any]) -> None:
    """Raise ValueError for a task in several languages whose files tell no language apart."""
    others = [code for code in task.languages if code != ENGLISH]
    for source in task.sources:
        if others and isinstance(source, Files) and not source.names_language:
            raise ValueError(
                f"task {name!r}: languages names {', '.join(others)}, but nothing in {source.path} tells the "
                "language of a row. Set language of Files to a column, or put {language} into its path"
            )


def by_task(values: Mapping[str, V]) -> dict[str, V]:
    """Return values by the task's own name. A user may have named the task by its module.

    Raises:
        ValueError: Two keys name the same task.
    """
    found = {name_of(name): value for name, value in values.items()}
    if len(found) < len(values):
        raise ValueError(f"{', '.join(values)}: two of these name the same task. Name each task once")
    return found


def _is_there(name: str, module: str) -> bool:
    """Return True if a module can be found. Its package is imported for this."""
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    try:
        with _imported(name, module):
            return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def _imported(name: str, module: str) -> Iterator[None]:
    """Turn an error inside the module of a task into a message that names the file and the line.

    Raises:
        ModuleNotFoundError: The module, or a package around it, does not exist.
        ValueError: The module, or its package, cannot be imported.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise
        where = _place_of(error)
        what = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(
            f"task {name!r}: {module} cannot be imported{where}: {type(error).__name__}: {what}"
        ) from error


def _place_of(error: Exception) -> str:
    """Return the file and the line of the user's code in which an error arose."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    own = [frame for frame in frames if not frame.filename.startswith(FOREIGN)]
    last = (own or frames)[-1]
    return f" ({last.filename}, line {last.lineno})"


def load_all(names: Sequence[str], roots: Sequence[Path]) -> dict[str, Task[Any]]:
    """Return tasks by name. A task of plain text becomes a task for each language that the data roots have.

    Args:
        names: Names of the tasks, as `load` takes them.
        roots: Data roots.

    Raises:
        ValueError: There are no names, a name is unknown, or two tasks share a name.
    """
    if not names:
        raise ValueError(f"data.tasks is empty: name at least one of {', '.join(known())}")
    loaded = [(name, task) for name in names for task in _in_each_language(load(name), roots)]
    found: dict[str, Task[Any]] = {}
    for _, task in loaded:
        if task.name in found:
            others = [other for other, same in loaded if same.name == task.name]
            is_one = len({*others}) == 1
            fix = "name it once" if is_one else "leave one out, or rename its file if they are two tasks"
            raise ValueError(f"data.tasks has {task.name} twice, by {' and '.join(others)}: {fix}")
        found[task.name] = task
    return found


def _in_each_language(task: Task[Any], roots: Sequence[Path]) -> list[Task[Any]]:
    """Return the task, or a task for each language if its source has several and the name has none."""
    languages = [] if task.language else task.sources[0].languages(roots)
    return [replace(task, name=f"{task.name}/{language}") for language in languages] or [task]


def _is_language(text: str) -> bool:
    """Return True if a text can be the code of a language, or a pair of codes."""
    return re.fullmatch(r"\w+(-\w+)*", text) is not None

"""The classes that a config may name: Lightning's that work here, a user's own, and no functions.

jsonargparse instantiates what a `class_path` names wherever a signature has room for it, and calls functions
there; a config from elsewhere must not get that far. Modules that it names are imported, like those of
`data.tasks`.
"""

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning import Callback
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from xlt.config.jsonargparse_private import import_class
from xlt.config.lightning_parts import NEEDED_PACKAGES, REFUSED_CLASSES, REFUSED_KINDS, WORKING_CLASSES

BASES = (
    Callback,
    Logger,
    Strategy,
    Profiler,
    Accelerator,
    Precision,
    ClusterEnvironment,
    CheckpointIO,
    LayerSync,
)
"""What a class must be one of."""


NAMES_A_CLASS = re.compile(
    r"(^|\.)(class_path|trainer\.(callbacks|logger|plugins|strategy|profiler)\+?)(\[\d+\])?$"
)
"""Keys whose text names a class, alone or in a list."""


def check_named(config: Any, where: str) -> None:
    """Refuse a class of another kind that a file names, before anything is made of the file.

    Args:
        config: What the file holds.
        where: What to call the file.

    Raises:
        ValueError: A class is none that the Trainer takes.
    """
    for key, value in _walk(config):
        if key.rpartition(".")[2] == "class_path" and isinstance(value, str) and "." in value:
            _check_kind(value, f"{where}, {key}")


def check_parts(config: Any, besides: Collection[str] = ()) -> None:
    """Refuse a part of Lightning that a config names and that does not work here.

    Args:
        config: Parsed or as the file holds it, for the parser cannot read the arguments of every part.
        besides: Names of classes that are not looked at.

    Raises:
        ValueError: A part does not work, or its package is missing.
    """
    for key, value in _walk(config):
        is_class = isinstance(value, str) and NAMES_A_CLASS.search(key)
        if is_class and value.rpartition(".")[2] not in besides:
            _check_part(value, key)


def given_keys(args: Iterable[str]) -> dict[str, Any]:
    """Return the Trainer's keys of a command line, with their values read as YAML."""
    found: dict[str, Any] = {}
    for key, value in re.findall(r"(?:^|\s)--(trainer\.[\w.+]+)[\s=](\S+)", " ".join(map(str, args))):
        with suppress(yaml.YAMLError):
            found[key] = yaml.safe_load(value)
    return found


def check_classes(trainer: Namespace) -> None:
    """Refuse a parsed config of the Trainer that would call what it may not.

    Args:
        trainer: Parsed, not instantiated.

    Raises:
        ValueError: The config names a function, a class that the Trainer does not take, or a part of
            Lightning that does not work here.
    """
    found = list(_walk(trainer, "trainer"))
    functions = [(key, value) for key, value in found if callable(value)]
    # Lightning's own functions are defaults of parts that may be refused, for a reason that tells more.
    _refuse_functions((key, value) for key, value in functions if not _is_lightnings(value))
    for key, value in found:
        if key.endswith(".class_path") and isinstance(value, str):
            _check_kind(value, key)
    check_parts({"trainer": trainer})
    _refuse_functions(functions)


def _refuse_functions(functions: Iterable[tuple[str, Any]]) -> None:
    """Raise ValueError for the first."""
    for key, value in functions:
        named = f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', value)}"
        raise ValueError(f"{key} is {named}, a function, which a config cannot pass: use a class of your own")


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in a nested config."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _walk(below, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for number, below in enumerate(value):
            yield from _walk(below, f"{key}[{number}]")
    else:
        yield key, value


def _check_kind(path: str, key: str) -> None:
    """Raise ValueError unless it is of a kind that the Trainer takes, or is not there."""
    try:
        found = import_class(path)
    except (ImportError, AttributeError):
        return  # the parser names a class that is not there
    except ValueError as error:
        raise ValueError(f"{key} is {path}, which is refused: {error}") from error
    if path.rpartition(".")[2] in REFUSED_CLASSES and _is_lightnings(found):
        return  # the reason tells more
    if not (inspect.isclass(found) and issubclass(found, BASES)):
        names = ", ".join(base.__name__ for base in BASES)
        raise ValueError(f"{key} is {path}: a config can only name classes under {names}")


def _check_part(path: str, key: str) -> None:
    """Raise ValueError if it names a part of Lightning that does not work here, or lacks its package."""
    name = path.rpartition(".")[2]
    try:
        found: Any = import_class(path) if "." in path else _short_names().get(path)
    except (ImportError, AttributeError):
        found = None
    if found is None and name not in REFUSED_CLASSES:
        return
    reason = REFUSED_CLASSES[name] if found is None else refusal(found)
    if reason:
        raise ValueError(f"{key} is {path}, which xlt does not support: {reason}")
    for parent in found.__mro__ if found is not None else ():
        packages = NEEDED_PACKAGES.get(parent.__name__, ())
        if packages and not any(find_spec(package) for package in packages):
            named = " or ".join(packages)
            raise ValueError(f"{key} is {path}, which needs the package {named}: pip install {packages[0]}")


def refusal(found: type) -> str:
    """Return the reason why a class does not work here, or an empty text.

    A class of the user's own works if the classes of Lightning that it extends do.
    """
    if found.__module__.split(".")[0] == "xlt":
        return "a run has it already, so leave it out"
    parents = [parent for parent in found.__mro__ if _is_lightnings(parent)]
    for parent in parents:
        if parent.__name__ in REFUSED_CLASSES:
            return REFUSED_CLASSES[parent.__name__]
    if not parents or parents[0].__name__ in WORKING_CLASSES:
        return ""
    for parent in parents:
        if parent.__name__ in REFUSED_KINDS:
            return REFUSED_KINDS[parent.__name__]
    return "it was never tried with xlt, so leave it out"


def _is_lightnings(found: Any) -> bool:
    """Return True if the class or function is one of Lightning's."""
    return (getattr(found, "__module__", None) or "").split(".")[0] == "lightning"


def _short_names() -> dict[str, type]:
    """Return the classes that a config may name by their last part alone, as the parser does."""
    found: dict[str, type] = {}
    kinds: list[type] = list(BASES)
    while kinds:
        kind = kinds.pop()
        found.setdefault(kind.__name__, kind)
        kinds.extend(kind.__subclasses__())
    return found

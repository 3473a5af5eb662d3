"""Checks of the classes that a config names: Lightning's classes that work with xlt, and the user's own.

jsonargparse instantiates each class and calls each function that a `class_path` names. A config from another
person must not get that far, so functions and all other classes are refused. The modules that a config names
are imported, like the modules of `data.tasks`.
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
"""Base classes of everything that the Trainer takes. A config may only name their subclasses."""


NAMES_A_CLASS = re.compile(
    r"(^|\.)(class_path|trainer\.(callbacks|logger|plugins|strategy|profiler)\+?)(\[\d+\])?$"
)
"""Pattern of the keys whose text may name a class, alone or in a list."""


def check_file_classes(config: Any, where: str) -> None:
    """Refuse a config file that names a class which the Trainer does not take, before the file is parsed.

    Args:
        config: Content of the file.
        where: Name of the file in error messages.

    Raises:
        ValueError: The Trainer does not take a class of the file.
    """
    for key, value in _walk(config):
        if key.rpartition(".")[2] == "class_path" and isinstance(value, str) and "." in value:
            _check_kind(value, f"{where}, {key}")


def check_lightning_parts(config: Any, ignored: Collection[str] = ()) -> None:
    """Refuse a config that names a part of Lightning which does not work with xlt.

    Args:
        config: The config, parsed, or as the file holds it if the parser cannot read a part's arguments.
        ignored: Names of classes to skip.

    Raises:
        ValueError: A part does not work with xlt, or its package is missing.
    """
    for key, value in _walk(config):
        is_class = isinstance(value, str) and NAMES_A_CLASS.search(key)
        if is_class and value.rpartition(".")[2] not in ignored:
            _check_part(value, key)


def trainer_keys_of(args: Iterable[str]) -> dict[str, Any]:
    """Return the Trainer's keys among command-line arguments, with their values read as YAML."""
    found: dict[str, Any] = {}
    for key, value in re.findall(r"(?:^|\s)--(trainer\.[\w.+]+)[\s=](\S+)", " ".join(map(str, args))):
        with suppress(yaml.YAMLError):
            found[key] = yaml.safe_load(value)
    return found


def check_classes(trainer: Namespace) -> None:
    """Refuse a Trainer config that names a function or a class which a config may not name.

    Args:
        trainer: The Trainer's section, parsed and not yet instantiated.

    Raises:
        ValueError: The config names a function, a class that the Trainer does not take, or a part of
            Lightning that does not work with xlt.
    """
    found = list(_walk(trainer, "trainer"))
    functions = [(key, value) for key, value in found if callable(value)]
    # Parts whose defaults are Lightning's own functions are refused below, with a better reason.
    _refuse_functions((key, value) for key, value in functions if not _is_lightnings(value))
    for key, value in found:
        if key.endswith(".class_path") and isinstance(value, str):
            _check_kind(value, key)
    check_lightning_parts({"trainer": trainer})
    _refuse_functions(functions)


def _refuse_functions(functions: Iterable[tuple[str, Any]]) -> None:
    """Raise ValueError for the first of the functions, given by key."""
    for key, value in functions:
        named = f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', value)}"
        raise ValueError(
            f"{key} is {named}, a function, which a config cannot pass: write a class of your own"
        )


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of a nested config."""
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
    """Raise ValueError if the Trainer does not take a class. A class that does not exist passes."""
    try:
        found = import_class(path)
    except (ImportError, AttributeError):
        return  # the parser reports a class that does not exist
    except ValueError as error:
        raise ValueError(f"{key} is {path}, which is refused: {error}") from error
    if path.rpartition(".")[2] in REFUSED_CLASSES and _is_lightnings(found):
        return  # `check_lightning_parts` gives a better reason
    if not (inspect.isclass(found) and issubclass(found, BASES)):
        names = ", ".join(base.__name__ for base in BASES)
        raise ValueError(f"{key} is {path}: a config can only name subclasses of {names}")


def _check_part(path: str, key: str) -> None:
    """Raise ValueError if a part of Lightning does not work with xlt, or its package is missing."""
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
    """Return the reason why a class does not work with xlt, or an empty text if the class works.

    A class of the user works if every class of Lightning that it extends works.
    """
    if found.__module__.split(".")[0] == "xlt":
        return "every run has this part already: leave it out"
    parents = [parent for parent in found.__mro__ if _is_lightnings(parent)]
    for parent in parents:
        if parent.__name__ in REFUSED_CLASSES:
            return REFUSED_CLASSES[parent.__name__]
    if not parents or parents[0].__name__ in WORKING_CLASSES:
        return ""
    for parent in parents:
        if parent.__name__ in REFUSED_KINDS:
            return REFUSED_KINDS[parent.__name__]
    return "it was never tested with xlt: leave it out"


def _is_lightnings(found: Any) -> bool:
    """Return True if a class or function belongs to Lightning."""
    return (getattr(found, "__module__", None) or "").split(".")[0] == "lightning"


def _short_names() -> dict[str, type]:
    """Return the classes that a config may name by their class name alone, by that name."""
    found: dict[str, type] = {}
    kinds: list[type] = list(BASES)
    while kinds:
        kind = kinds.pop()
        found.setdefault(kind.__name__, kind)
        kinds.extend(kind.__subclasses__())
    return found

"""Which classes a config may name: those that the Trainer takes, and no functions.

jsonargparse instantiates what a `class_path` names wherever a signature has room for it, and calls functions
there; a config from elsewhere must not get that far. Modules that it names are imported, like those of
`data.tasks`.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace
from jsonargparse._util import import_object
from lightning import Callback
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

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


def check_named(config: Any, where: str) -> None:
    """Raise ValueError where a file names a class that is none of these, before anything is made of it.

    Args:
        config: What the file holds.
        where: What to call the file.
    """
    for key, value in _walk(config):
        if key.rpartition(".")[2] == "class_path" and isinstance(value, str) and "." in value:
            _check(value, f"{where}, {key}")


def check_classes(trainer: Namespace) -> None:
    """Raise ValueError where the parsed config of the Trainer would call what it may not.

    Args:
        trainer: Parsed, not instantiated.
    """
    for key, value in _walk(trainer, "trainer"):
        if callable(value):
            named = f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', value)}"
            raise ValueError(
                f"{key} is {named}, a function, which a config cannot pass: use a class of your own"
            )
        if key.endswith(".class_path") and isinstance(value, str):
            _check(value, key)


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


def _check(path: str, key: str) -> None:
    """Raise ValueError unless it is an allowed class; one that is not there is the parser's to name."""
    try:
        found = import_object(path)
    except (ImportError, AttributeError):
        return
    except ValueError as error:
        raise ValueError(f"{key} is {path}, which is refused: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, BASES)):
        names = ", ".join(base.__name__ for base in BASES)
        raise ValueError(f"{key} is {path}: a config can only name classes under {names}")

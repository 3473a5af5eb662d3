"""Private parts of jsonargparse, read in version 4.53: the only module of xlt that touches them.

jsonargparse has no setting for the encoding of files, and does not tell a loader which file it loads.
"""

import pathlib
from collections.abc import Callable
from typing import Any, Literal

from jsonargparse import ArgumentParser
from jsonargparse._paths import Path
from jsonargparse._util import import_object


def import_class(path: str) -> Any:
    """Import what a dotted path names, by the parser's own rules.

    Args:
        path: The path, such as `lightning.pytorch.callbacks.EarlyStopping`.

    Raises:
        ValueError: The path has another form, or jsonargparse refuses what the path names.
        ImportError: The module does not exist.
        AttributeError: The module does not have the name.
    """
    return import_object(path)


def read_local_files_by(read: Callable[[pathlib.Path, str], str]) -> None:
    """Make every parser read local files by a function; standard input and URLs are read as before.

    Args:
        read: Gets the absolute path and the path as the user wrote it, and returns the text.
    """
    usual = Path.read_text

    def read_text(self: Path) -> str:
        local = pathlib.Path(self)
        return read(local, str(self)) if local.is_file() else usual(self)

    Path.read_text = read_text


def type_of(parser: ArgumentParser, key: str) -> Any:
    """Return the type of a key, or None if the parser has no such key or the key has no type."""
    found = (action for action in parser._actions if action.dest == key)
    return getattr(next(found, None), "_typehint", None)


def allow(parser: ArgumentParser, key: str, word: str) -> None:
    """Allow one more word as the value of a key.

    Args:
        parser: The parser, which has the key.
        key: The key, which has a type.
        word: The word.
    """
    (action,) = (action for action in parser._actions if action.dest == key)
    action._typehint = action._typehint | Literal[word]  # type: ignore[valid-type]

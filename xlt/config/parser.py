"""The parser of the command line, whose errors are one message with the key that was meant.

Each file that jsonargparse reads (`--config`, or the file of a section or a class) is read as UTF-8 in any
locale, and must not have a key twice. Nor must a value of the command line.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from yaml import YAMLError

from xlt.config.jsonargparse_private import read_local_files_by
from xlt.system.yaml_files import check_keys, read_utf8

UNKNOWN_KEY = (
    r"unrecognized arguments: --([\w.]+)",
    r"Group '([\w.]+)' does not accept option '([\w.]+)'",
    r"Option '([\w.]+)' is not accepted",
)
"""How jsonargparse says that a key is unknown."""


_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    """Load a value or a file."""
    check_keys(text, "the command line")
    return _load_yaml(text)


def _read_text(path: Path, name: str) -> str:
    """Read a file, whose name stands in errors."""
    text = read_utf8(path)
    check_keys(text, name)
    return text


set_loader("yaml", _load, (YAMLError,))
read_local_files_by(_read_text)


class VerbParser(ArgumentParser):
    """Raises what argparse would print below its usage, and suggests the key that was meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as ValueError."""
        for pattern in UNKNOWN_KEY:
            found = re.search(pattern, message)
            if found:
                message = self._unknown(".".join(found.groups()))
        raise ValueError(message) from ex

    def _unknown(self, key: str) -> str:
        """What to say of a key that is none."""
        close = get_close_matches(key, [action.dest for action in self._actions], 1)
        hint = f"; did you mean {close[0]}?" if close else "."
        return f"unknown key {key}{hint} --help lists them all"


class Parser(VerbParser, LightningArgumentParser):
    """The same for the verbs that Lightning's command line parses."""

"""The parser of the command line, whose errors are one message with the key that was meant."""

import re
from difflib import get_close_matches
from typing import NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

UNKNOWN_KEY = (
    r"unrecognized arguments: --([\w.]+)",
    r"Group '([\w.]+)' does not accept option '([\w.]+)'",
    r"Option '([\w.]+)' is not accepted",
)
"""How jsonargparse says that a key is unknown."""


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

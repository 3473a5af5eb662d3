"""The parser of the command line: each error is one message, with the key that the user probably meant.

Every file that jsonargparse reads (`--config`, or the file of a section or a class) is read as UTF-8 in any
locale. A key that occurs twice in a file or in a value of the command line is an error.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from yaml import YAMLError

from xlt.config.help import COMMANDS, help_of
from xlt.config.jsonargparse_private import read_local_files_by
from xlt.system.yaml_files import check_keys, read_utf8

RENAMED_KEYS = {
    "data.tokens_per_batch": "data.tokens_per_micro_batch",
    "data.batches_per_step": "data.micro_batches_per_step",
    "checkpoints.keep": "checkpoints.keep_last",
    "checkpoints.keep_period": "checkpoints.keep_every_n_steps",
    "preemption.look_every_n_steps": "preemption.check_every_n_steps",
    "preemption.time_limit": "preemption.grace_seconds",
    "tokens_per_batch": "tokens_per_micro_batch",
    "mixes": "num_mixes",
    "target_seeds": "num_target_seeds",
}
"""New names of renamed keys: first those of xlt.fit, then those of xlt.evaluate and xlt.study."""

UNKNOWN_KEY = (
    r"unrecognized arguments: --([\w.]+)",
    r"Group '([\w.]+)' does not accept option '([\w.]+)'",
    r"Option '([\w.]+)' is not accepted",
)
"""Messages of jsonargparse about an unknown key."""


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


class CommandParser(ArgumentParser):
    """Argument parser that raises each error as ValueError, and suggests a key for an unknown one."""

    def __init__(self, *args: Any, prog: str = "xlt", **kwargs: Any) -> None:
        # jsonargparse names no program when it prints the help of a class.
        super().__init__(*args, prog=prog, **kwargs)

    def format_help(self) -> str:
        """Return the command's help, which needs no parser."""
        name = self.prog.removeprefix("xlt ")
        return help_of(name) if name in COMMANDS else super().format_help()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as ValueError."""
        for pattern in UNKNOWN_KEY:
            found = re.search(pattern, message)
            if found:
                message = self._unknown_key_message(".".join(found.groups()))
        raise ValueError(_in_words(message)) from ex

    def _unknown_key_message(self, key: str) -> str:
        """Return the error message for an unknown key, with the most similar key as a suggestion."""
        known = [action.dest for action in self._actions]
        renamed = RENAMED_KEYS.get(key)
        close = [renamed] if renamed in known else get_close_matches(key, known, 1)
        hint = f"; did you mean {close[0]}?" if close else "."
        return f"unknown key {key}{hint} --help lists all keys"


def _in_words(message: str) -> str:
    """Return jsonargparse's message without its Python terms, if a value is missing or is not a list."""
    message = re.sub(r"Call to compute_fn of link '.*?' with args \(.*?\) failed: ", "", message)
    key = re.search(r'Parser key "([\w.]+)":', message)
    value = re.search(r"(?:Got value|Given value): (.*)\s*\Z", message)
    if not key or not value:
        return message
    if value[1] == "None":
        return f"{key[1]} is required: set it in the config, or give --{key[1]} VALUE"
    if re.search(r"<class 'list'>|list\[", message) and not value[1].startswith(("[", "{")):
        return f"{key[1]} must be a list, not {value[1]}: write --{key[1]} '[{value[1]}]'"
    return message


class LightningCommandParser(CommandParser, LightningArgumentParser):
    """`CommandParser` for the commands that use Lightning's command line."""

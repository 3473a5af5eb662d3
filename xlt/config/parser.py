"""The parser of the command line: each error is one message, with the key that the user probably meant.

Every file that jsonargparse reads (`--config`, or the file of a section or a class) is read as UTF-8 in any
locale. A key that occurs twice in a file or in a value of the command line is an error.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from yaml import YAMLError

from xlt.config.config_files import ENDINGS, config_files, configs_first, read_config
from xlt.config.help import COMMANDS, help_of, meant_command
from xlt.config.jsonargparse_private import read_local_files_by, type_of
from xlt.config.key_names import unknown_in, unknown_keys_message
from xlt.config.lightning_parts import NAMES
from xlt.config.loggers import complete_file
from xlt.config.plain_words import allowed_values, expand_short_forms
from xlt.system.yaml_files import check_keys, expand_home, read_utf8

UNKNOWN_KEY = (
    r"unrecognized arguments: --([\w.-]+)",
    r"Group '([\w.]+)' does not accept option '([\w.]+)'",
    r"Option '([\w.]+)' is not accepted",
)
"""Messages of jsonargparse about an unknown key."""


KEY = re.compile(r"--[A-Za-z][\w.+-]*")
"""Pattern of a key on the command line, without its value."""

_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    """Load a value or a file."""
    check_keys(text, "the command line")
    return complete_file(expand_home(_load_yaml(text)))


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

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        """Parse arguments, of which some may have a short form (`plain_words.expand_short_forms`).

        Args:
            args: The arguments. Defaults to those of the process.
            rest: Other arguments of jsonargparse's method.
            settings: Other arguments of jsonargparse's method.
        """
        words = list(map(str, sys.argv[1:] if args is None else args))
        parts = (word.partition("=") for word in words)
        words = ["".join(map(expand_home, part)) for part in parts]
        self._check_names(words)
        if "config" in self._key_names():
            words = configs_first(words)
        whole = list(expand_short_forms(words, lambda key: type_of(self, key)))
        return super().parse_args(whole, *rest, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as ValueError."""
        for pattern in UNKNOWN_KEY:
            found = re.search(pattern, message)
            if found:
                message = unknown_keys_message([(".".join(found.groups()), "")], self._key_names())
        raise ValueError(self._in_words(message)) from ex

    def _check_names(self, words: Sequence[str]) -> None:
        """Raise ValueError for all unknown keys of the config files and the command line together."""
        names = self._key_names()
        options = {option for action in self._actions for option in action.option_strings}
        places = []
        for name in config_files(words):
            config = read_config(name)
            unknown = list(unknown_in(config, names))
            places += [(key, name) for key in unknown]
            meant = meant_command(self.prog.removeprefix("xlt "), config) if len(unknown) > 1 else None
            if meant:
                raise ValueError(
                    f"{name} is a config of `xlt {meant}`, and `{self.prog}` has no keys "
                    f"{', '.join(unknown)}: use the other command, or another config"
                )
        for word in words:
            option = word.partition("=")[0]
            key = option.removeprefix("--")
            if option not in options and KEY.fullmatch(option) and [*unknown_in({key: None}, names)]:
                places.append((key, ""))
        if places:
            raise ValueError(unknown_keys_message(places, names))

    def _key_names(self) -> list[str]:
        """Return the names of all keys and groups of keys, without jsonargparse's help of classes."""
        return [action.dest for action in self._actions if not action.dest.endswith(".help")]

    def _in_words(self, message: str) -> str:
        """Return jsonargparse's message about a value, without its Python terms."""
        message = re.sub(r"Call to compute_fn of link '.*?' with args \(.*?\) failed: ", "", message)
        if value := re.fullmatch(r"unrecognized arguments: (\S+).*", message):
            return self._stray(value[1])
        if option := re.fullmatch(r"argument (?:-\w/)?(--[\w.]+): expected one argument", message):
            return f"{option[1]} has no value: write {option[1]} VALUE"
        file = re.search(r'Parser key "([\w.]+)":\s+Unable to load config [\'"](.*?)[\'"]', message)
        if file and not Path(file[2]).exists():
            return f"{file[1]} is {file[2]}: it must be a YAML file that exists, or a mapping {{KEY: VALUE}}"
        key = re.search(r'Parser key "([\w.]+)":', message)
        value = re.search(r"(?:Got value|Given value): (.*)\s*\Z", message)
        if not key or not value:
            return message
        needed = re.search(r"the following arguments are required: ([\w, ]+)", message)
        name = re.search(r"class_path='[\w.]*?(\w+)'", value[1])
        if needed and name:
            settings = ", ".join(f"{needed_key}: VALUE" for needed_key in needed[1].split(", "))
            return (
                f"{key[1]} is {name[1]}, which needs {needed[1]}: write {{class_path: {name[1]}, init_args: "
                f"{{{settings}}}}}"
            )
        if value[1] == "None":
            return f"{key[1]} is required: set it in the config, or give --{key[1]} VALUE"
        if re.search(r"<class 'list'>|list\[", message) and not value[1].startswith(("[", "{")):
            return f"{key[1]} must be a list, not {value[1]}: write --{key[1]} '[{value[1]}]'"
        parts = NAMES.get(key[1].removeprefix("trainer."), {}) if key[1].startswith("trainer.") else {}
        names = [name for name, reason in parts.items() if not reason]
        words = f"one of {', '.join(names)}" if names else allowed_values(type_of(self, key[1]))
        return f"{key[1]} is {value[1]}: it must be {words}" if words else message

    def _stray(self, word: str) -> str:
        """Return the error message for a word that belongs to no key."""
        if "config" in self._key_names() and word.endswith(ENDINGS):
            return f"{word} belongs to no key: give it as --config {word}"
        if word.startswith("-"):
            return f"unknown option {word}: --help lists all keys"
        return f"{word} belongs to no key: write --KEY {word}, or --KEY '[A, B]' for a list"


class LightningCommandParser(CommandParser, LightningArgumentParser):
    """`CommandParser` for the commands that use Lightning's command line."""

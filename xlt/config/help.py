"""Help of all commands in one form, printed without an import of torch, Lightning or transformers.

An ArgumentParser describes a command, prints its help and completes its words. It does not parse: the
command's own parser checks values against the signatures. A test compares the two.
"""

import argparse
import ast
import functools
import shutil
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import replace

from xlt.config.commands import COMMANDS, MODULES, Section
from xlt.config.config_files import config_files, read_config
from xlt.config.documented_keys import UNSUPPORTED_TRAINER_KEYS
from xlt.config.signatures import Key, arguments_of, docstring_of, signature_of
from xlt.system.signals import exit_on_signals

ALL = "--help=all"
"""Argument that lists also the keys that few runs set."""

COMPLETE_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""Functions of shtab's scripts that complete the name of a file, by shell."""

METAVARS = {"int": "N", "float": "NUMBER", "str": "TEXT", "Path": "PATH", "Any": "VALUE", "File": "FILE"}
"""Type → placeholder of a value in the help."""


def start(command: str) -> None:
    """Prepare this process for a command before its slow imports: end at a signal, print help, read configs.

    Args:
        command: Name of the command.
    """
    exit_on_signals()
    if {"-h", "--help", ALL} & set(sys.argv[1:]):
        print(help_of(command, ALL in sys.argv[1:]), end="")
        sys.exit()
    try:
        for name in config_files(sys.argv[1:]):
            read_config(name)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def help_of(command: str, is_full: bool = False) -> str:
    """Return the help of a command.

    Args:
        command: Name of the command.
        is_full: True to list also the keys that few runs set.
    """
    parser = argparse.ArgumentParser(f"xlt {command}", add_help=False, formatter_class=_formatter)
    describe(parser, command, is_full)
    return parser.format_help()


def describe(parser: argparse.ArgumentParser, command: str, is_full: bool = False) -> None:
    """Add the usage, the texts and the keys of a command to a parser that only prints help.

    Args:
        parser: An empty parser.
        command: Name of the command.
        is_full: True to add also the keys that few runs set.
    """
    sections = [section for section in COMMANDS[command] if is_full or not section.is_further]
    parser.description = _paragraphs(docstring_of(MODULES[command]))
    groups = {}
    for section in sections:
        if section.title not in groups:
            groups[section.title] = parser.add_argument_group(section.title, title_of(section))
        for key in keys_of(section):
            _add(groups[section.title], key)
    has_more = len(sections) < len(COMMANDS[command])
    more = f" {ALL} also lists the keys that few runs set." if has_more else ""
    first = next(iter(groups.values()))
    first.add_argument("-h", "--help", action="store_true", help=f"Show this help.{more}")
    parser.usage = _usage(command, [key for section in sections for key in keys_of(section)])
    if any(section.is_further for section in sections):
        parser.epilog = _unsupported()


def title_of(section: Section) -> str | None:
    """Return the sentence below the title of a section; None if the section holds all keys of a command."""
    has_sentence = section.owner and section.title != "keys"
    return _paragraphs(signature_of(section.module, section.owner).title) if has_sentence else None


def keys_of(section: Section) -> list[Key]:
    """Return the keys of a section, with their full names."""
    if not section.owner:
        return list(arguments_of(section.module))
    return [
        replace(key, name=section.prefix + key.name, default=section.defaults.get(key.name, key.default))
        for key in signature_of(section.module, section.owner).keys
        if key.name not in section.skipped
    ]


def meant_command(command: str, names: Iterable[str]) -> str | None:
    """Return the command that knows all of these keys, if this one does not; else None.

    Args:
        command: Name of this command, such as `fit`.
        names: Keys or groups of keys at the top of a config file.
    """
    wanted = set(names)
    keys = {
        name: {key.name.partition(".")[0] for section in sections for key in keys_of(section)}
        for name, sections in COMMANDS.items()
    }
    knowing = [name for name in keys if wanted <= keys[name]]
    return knowing[0] if knowing and not wanted <= keys.get(command, wanted) else None


def first_sentence(command: str) -> str:
    """Return the first sentence of a command's help."""
    return " ".join(docstring_of(MODULES[command]).partition("\n\n")[0].split())


def _add(group: "argparse.ArgumentParser | argparse._ArgumentGroup", key: Key) -> None:
    """Add a key to a group of a parser."""
    name, help_ = key.name if key.is_positional else f"--{key.name}", _help_of(key).replace("%", "%%")
    if key.annotation == "Flag":
        group.add_argument(name, action="store_true", help=help_)
        return
    allowed = _allowed(key.annotation)
    if key.is_positional:
        added = group.add_argument(name, nargs="*", metavar=key.name.upper(), help=help_)
    else:
        metavar = None if allowed else _metavar(key.annotation)
        added = group.add_argument(name, choices=allowed, metavar=metavar, help=help_)
    if key.annotation in ("File", "File | None", "Path", "Path | None"):
        added.complete = COMPLETE_FILES  # pyright: ignore[reportAttributeAccessIssue]  shtab reads it


def _help_of(key: Key) -> str:
    """Return the help of a key, which ends with the default unless the text names the default."""
    text = key.help if key.help.endswith((".", ")")) else f"{key.help}."
    if key.default is None:
        return text if "equired" in text else f"{text} Required."
    if key.is_positional or key.annotation in ("Flag", "File", "File | None") or "efault" in text:
        return text
    is_said = key.default == "null" and "null" in text
    return text if is_said else f"{text} Defaults to {key.default or 'an empty text'}."


def _usage(command: str, keys: Iterable[Key]) -> str:
    """Return the usage of a command, which names the config or the required keys."""
    named = {key.name: key for key in keys}
    required = [key for key in named.values() if key.default is None and key.name != "config"]
    is_in_file = "config" in named and len(required) > 1
    words = [f"xlt {command}", *(["--config FILE"] if is_in_file else [])]
    words += ["[--config FILE]"] if "config" in named and not is_in_file else []
    words += [] if is_in_file else [f"--{key.name} {_metavar(key.annotation)}" for key in required]
    words += [f"[{key.name.upper()} ...]" for key in named.values() if key.is_positional]
    has_more = any(not key.is_positional and key.default is not None for key in named.values())
    return " ".join([*words, *(["[--KEY VALUE ...]"] if has_more else [])])


@functools.cache
def _type_of(annotation: str) -> ast.expr:
    """Return the syntax tree of a type, without None."""
    node = ast.parse(annotation, mode="eval").body
    while isinstance(node, ast.BinOp) and ast.unparse(node.right) == "None":
        node = node.left
    return node


def _allowed(annotation: str) -> list[str] | None:
    """Return the allowed values of a type that lists them; None for another type."""
    node = _type_of(annotation)
    if ast.unparse(node) == "bool":
        return ["true", "false"]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        return [str(value) for value in ast.literal_eval(f"[{ast.unparse(node.slice).strip('()')}]")]
    return None


def _metavar(annotation: str) -> str:
    """Return the placeholder of a value, such as `N` or `[TEXT,...]`."""
    node = _type_of(annotation)
    if isinstance(node, ast.BinOp):
        return f"{_metavar(ast.unparse(node.left))}|{_metavar(ast.unparse(node.right))}"
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        kind, names = ast.unparse(node.value), [_metavar(ast.unparse(part)) for part in inner]
        return f"[{names[0]},...]" if kind == "list" else f"{{{': '.join(names)},...}}"
    name = ast.unparse(node)
    return METAVARS.get(name, name.upper())


def _unsupported() -> str:
    """Return the list of the Trainer's keys that a config may not set, with what to use instead."""
    lines = [
        textwrap.fill(f"  trainer.{key}: {instead}.", _width(), subsequent_indent="    ")
        for key, instead in UNSUPPORTED_TRAINER_KEYS.items()
    ]
    classes = (
        "A key that takes a class also takes its name. --KEY.help CLASS shows the keys of a class, as in "
        "--trainer.callbacks.help EarlyStopping."
    )
    return "\n".join([_paragraphs(classes), "", "Not supported, and what to use instead:", *lines])


def _paragraphs(text: str) -> str:
    """Return a text with lines as wide as the terminal. Lines that are commands stay as they are."""
    parts = [
        part if part.startswith("xlt ") else textwrap.fill(part, _width()) for part in text.split("\n\n")
    ]
    return "\n\n".join(parts)


def _width() -> int:
    """Return the number of columns for help, as argparse counts them."""
    return max(shutil.get_terminal_size().columns - 2, 20)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return the formatter of help: texts keep their lines, and a long key has its help below it."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26)

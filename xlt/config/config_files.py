"""The config files that a command line names: their reading, and errors that tell how to name a good one."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xlt.system.yaml_files import expand_home, read_yaml

EXAMPLE = "configs/quickstart.yaml"
"""Config that error messages name."""

ENDINGS = (".yaml", ".yml", ".json")
"""Endings of the names of config files."""

CONFIG_OPTIONS = ("-c", "--config")
"""Options that name a config file."""


def config_files(args: Sequence[str]) -> Iterator[str]:
    """Yield the names of the config files among the arguments. Standard input, URLs and YAML are no files."""
    for argument, following in zip(args, [*args[1:], ""], strict=False):
        option, equals, value = argument.partition("=")
        name = value if equals else following
        is_file = name and not name.startswith(("-", "{")) and "://" not in name
        if is_file and option in CONFIG_OPTIONS:
            yield name


def configs_first(args: Sequence[str]) -> list[str]:
    """Return the arguments with each `--config` and its file before the other keys, which override the files.

    Args:
        args: Command-line arguments.
    """
    words, files, others = list(args), [], []
    while words:
        word = words.pop(0)
        is_config = word.partition("=")[0] in CONFIG_OPTIONS
        has_value = is_config and word in CONFIG_OPTIONS and words
        (files if is_config else others).extend([word, words.pop(0)] if has_value else [word])
    return [*files, *others]


def read_config(name: str) -> dict[str, Any]:
    """Return the content of a config file.

    Args:
        name: Path of the file.

    Raises:
        FileNotFoundError: There is no such file, or the path is a folder.
        ValueError: The file holds no keys, or is no YAML.
        OSError: The file cannot be read.
    """
    path = Path(expand_home(name))
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"config {name} {what}: name a YAML file, such as {_close(path)}")
    found = read_yaml(path, name)
    if found is None:
        raise ValueError(f"config {name} is empty: write keys such as data.tasks into it")
    if not isinstance(found, dict):
        kind = "a list" if isinstance(found, list) else "a text"
        raise ValueError(
            f"config {name} holds {kind}, and no keys: write keys with values into it, as in {EXAMPLE}"
        )
    return found


def _close(path: Path) -> str:
    """Return a config in the folder of a path: the one with the closest name, else an example."""
    folder = path if path.is_dir() else path.parent
    names = sorted(found.name for found in folder.glob("*") if found.suffix in ENDINGS)
    close = difflib.get_close_matches(path.name, names, 1) or (names[:1] if path.is_dir() else [])
    return str(folder / close[0]) if close else EXAMPLE

"""YAML files in which each key may occur once. PyYAML itself silently drops the first of two equal keys.

JSON files are YAML too. Anchors and merge keys (`<<`) keep their meaning: a mapping may override a value.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's loader: ten times as fast if libyaml is installed."""

MERGE_TAG = "tag:yaml.org,2002:merge"
"""Tag of the merge key `<<`."""


def read_yaml(path: Path, name: str = "") -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        name: Name of the file in error messages. Defaults to its path.

    Raises:
        ValueError: The file is not UTF-8 text, is not YAML, or has a key twice.
        OSError: The file cannot be read.
    """
    text = read_utf8(path, name)
    try:
        return load_yaml(text, name or str(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{name or path} is not YAML: {_told(error)}") from error


def _told(error: yaml.YAMLError) -> str:
    """Return place and reason of an error in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark, reason = error.problem_mark, ", ".join(filter(None, (error.context, error.problem)))
    return f"line {mark.line + 1}, column {mark.column + 1}: {reason}. Correct the line"


def read_utf8(path: Path, name: str = "") -> str:
    """Read a text file.

    Args:
        path: The file.
        name: Name of the file in error messages. Defaults to its path.

    Raises:
        ValueError: The file is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name or path} is not YAML: {error}. Save the file as UTF-8") from error


def load_yaml(text: str, name: str) -> Any:
    """Load YAML text.

    Args:
        text: The YAML.
        name: Name of the text in error messages, such as its file.

    Raises:
        ValueError: A key occurs twice.
        yaml.YAMLError: The text is not YAML.
    """
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(loader, node, name)
        return expand_home(loader.construct_document(node))
    finally:
        loader.dispose()


def expand_home(value: Any, outer: frozenset[int] = frozenset()) -> Any:
    """Return a value of a config with `~/` at the start of each text replaced by the home folder.

    Args:
        value: A text, or a list or mapping that may hold texts at any depth. Other values stay as they are.
        outer: Ids of the lists and mappings around the value. YAML allows a list inside itself.
    """
    if isinstance(value, str):
        return os.path.expanduser(value) if value.startswith("~/") else value  # noqa: PTH111  a text, no path
    if id(value) in outer:
        return value
    inside = outer | {id(value)}
    if isinstance(value, list):
        return [expand_home(item, inside) for item in value]
    if isinstance(value, dict):
        return {key: expand_home(item, inside) for key, item in value.items()}
    return value


def check_keys(text: str, name: str) -> None:
    """Raise ValueError if a key occurs twice. Text that is not YAML passes, because its reader refuses it.

    Args:
        text: The text.
        name: Name of the text in error messages.

    Raises:
        ValueError: A key occurs twice.
    """
    if ":" not in text:
        return
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            _check(loader, node, name)
    except yaml.YAMLError:
        return
    finally:
        loader.dispose()


def _check(loader: yaml.SafeLoader, root: yaml.Node, name: str) -> None:
    """Raise ValueError for the first key that occurs twice."""
    places: dict[str, list[int]] = {}
    for key, line in _keys(loader, root, "", set()):
        places.setdefault(key, []).append(line)
    for key, lines in places.items():
        if len(lines) > 1:
            times = "twice" if len(lines) == 2 else f"{len(lines)} times"
            *others, last = map(str, dict.fromkeys(lines))
            place = f"lines {', '.join(others)} and {last}" if others else f"line {last}"
            raise ValueError(
                f"{name} has the key {key} {times}, in {place}: YAML would drop all but the last. Merge "
                "them, or delete the others"
            )


def _keys(loader: yaml.SafeLoader, node: yaml.Node, prefix: str, seen: set[int]) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and the line of each key in a node. An anchored node counts once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _keys(loader, item, f"{prefix}[{number}]", seen)
    elif isinstance(node, yaml.MappingNode):
        dotted: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == MERGE_TAG:
                yield from _keys(loader, value, f"{prefix}.<<" if prefix else "<<", seen)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            own = str(loader.construct_object(key_node))
            key = f"{prefix}.{own}" if prefix else own
            if own in dotted:
                yield key, dotted[own]
            if not prefix and "." in own:
                # The parser takes `data.volume` for `volume` in `data`, and drops it if `data` follows.
                dotted.setdefault(own.partition(".")[0], line)
            yield key, line
            yield from _keys(loader, value, key, seen)

"""The allowed values of a key in plain words, and arguments of the command line in their short forms."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from xlt.config.loggers import complete_text

SINGLE = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    NoneType: "null",
}

NEGATIVE = re.compile(r"-\.?(\d|inf)")
"""Beginning of a negative number, such as -1e-4 or -.inf."""

PLURAL = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


def allowed_values(hint: Any) -> str:
    """Return the allowed values of a type, such as `a whole number or null`; empty for other types.

    Args:
        hint: The type of a key, such as `int | None`.
    """
    found = list(dict.fromkeys(_options(hint)))
    if not all(found):
        return ""
    return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _options(hint: Any) -> Iterator[str]:
    """Yield each kind of value that a type allows; an empty text for a type that has no plain words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        # null is named last.
        for part in sorted(parts, key=lambda part: part is NoneType):
            yield from _options(part)
    elif origin is Literal:
        yield from map(str, parts)
    elif origin in (list, Sequence) and parts[0] in PLURAL:
        yield f"a list of {PLURAL[parts[0]]} ([A, B])"
    elif origin in (dict, Mapping):
        yield f"a mapping of names to {PLURAL.get(parts[1], 'values')} ({{NAME: VALUE}})"
    elif hint is bool:
        yield from ("true", "false")
    else:
        yield SINGLE.get(hint, "")


def expand_short_forms(args: Sequence[str], type_of: Callable[[str], Any]) -> Iterator[str]:
    """Yield the arguments with short forms written out.

    `--data.tasks mnli` becomes `--data.tasks [mnli]`, and `--dry_run` becomes `--dry_run true`. A negative
    number, which argparse would take for an option, is joined to its key. A logger that needs a folder gets
    the run's.

    Args:
        args: The arguments.
        type_of: Function that returns the type of a key, or None.
    """
    words = list(args)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        key = option.removeprefix("--")
        hint = type_of(key.rstrip("+")) if option.startswith("--") else None
        if hint is None:
            yield word
        elif hint is bool and not equals and (not words or words[0].startswith("--")):
            yield f"{option}=true"
        elif key.rstrip("+") == "trainer.logger" and (equals or words):
            yield f"{option}={complete_text(value if equals else words.pop(0))}"
        elif not equals and words and NEGATIVE.match(words[0]):
            yield f"{option}={words.pop(0)}"
        elif _takes_lists_only(hint) and (equals or words):
            yield f"{option}={_as_list(value if equals else words.pop(0))}"
        else:
            yield word


def _takes_lists_only(hint: Any) -> bool:
    """Return True if a list is allowed, and neither a text nor a mapping."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = {get_origin(part) or part for part in parts}
    return list in kinds and kinds <= {list, NoneType}


def _as_list(value: str) -> str:
    """Return the value, in brackets unless it is a list, empty or null already."""
    is_whole = value.lstrip().startswith(("[", "{", "!")) or value.strip() in ("", "null", "~", "None")
    return value if is_whole else f"[{value}]"

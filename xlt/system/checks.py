"""Checks of config values and of installed packages."""

import sys
from collections.abc import Sequence
from importlib import import_module


def require(fits: bool, key: str, value: object, rule: str) -> None:
    """Raise ValueError unless a config value is allowed.

    Args:
        fits: True if the value is allowed.
        key: The config key.
        value: The value.
        rule: The condition on the value, in words that follow "it must".

    Raises:
        ValueError: The value is not allowed.
    """
    if not fits:
        raise ValueError(f"{key} is {value}: it must {rule}")


SHOWN_AT_ONCE = 10
"""Maximum number of errors in one message."""


def at_once(what: str, errors: Sequence[str]) -> str:
    """Return one message for several errors of the same sort: the only one, or their number and the first.

    Args:
        what: The things that are wrong, in words that follow their number.
        errors: A message for each of them.
    """
    if len(errors) == 1:
        return errors[0]
    shown = errors[:SHOWN_AT_ONCE]
    first = "" if len(errors) == len(shown) else f". The first {len(shown)}"
    return "\n".join([f"{len(errors):,} {what}{first}:", *(f"  {error}" for error in shown)])


class NotFiniteError(ValueError):
    """Raised when a loss, a gradient, a weight or a prediction is NaN or infinite."""


def exit_without(package: str) -> None:
    """Exit with a one-line error and exit code 2 if a package cannot be imported.

    Args:
        package: A package of xlt that needs the libraries of an extra. Its ImportError names them.
    """
    try:
        import_module(package)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

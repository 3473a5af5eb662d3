"""Checks of config values and of installed packages."""

import sys
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

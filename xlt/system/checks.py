"""The one way to refuse a value of the config, and to say what is not installed."""

import sys
from importlib import import_module


def require(fits: bool, key: str, value: object, rule: str) -> None:
    """Raise ValueError unless the value fits.

    Args:
        fits: Whether it does.
        key: The config's key.
        value: What it was given.
        rule: What it must be, in words that follow "it must".
    """
    if not fits:
        raise ValueError(f"{key} is {value}: it must {rule}")


class NotFiniteError(ValueError):
    """Raised where a loss, a gradient, a weight or a prediction is NaN or infinite."""


def leave_without(package: str) -> None:
    """End the process with a line and exit code 2 where a package cannot be imported.

    Args:
        package: A package of xlt whose libraries are an extra's; its own error names them.
    """
    try:
        import_module(package)
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

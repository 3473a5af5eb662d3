"""The one way to refuse a value of the config."""


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

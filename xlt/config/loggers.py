"""Loggers that a config names by their class name alone: their files go into the run's folder."""

from collections.abc import Iterable
from typing import Any

import yaml

LOGGERS = ("CSVLogger", "TensorBoardLogger")
"""Lightning's loggers that need a folder."""

RUN = "{run}"
"""Folder of a logger that stands for the run's folder, which is known when the config is parsed."""


def complete(logger: Any) -> Any:
    """Return the value of trainer.logger, with the run's folder for each logger that needs one.

    Args:
        logger: The value, as the file or the command line holds it.
    """
    if isinstance(logger, list):
        return [complete(one) for one in logger]
    whole: Any = {"class_path": logger} if isinstance(logger, str) else logger
    if not isinstance(whole, dict) or str(whole.get("class_path")).rpartition(".")[2] not in LOGGERS:
        return logger
    settings = whole.get("init_args") or {}
    return {**whole, "init_args": {"save_dir": RUN} | settings}


def complete_file(found: Any) -> Any:
    """Return the content of a config file with a complete trainer.logger."""
    trainer = found.get("trainer") if isinstance(found, dict) else None
    if isinstance(trainer, dict) and "logger" in trainer:
        return {**found, "trainer": {**trainer, "logger": complete(trainer["logger"])}}
    return found


def complete_text(value: str) -> str:
    """Return a value of trainer.logger on the command line, completed."""
    try:
        logger = yaml.safe_load(value)
    except yaml.YAMLError:
        return value  # the parser reports it
    whole = complete(logger)
    return value if whole == logger else yaml.safe_dump(whole, default_flow_style=True, width=10**6).strip()


def set_folder(loggers: Iterable[Any], folder: str) -> None:
    """Write the run's folder into the parsed settings of the loggers that wait for it.

    Args:
        loggers: The parsed loggers.
        folder: The run's folder.
    """
    for logger in loggers:
        settings = getattr(logger, "init_args", None)
        if settings is not None and settings.get("save_dir") == RUN:
            settings.save_dir = folder

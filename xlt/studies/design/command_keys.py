"""Checks of the keys of xlt fit and xlt evaluate in a study."""

from collections.abc import Mapping
from typing import Any

from xlt.system.checks import require
from xlt.tasks import load
from xlt.training.run_folder import flatten

OWN_KEYS = {
    "model.encoder": "encoder",
    "seed_everything": "seeds",
    "name": "name and folder",
    "epochs": "steps",
    "trainer.default_root_dir": "folder",
}
"""Keys of xlt fit that a study sets for each run, with the study's own keys."""

OF_INTERMEDIATE = {"data.volume": "volumes"}
"""Keys that a study sets in phase 2. Under `fit` and `fit_target`, data.volume limits the targets' rows."""

OWN_EVALUATION_KEYS = {
    "tasks": "targets",
    "runs": "targets",
    "encoder": "encoder",
    "checkpoint": "selection",
    "out": "folder",
    "blind": "blind",
}
"""Keys of xlt evaluate that a study sets for each evaluation, with the study's own keys."""

BY_TASK = ("split", "layer", "perturbations")
"""Keys of xlt evaluate whose values may be mappings from tasks."""

SECTIONS = ("model", "data", "trainer", "checkpoints", "preemption", "wandb")
"""Keys of xlt fit whose values are mappings of further keys."""


def check_sections(key: str, keys: Mapping[str, Any]) -> None:
    """Refuse keys of xlt fit that the study sets itself, and sections that are no mappings.

    Args:
        key: Key of the study, for the error message.
        keys: Nested keys of xlt fit.

    Raises:
        ValueError: A section is no mapping, or a key is not allowed.
    """
    _check_own(key, flatten(keys), OWN_KEYS | (OF_INTERMEDIATE if key == "fit_intermediate" else {}))
    for section, value in keys.items():
        fits = section not in SECTIONS or isinstance(value, Mapping)
        require(fits, f"{key}.{section}", value, "be a mapping of keys of xlt fit")


def check_evaluation(keys: Mapping[str, Any]) -> None:
    """Refuse keys of xlt evaluate that the study sets itself, and values of unknown tasks.

    Args:
        keys: Keys of xlt evaluate.

    Raises:
        ValueError: A key is not allowed.
    """
    _check_own("evaluate", keys, OWN_EVALUATION_KEYS)
    for key in BY_TASK:
        for task in keys[key] if isinstance(keys.get(key), Mapping) else ():
            try:
                load(task)
            except ValueError as error:
                raise ValueError(f"evaluate.{key}: {error}") from error


def _check_own(key: str, keys: Mapping[str, Any], own: Mapping[str, str]) -> None:
    """Refuse keys of a command that the study sets itself, and keys below them."""
    for name, value in keys.items():
        instead = next((own[one] for one in own if name == one or name.startswith(f"{one}.")), "")
        is_free = not instead or value is None
        require(is_free, f"{key}.{name}", value, f"be left out: the study's {instead} decides")

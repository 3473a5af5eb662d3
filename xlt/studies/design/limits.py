"""Checks of the names and numbers of a study."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xlt.studies.design.nodes import NONE
from xlt.system.checks import require

MARGIN = 2.0
"""Default margin of equivalence: the largest effect in points that counts as none."""

FOLDER_NAME = re.compile(r"\w[\w.+-]*")
"""Allowed names of folders."""

SECTIONS = ("model", "data", "trainer", "checkpoints", "preemption", "wandb")
"""Keys of xlt fit whose values are mappings of further keys."""


def check_replicates(volumes: Sequence[int | None], seeds: Sequence[int], steps: Mapping[int, int]) -> None:
    """Refuse volumes, seeds and steps that are out of range or appear twice.

    Args:
        volumes: Numbers of examples; None means all.
        seeds: Seeds of the replicates.
        steps: Optimizer steps by volume.

    Raises:
        ValueError: A value is not allowed.
    """
    for key, values in (("volumes", volumes), ("seeds", seeds)):
        require(len(set(values)) == len(values), key, values, "not repeat a value")
    require(all(v is None or v >= 1 for v in volumes), "volumes", volumes, "be 1 example or more")
    unknown = sorted(set(steps) - set(volumes))
    require(not unknown, "steps", steps, f"name only volumes of the study, which has no {unknown}")
    require(all(seed >= 0 for seed in seeds), "seeds", seeds, "be 0 or more")
    require(all(number >= 1 for number in steps.values()), "steps", steps, "be 1 or more")


def check_names(name: str, arms: Iterable[str]) -> None:
    """Refuse names that cannot be folders.

    Args:
        name: Name of the study.
        arms: Names of its arms.

    Raises:
        ValueError: A name is no valid folder name, or an arm is called none.
    """
    require(NONE not in arms, "intermediate", NONE, "not name none, which every study has")
    for key, names in (("name", [name]), ("intermediate", arms)):
        for one in names:
            fits = FOLDER_NAME.fullmatch(one) is not None
            require(fits, key, one, "be a valid folder name: letters, digits, - _ and .")


def check_sections(key: str, keys: Mapping[str, Any]) -> None:
    """Refuse keys of xlt fit that must be mappings and are not.

    Args:
        key: Key of the study, for the error message.
        keys: Nested keys of xlt fit.

    Raises:
        ValueError: A section is no mapping.
    """
    for section, value in keys.items():
        fits = section not in SECTIONS or isinstance(value, Mapping)
        require(fits, f"{key}.{section}", value, "be a mapping of keys of xlt fit")

"""Checks of the names and numbers of a study."""

import re
from collections.abc import Iterable, Mapping, Sequence

from xlt.studies.design.nodes import NONE
from xlt.system.checks import require

MARGIN = 2.0
"""Default margin of equivalence: the largest effect in points that counts as none."""

FOLDER_NAME = re.compile(r"\w[\w.+-]*")
"""Allowed names of folders."""


def check_replicates(volumes: Sequence[int | None], seeds: Sequence[int]) -> None:
    """Refuse volumes and seeds that are out of range or appear twice.

    Args:
        volumes: Numbers of examples; None means all.
        seeds: Seeds of the replicates.

    Raises:
        ValueError: A value is not allowed.
    """
    _check_volumes("volumes", volumes)
    require(len(set(seeds)) == len(seeds), "seeds", seeds, "not repeat a value")
    require(all(seed >= 0 for seed in seeds), "seeds", seeds, "be 0 or more")


def check_arm_volumes(arm_volumes: Mapping[str, Sequence[int | None]], arms: Iterable[str]) -> None:
    """Refuse volumes of single arms that are out of range or appear twice, and unknown arms.

    Args:
        arm_volumes: Numbers of examples by arm.
        arms: Names of the study's arms.

    Raises:
        ValueError: A value is not allowed.
    """
    known = list(arms)
    for arm, volumes in arm_volumes.items():
        require(arm in known, "arm_volumes", arm, f"be an arm of the study: {', '.join(known)}")
        require(bool(volumes), f"arm_volumes {arm}", volumes, "name at least one")
        _check_volumes(f"arm_volumes {arm}", volumes)


def check_steps(steps: Mapping[int, int], volumes: Iterable[int | None]) -> None:
    """Refuse steps of volumes that the study does not have, and steps below 1.

    Args:
        steps: Optimizer steps by volume.
        volumes: All volumes of the study.

    Raises:
        ValueError: A value is not allowed.
    """
    unknown = sorted(set(steps) - set(volumes))
    require(not unknown, "steps", steps, f"name only volumes of the study, which has no {unknown}")
    require(all(number >= 1 for number in steps.values()), "steps", steps, "be 1 or more")


def _check_volumes(key: str, volumes: Sequence[int | None]) -> None:
    """Refuse volumes below 1 and repeated ones."""
    require(len(set(volumes)) == len(volumes), key, volumes, "not repeat a value")
    require(all(v is None or v >= 1 for v in volumes), key, volumes, "be 1 example or more")


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

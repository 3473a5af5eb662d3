"""A node of a study: one run of xlt.fit or one evaluation of xlt.evaluate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Phase = Literal["intermediate", "target", "evaluate"]

NONE = "none"
"""Name of the arm without intermediate training."""


class Replicate(NamedTuple):
    """An arm with its volume and seeds: the runs that are compared with the same seeds of other arms."""

    arm: str
    volume: int | None
    seed: int
    """Seed of phase 2, the intermediate training."""
    target_seed: int
    """Seed of phase 3, the fine-tuning on a target."""


@dataclass(frozen=True)
class Node:
    """One run or one evaluation of a study.

    Args:
        phase: Phase of the node.
        name: Name of the node's folder.
        settings: Nested keys of the node's config.
        parents: Names of the nodes whose results this node starts from.
        arm: Name of the intermediate training, or "none".
        volume: Total number of examples of intermediate training that were asked for; None means all.
        seed: Seed of phase 2.
        target_seed: Seed of phase 3. Equals `seed` if nothing is fine-tuned.
        targets: Names of the targets that the node trains or tests. Empty in phase 2.
        is_blind: True if the node trains or tests a target with images without its images.
    """

    phase: Phase
    name: str
    settings: Mapping[str, Any]
    parents: tuple[str, ...]
    arm: str
    volume: int | None
    seed: int
    target_seed: int
    targets: tuple[str, ...] = ()
    is_blind: bool = False

    @property
    def checkpoint(self) -> int | None:
        """Step of the tested checkpoint; None for the best checkpoint and for nodes that train."""
        return self.settings.get("checkpoint")

    @property
    def module(self) -> str:
        """Module of the command that runs the node."""
        return "xlt.evaluate" if self.phase == "evaluate" else "xlt.fit"

"""The files of a study's nodes, and which of them stay. Every node imports this: keep it light."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from xlt.system.folders import MODEL

Kept = Literal["all", "models", "scores"]
"""Parts of a finished run that stay: all; all but its checkpoints; or, of a run of phase 3, its scores."""


class Planned(Protocol):
    """A node, of which the nodes and the checkpoint that it starts from count."""

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the nodes that the node starts from."""
        ...

    @property
    def checkpoint(self) -> int | None:
        """Step of the checkpoint that the node tests; None for all others."""
        ...


def log_path(folder: Path, name: str, suffix: str) -> Path:
    """Return the path of a node's log (`txt`), of its seconds (`json`) or of its lock (`lock`).

    Args:
        folder: The study's folder.
        name: Name of the node.
        suffix: Suffix of the file, without the dot.
    """
    return folder / "logs" / f"{name}.{suffix}"


def is_finished(folder: Path, name: str) -> bool:
    """Return True if the node has its results."""
    return (folder / name / "results.json").is_file()


def checkpoint_path(folder: Path, run: str, step: int) -> Path:
    """Return the path of the checkpoint of a run after a step."""
    return folder / run / "checkpoints" / f"step-{step:09d}.ckpt"


def nodes_to_run(folder: Path, nodes: Mapping[str, Planned]) -> list[str]:
    """Return the nodes without results, and the runs that are needed again.

    A run is needed again if a node that is not finished starts from its model or tests its checkpoint, and
    this was deleted or never kept.

    Args:
        folder: The study's folder.
        nodes: The study's nodes by name, parents first.
    """
    wanted: set[str] = set()
    for name, node in reversed(list(nodes.items())):
        if not is_finished(folder, name) or name in wanted:
            wanted |= {name, *(run for run in node.parents if _lacks(folder, run, node.checkpoint))}
    return [name for name in nodes if name in wanted]


def _lacks(folder: Path, run: str, checkpoint: int | None) -> bool:
    """Return True if a run lacks its model, or the checkpoint after a step."""
    is_there = checkpoint is None or checkpoint_path(folder, run, checkpoint).is_file()
    return not is_there or not (folder / run / MODEL).is_dir()


def tidy(plan: Mapping[str, Any], name: str) -> None:
    """Delete what no node of the study needs any more, now that a node is finished.

    A run's checkpoints, and with `scores` the model of a run of phase 3, go when the run and all nodes that
    start from it are finished. Models of phase 2 stay, since further targets start from them.

    Args:
        plan: The plan that `engine.write` wrote.
        name: Name of the finished node.
    """
    kept = plan.get("keep", "all")
    if kept == "all":
        return
    nodes, folder = plan["nodes"], Path(plan["folder"])
    for run in (name, *nodes[name]["parents"]):
        users = [other for other, node in nodes.items() if run in node["parents"]]
        if not all(is_finished(folder, node) for node in (run, *users)):
            continue
        shutil.rmtree(folder / run / "checkpoints", ignore_errors=True)
        if kept == "scores" and users and run.startswith("target-"):
            shutil.rmtree(folder / run / MODEL, ignore_errors=True)

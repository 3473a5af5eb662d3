"""Paths of the results, logs and locks of a study's nodes. Every node imports this: keep it light."""

from pathlib import Path


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

"""Where a study's nodes have results, logs and locks. Imports nothing heavy: each node begins here."""

from pathlib import Path


def logs_of(folder: Path, name: str, end: str) -> Path:
    """A node's log (`txt`), its seconds (`json`) or its lock (`lock`)."""
    return folder / "logs" / f"{name}.{end}"


def is_finished(folder: Path, name: str) -> bool:
    """Whether a node has its results."""
    return (folder / name / "results.json").is_file()

"""The record of a run, metrics.jsonl: one JSON object per event, independent of other loggers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from xlt.system.files import sync, write_atomically
from xlt.system.tables import as_json


class MetricsFile(Logger):
    """Logger that appends events to metrics.jsonl.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    @property
    def version(self) -> str:
        """Empty text, because a run has a single file."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """Path of the file."""
        return self.path

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's folder holds the config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append an event.

        Raises:
            OSError: The file cannot be written, for example because the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(as_json({"step": step, **metrics}, None))
        except OSError as error:
            raise OSError(
                f"the record {self.path} cannot be written ({error.strerror}): free some disk space, or "
                "make the file writable. The same command resumes from the newest checkpoint"
            ) from error

    @rank_zero_only
    def sync(self) -> None:
        """Wait until the disk holds every event."""
        if self.path.exists():
            sync(self.path)

    @rank_zero_only
    def cut_after(self, step: int) -> None:
        """Delete the events of later steps, which will be trained again, and an incomplete last line."""
        kept = [as_json(event, None) for event in read_events(self.path) if event["step"] <= step]
        if self.path.exists():
            write_atomically(self.path, "".join(kept))


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a metrics.jsonl, without an incomplete last line; none if the file is missing.

    Args:
        path: The file.

    Raises:
        ValueError: Another line is damaged.
    """
    lines = path.read_bytes().splitlines() if path.exists() else []
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(
                    f"{path}, line {number}, is damaged: restore the file from a copy, or delete the line "
                    "and lose its event"
                ) from error
    return events

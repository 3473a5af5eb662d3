"""metrics.jsonl, the truth of a run: one JSON object an event, whatever becomes of other loggers."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from xlt.system.tables import as_json
from xlt.training.checkpoint_files import write_whole


class MetricsFile(Logger):
    """The file, as a logger.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """None is needed: a run has one file."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file."""
        return self.path

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's folder holds its config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one event.

        Raises:
            OSError: It cannot be written, as on a full disk.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(as_json({"step": step, **metrics}, None))
        except OSError as error:
            raise OSError(
                f"the record {self.path} cannot be written ({error.strerror}): make room, or let the file be "
                "written; the same command goes on from the newest checkpoint"
            ) from error

    @rank_zero_only
    def sync(self) -> None:
        """Wait until the disk has every event."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def cut_after(self, step: int) -> None:
        """Drop events of later steps, which will be made again, and a half-written last line."""
        kept = [as_json(event, None) for event in read_events(self.path) if event["step"] <= step]
        if self.path.exists():
            write_whole(self.path, "".join(kept))


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a metrics.jsonl, if it is there; a half-written last line is left out.

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
                    f"{path}, line {number}, is damaged: put the file back from a copy, or delete the line, "
                    "whose event is then missing"
                ) from error
    return events

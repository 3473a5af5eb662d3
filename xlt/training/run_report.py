"""Report of a run in its folder: run.json, curves.png and report.html, without a dashboard or a network.

The report is written after validations, at most every half minute, and at the end, also of a run that is
interrupted. A failure is logged, and never ends the run.
"""

import base64
import io
import json
import logging
import time
from typing import Any

import torch
from lightning import Callback, Trainer

from xlt.module import TransferModule
from xlt.system.files import write_atomically
from xlt.system.tables import as_json
from xlt.training.console_log import ConsoleLog
from xlt.training.curves import curves
from xlt.training.metrics_file import read_events
from xlt.training.provenance import start_facts
from xlt.training.results import peak_rss_bytes, versions
from xlt.training.run_folder import RunFolder
from xlt.training.run_page import render

log = logging.getLogger(__name__)

SECONDS_BETWEEN = 30.0
"""Minimum number of seconds between two reports, and from the start to the first."""

DOTS_PER_INCH = 110


class RunReport(Callback):
    """Callback that writes a run's report on rank 0.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.console: ConsoleLog | None = None
        """Copy of the console's output, which knows the warnings of this start."""
        self._record: dict[str, Any] = {}
        self._since = self._written_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: TransferModule) -> None:  # type: ignore[override]
        """Add this start to run.json."""
        if trainer.is_global_zero:
            self._attempt(self._begin, trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: TransferModule) -> None:  # type: ignore[override]
        """Write the report, unless the start or the last one is too recent."""
        is_due = time.monotonic() - self._written_at >= SECONDS_BETWEEN
        if trainer.state.fn == "fit" and not trainer.sanity_checking and is_due:
            self.write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: TransferModule, exception: BaseException) -> None:  # type: ignore[override]
        """Write the report of an interrupted run."""
        self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write the report of a run that has started.

        Args:
            trainer: The run's Trainer.
        """
        is_lost = trainer.global_step > 0 and not self._folder.report.is_file()
        if trainer.is_global_zero and not self._record and is_lost:  # killed between the last step and this
            self._attempt(self._begin, trainer)
        if trainer.is_global_zero and self._record:
            self._attempt(self._write, trainer)
            self._written_at = time.monotonic()

    def _attempt(self, action: Any, trainer: Trainer) -> None:
        """Run an action, and log its failure."""
        try:
            action(trainer)
        except Exception as error:
            log.warning(
                "the report %s cannot be written (%s: %s); training continues, and metrics.jsonl has every "
                "event",
                self._folder.report,
                type(error).__name__,
                error,
            )

    def _begin(self, trainer: Trainer) -> None:
        """Add this start to the record of the run."""
        path = self._folder.starts
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        start = start_facts(trainer.strategy.root_device, trainer.world_size)
        start |= {"first_step": trainer.global_step}
        own = {"starts": [*earlier.get("starts", []), start], "max_steps": trainer.max_steps}
        self._record = earlier | own | {"versions": versions()}
        write_atomically(path, as_json(self._record))

    def _write(self, trainer: Trainer) -> None:
        """Write run.json, then the picture, then the page."""
        module = trainer.lightning_module
        assert isinstance(module, TransferModule)
        device = trainer.strategy.root_device
        self._record["starts"][-1] |= {
            "last_step": trainer.global_step,
            "seconds": time.monotonic() - self._since,
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_gpu_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
            "warnings": self.console.warnings if self.console else [],
        }
        if module.scores:
            self._record["chance"] = {task: dict(found.chance) for task, found in module.scores.items()}
            self._record["rows"] = {t: module.data.num_validation_examples(t) for t in module.scores}
        write_atomically(self._folder.starts, as_json(self._record))
        picture = io.BytesIO()
        figure = curves(read_events(self._folder.metrics), self._record.get("chance", {}))
        figure.savefig(picture, format="png", dpi=DOTS_PER_INCH)
        write_atomically(self._folder.curves, picture.getvalue())
        encoded = base64.b64encode(picture.getvalue()).decode()
        write_atomically(self._folder.report, render(self._folder, encoded))

"""Logger to Weights & Biases that never stops or delays a run, and that logs a resumed run as the same run.

The run's folder holds the id of the W&B run. A resumed run first logs the events of metrics.jsonl that W&B
does not have. Offline, each start writes a file of its own, and the last file holds every event. The run's
panels and summary are chosen in `xlt.training.wandb_layout`.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only

from xlt.system.wandb_mode import hashed_run_id, save_page_url, wandb_mode
from xlt.training.lineage import lineage
from xlt.training.run_folder import RunFolder
from xlt.training.wandb_layout import STEP, Layout, log_model, tables

log = logging.getLogger(__name__)

FINISH_TIMEOUT = 60.0
"""Maximum number of seconds that the end of a run waits for W&B."""

Entry = tuple[Mapping[str, Any], int]
"""Figures by log key, and their step."""


class RunWandbLogger(WandbLogger):
    """Logger of a run to Weights & Biases. A thread does the work, so training never waits.

    Args:
        folder: The run's folder, which holds the id of the W&B run.
        config: The whole config, nested.
        project: Name of the W&B project.
        group: Name of the W&B group. Defaults to the name of the run's folder if None.
        job_type: Phase of the run.
        tags: W&B tags.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Mapping[str, Any],
        project: str,
        group: str | None,
        job_type: str,
        tags: Sequence[str],
    ) -> None:
        super().__init__(
            name=folder.path.name,
            save_dir=folder.path,
            id=run_id(folder, config),
            project=project,
            group=group or folder.path.name,
            job_type=job_type,
            tags=list(tags),
            config={**config, "run": lineage(config)},
            mode=wandb_mode(),
            resume="allow",
            settings={"silent": wandb_mode() == "offline"},
        )
        self._wandb_init.pop("anonymous", None)
        self._folder = folder
        self._is_closed = False
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._waiting: list[Entry] = []
        """Figures of callbacks that wait for the run's next event."""
        self._last_step = 0
        self._exit_code, self._is_complete = 0, True
        self.num_logged = 0
        """Number of events that were logged to W&B."""
        self._is_ready = Event()
        self._worker: Thread | None = None
        self._layout = Layout()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, or an object that waits for the run when it is used. A dummy after a failure."""
        if self._is_closed:
            return DummyLogger().experiment
        self._start_worker()
        return self._experiment if self._is_ready.is_set() else _LazyRun(self._wait)

    def _start_worker(self) -> None:
        """Start the run in a thread, because wandb takes seconds, or minutes without a network."""
        if self._worker is None:
            self._worker = Thread(target=self._work, name="wandb", daemon=True)
            self._worker.start()

    def _wait(self) -> Any:
        """Wait until the run has started, and return the run, or a dummy after a failure."""
        self._is_ready.wait()
        return DummyLogger().experiment if self._is_closed else self._experiment

    def _work(self) -> None:
        """Start the run, log the queued events that the run does not have, and finish at a None."""
        try:
            run = super().experiment
            self._is_ready.set()
            save_page_url(self._folder.path, run)
            # A resumed run has all earlier steps already, with equal figures.
            self._log_queued(run, first=run.step)
            run.finish(exit_code=self._exit_code)
        # wandb raises SystemExit if it takes the process to be interactive.
        except BaseException as error:
            self._is_closed, self._is_complete = True, False
            log.warning(
                "W&B failed (%s: %s); training continues, and metrics.jsonl has every event",
                type(error).__name__,
                error,
            )
            self._is_ready.set()

    def _log_queued(self, run: Any, first: int) -> None:
        """Log the queued events from a step on. The last event waits for the tables of a finished run."""
        held: Entry | None = None
        while entry := self._queue.get():
            if held:
                self._log(run, *held, first)
            held = entry
        if held:
            is_last = not self._exit_code and held[1] >= first
            self._log(run, {**held[0], **(tables(self._folder) if is_last else {})}, held[1], first)
            if is_last:
                log_model(run, self._folder)

    def _log(self, run: Any, metrics: Mapping[str, Any], step: int, first: int) -> None:
        """Log an event, unless W&B has its step."""
        logged = self._layout.prepare(run, metrics)
        if step >= first:
            run.log({**logged, STEP: step}, step=step)
            self.num_logged += 1

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run after a failure. A run that succeeds stays open until its model is exported."""
        self._exit_code = int(status not in ("success", "finished"))
        if self._exit_code:
            self.close()

    @rank_zero_only
    def close(self) -> None:
        """Close the run, so that the next run of this process logs to its own."""
        if not self.finish(FINISH_TIMEOUT):
            log.warning("`xlt wandb_sync %s` sends the missing events to W&B", self.save_dir)

    def finish(self, timeout: float | None) -> bool:
        """Log the remaining events and close the run.

        Args:
            timeout: Maximum number of seconds to wait for W&B, or None for no limit.

        Returns:
            True if W&B has every event.
        """
        if self._worker is not None and not self._is_closed:
            if self._waiting:
                self._queue.put((_merged(metrics for metrics, _ in self._waiting), self._last_step))
            self._queue.put(None)
            self._worker.join(timeout)
            self._is_complete = not (self._is_closed or self._worker.is_alive())
        self._is_closed = True
        return self._is_complete

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep the figures of a callback until the run's next event, and log both together.

        The run's events are logged some steps late, and W&B drops figures of steps before its newest step.
        """
        self._waiting.append((dict(metrics), step or 0))

    @rank_zero_only
    def record(self, event: Mapping[str, Any], step: int) -> None:
        """Log an event of the run as soon as W&B is ready.

        Args:
            event: Figures by log key.
            step: Step of the event.
        """
        if self._is_closed:
            return
        self._start_worker()
        # Lightning counts steps from 0, so a callback's figures of this step carry the step before.
        earlier = [metrics for metrics, at in self._waiting if at < step]
        self._waiting = [entry for entry in self._waiting if entry[1] >= step]
        self._last_step = step
        self._queue.put((_merged((*earlier, event)), step))

    @rank_zero_only
    def replay(self, record: Iterable[Mapping[str, Any]]) -> None:
        """Log the events that W&B does not have.

        Args:
            record: Events of metrics.jsonl, each with its `step`.
        """
        for event in sorted(record, key=lambda event: event["step"]):
            self.record({key: value for key, value in event.items() if key != "step"}, event["step"])


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the union of mappings. Later values win."""
    return {key: value for part in parts for key, value in part.items()}


class _LazyRun:
    """Stand-in for a run that has not started: access to an attribute waits for the run."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run(), name)


def run_id(folder: RunFolder, config: Mapping[str, Any]) -> str:
    """Return the id of the W&B run: the one in the run's folder, or a hash of the folder's name and config.

    Args:
        folder: The run's folder.
        config: The whole config, nested.
    """
    if folder.wandb_id.is_file():
        return folder.wandb_id.read_text(encoding="utf-8").strip()
    return hashed_run_id(json.dumps([folder.path.name, config], sort_keys=True, default=str))

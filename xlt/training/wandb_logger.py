"""Weights & Biases: online where an account is configured, else offline; never a reason to stop or to wait.

A restarted run stays one run: its id is kept in the run's folder, and what W&B has not of the record so far
is told first. Offline, each start writes a file of its own, the last of which holds everything.
"""

import contextlib
import hashlib
import json
import logging
import netrc
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only
from wandb import Settings

from xlt.training.run_folder import RunFolder

log = logging.getLogger(__name__)

FAREWELL = 60.0
"""Most seconds that the end of a run waits for W&B."""

Told = tuple[Mapping[str, Any], int]
"""Figures by log key, and the step that they are of."""


class Dashboard(WandbLogger):
    """A run's dashboard.

    Args:
        folder: The run's folder; the run's id is kept there, so a restarted run stays one run.
        config: The resolved config, nested.
        project: W&B project.
        group: What the run belongs to, such as a study; its own name where not given.
        job_type: Its phase.
        tags: Further labels.
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
            config=dict(config),
            mode=mode(),
            resume="allow",
            settings=Settings(silent=mode() == "offline"),
        )
        self._wandb_init.pop("anonymous", None)
        self._folder = folder.path
        self._closed = False
        self._events: SimpleQueue[Told | None] = SimpleQueue()
        self._aside: list[Told] = []
        self._last_step = 0
        self._exit_code, self._has_all = 0, True
        self.num_told = 0
        """Events that the run has been told."""
        self._is_ready = Event()
        self._worker: Thread | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, which whoever asks something of it waits for; after a failure, nothing."""
        if self._closed:
            return DummyLogger().experiment
        self._begin()
        return self._experiment if self._is_ready.is_set() else _Later(self._wait)

    def _begin(self) -> None:
        """Start the run in a thread, for wandb takes seconds, and minutes where the network is silent."""
        if self._worker is None:
            self._worker = Thread(target=self._serve, name="dashboard", daemon=True)
            self._worker.start()

    def _wait(self) -> Any:
        """The run, once it has begun."""
        self._is_ready.wait()
        return DummyLogger().experiment if self._closed else self._experiment

    def _serve(self) -> None:
        """Begin the run, log what comes and what it does not have yet, and finish it when told to."""
        try:
            run = super().experiment
            self._is_ready.set()
            keep_address(self._folder, run)
            # A run that is there already has the steps before its own: their figures are the same again.
            first = run.step
            while event := self._events.get():
                metrics, step = event
                if step >= first:
                    # The axis that Lightning tells W&B to draw everything over.
                    run.log({**metrics, "trainer/global_step": step}, step=step)
                    self.num_told += 1
            run.finish(exit_code=self._exit_code)
        # wandb leaves by SystemExit where it takes a run to be interactive.
        except BaseException as error:
            self._closed, self._has_all = True, False
            log.warning(
                "W&B failed (%s: %s); training goes on, and metrics.jsonl has every event",
                type(error).__name__,
                error,
            )
            self._is_ready.set()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run, so that another one of this process does not log to it."""
        self._exit_code = int(status not in ("success", "finished"))
        if not self.finish(FAREWELL):
            log.warning("`python -m xlt.wandb_sync %s` tells W&B what it has not", self.save_dir)

    def finish(self, patience: float | None) -> bool:
        """Log what is left and close the run.

        Args:
            patience: Most seconds to wait for W&B; None to wait until it is done.

        Returns:
            Whether it has everything.
        """
        if self._worker is not None and not self._closed:
            if self._aside:
                self._events.put((_merged(metrics for metrics, _ in self._aside), self._last_step))
            self._events.put(None)
            self._worker.join(patience)
            self._has_all = not (self._closed or self._worker.is_alive())
        self._closed = True
        return self._has_all

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep a callback's figures until the run's next event, which they go with.

        The run's events come some steps late, and W&B drops those of a step before its newest.
        """
        self._aside.append((dict(metrics), step or 0))

    @rank_zero_only
    def record(self, event: Mapping[str, Any], step: int) -> None:
        """Log one event of the run at its step, when the run of W&B is ready."""
        if self._closed:
            return
        self._begin()
        # Lightning counts from 0: a callback's figures of this step are of one less.
        earlier = [metrics for metrics, at in self._aside if at < step]
        self._aside = [told for told in self._aside if told[1] >= step]
        self._last_step = step
        self._events.put((_merged((*earlier, event)), step))

    @rank_zero_only
    def replay(self, record: Iterable[Mapping[str, Any]]) -> None:
        """Log the events of a record, each with its `step`, that the run does not have."""
        for event in sorted(record, key=lambda event: event["step"]):
            self.record({key: value for key, value in event.items() if key != "step"}, event["step"])


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one mapping of all, in which later ones win."""
    return {key: value for part in parts for key, value in part.items()}


class _Later:
    """A run that has not begun yet: what is asked of it waits until it has."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run(), name)


SPELLINGS = {"dryrun": "offline", "run": "online"}
"""Older names of W&B's modes."""


def mode() -> str:
    """WANDB_MODE where it is set; else online with a key in WANDB_API_KEY or ~/.netrc, offline without."""
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "yes", "on"):
        return "disabled"
    chosen = os.environ.get("WANDB_MODE", "").strip().lower()
    if chosen:
        return SPELLINGS.get(chosen, chosen)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (FileNotFoundError, netrc.NetrcParseError):
        known = None
    return "online" if known else "offline"


ADDRESS = "wandb_url"
"""File of a run's folder that says where its page is; none for a run that is offline."""


def keep_address(folder: Path, run: Any) -> None:
    """Write down where the run's page is, where it has one and the folder can be written."""
    address = getattr(run, "url", None)
    if isinstance(address, str):
        with contextlib.suppress(OSError):
            (folder / ADDRESS).write_text(address + "\n", encoding="utf-8")


def address_of(folder: Path) -> str:
    """Where a run's page is; empty where it has none."""
    path = folder / ADDRESS
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def run_id(folder: RunFolder, config: Mapping[str, Any]) -> str:
    """The id in the run's folder; a new one is a hash of the folder's name and the config."""
    if folder.wandb_id.is_file():
        return folder.wandb_id.read_text(encoding="utf-8").strip()
    text = json.dumps([folder.path.name, config], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

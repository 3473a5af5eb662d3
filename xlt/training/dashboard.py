"""Weights & Biases: online where an account is configured, else offline; never a reason to stop."""

import hashlib
import json
import netrc
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import _DummyExperiment, rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from wandb import Settings

from xlt.training.run_folder import RunFolder


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
        self._closed = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, or after a failure nothing that does anything."""
        if not self._closed:
            try:
                return super().experiment
            except Exception as error:
                self._fail(error)
        return _DummyExperiment()

    def _fail(self, error: Exception) -> None:
        """Warn once; log no more."""
        self._closed = True
        rank_zero_warn(
            f"W&B failed ({type(error).__name__}: {error}); training goes on, and metrics.jsonl has every "
            "event"
        )

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run, so that another one of this process does not log to it."""
        if not self._closed and self._experiment is not None:
            self._experiment.finish(exit_code=int(status not in ("success", "finished")))
            self._closed = True

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one event at its step."""
        try:
            self.experiment.log(dict(metrics), step=step)
        except Exception as error:
            self._fail(error)


def mode() -> str:
    """WANDB_MODE where it is set; else online with a key in WANDB_API_KEY or ~/.netrc, offline without."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (FileNotFoundError, netrc.NetrcParseError):
        known = None
    return "online" if known else "offline"


def run_id(folder: RunFolder, config: Mapping[str, Any]) -> str:
    """The id in the run's folder; a new one is a hash of the folder's name and the config."""
    if folder.wandb_id.is_file():
        return folder.wandb_id.read_text().strip()
    text = json.dumps([folder.path.name, config], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

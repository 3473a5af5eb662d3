"""Layout of a run on Weights & Biases: panels, summary, tables, and the artifact of the model.

A run has about 15 panels in the sections train, val, mixture and system. Figures of single tasks are logged
without a panel. Constants of the run are config. metrics.jsonl has everything.
"""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xlt.kinds.task import group_of
from xlt.system.folders import WEIGHTS
from xlt.system.wandb_mode import wandb_mode
from xlt.training.lineage import lineage
from xlt.training.metrics_file import read_events
from xlt.training.run_folder import RunFolder
from xlt.training.run_page import mixture_rows, validated

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

STEP = "trainer/global_step"
"""Key of the horizontal axis."""

SYSTEM = {f"train/{name}": f"system/{name}" for name in ("tokens_per_second", "padding_share", "tokens")}
"""Figures of the speed, and their keys in W&B's section `system`."""

CONSTANTS = ("share", "examples", "planned_steps")
"""Figures of the mixture that do not change during a run."""

SHOWN = {
    *("train/loss", "train/learning_rate", "train/gradient_norm", "val/score"),
    *("system/tokens_per_second", "system/padding_share"),
}
"""Keys with a panel, beside the main metric of each task."""

LOWER_IS_BETTER = ("loss", "perplexity")


class Layout:
    """Panels and summary of a run's figures."""

    def __init__(self) -> None:
        self._defined: set[str] = set()
        self._groups: set[str] = set()
        """Tasks whose main metric has a panel."""

    def prepare(self, run: Any, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Move constants into the run's config, and return the other figures by their keys at W&B.

        Args:
            run: The run of wandb.
            metrics: Figures of an event, by log key.
        """
        constants: dict[str, dict[str, Any]] = {}
        logged = {}
        for key, value in metrics.items():
            task, _, name = key.removeprefix("mixture/").rpartition("/")
            if key.startswith("mixture/") and name in CONSTANTS:
                constants.setdefault(task, {})[name] = value
            else:
                logged[SYSTEM.get(key, key)] = value
        if constants:
            run.config.update({"mixture": constants}, allow_val_change=True)
        for key in (STEP, *logged):
            if key not in self._defined:
                self._define(run, key)
        return logged

    def _define(self, run: Any, key: str) -> None:
        """Tell W&B the axis, the panel and the summary of a figure."""
        self._defined.add(key)
        if key == STEP:
            run.define_metric(key, hidden=True)
            return
        section, _, rest = key.partition("/")
        is_main = section == "val" and "/" in rest and group_of(rest) not in self._groups
        if is_main:
            self._groups.add(group_of(rest))
        best = None
        if section == "val":
            best = "min" if rest.rpartition("/")[2] in LOWER_IS_BETTER else "max"
        run.define_metric(key, step_metric=STEP, hidden=not is_main and key not in SHOWN, summary=best)


def tables(folder: RunFolder) -> "dict[str, wandb.Table]":
    """Return the table of scores beside chance, and the table of the mixture, by log key.

    Args:
        folder: The run's folder.
    """
    import wandb  # takes a second, which --help need not wait for

    events = read_events(folder.metrics)
    record = json.loads(folder.starts.read_text(encoding="utf-8")) if folder.starts.is_file() else {}
    found = {}
    mixture = mixture_rows(events)
    if mixture["rows"]:
        rows: list[Any] = [[text for text, _ in row] for row in mixture["rows"]]
        found["mixture/tasks"] = wandb.Table(columns=mixture["head"], data=rows)
    if record.get("chance") and validated(events):
        best = max(validated(events), key=lambda event: event["val/score"])
        rows = [
            [task, metric, best.get(f"val/{task}/{metric}"), chance, record["rows"][task], best["step"]]
            for task, metrics in record["chance"].items()
            for metric, chance in metrics.items()
        ]
        columns: list[Any] = ["task", "metric", "score", "chance", "rows", "step"]
        found["val/results"] = wandb.Table(columns=columns, data=rows)
    return found


def log_model(run: Any, folder: RunFolder) -> None:
    """Log the model of a finished run as an artifact that refers to its folder; nothing is uploaded.

    Args:
        run: The run of wandb.
        folder: The run's folder.
    """
    import wandb  # as in `tables`

    if not (folder.model / WEIGHTS).is_file() or not folder.wandb_id.is_file():
        return
    facts = lineage(folder.read_config())
    own = folder.wandb_id.read_text(encoding="utf-8").strip()
    if facts["parent_run"] and wandb_mode() == "online":
        try:
            run.use_artifact(f"{artifact_name(facts['parent_run'])}:latest")
        except Exception as error:
            log.warning("W&B does not have the model of the parent run %s (%s)", facts["parent_run"], error)
    artifact = wandb.Artifact(artifact_name(own), type="model", metadata=facts)
    artifact.add_reference(folder.model.resolve().as_uri(), checksum=False)
    run.log_artifact(artifact)


def artifact_name(run_id: str) -> str:
    """Return the name of a run's model at W&B.

    Args:
        run_id: The W&B id of the run.
    """
    return f"model-{run_id}"

"""The run's folder, and the check that the folder belongs to the run's config.

config.yaml     the whole config             metrics.jsonl   one event per line
sources.json    the data that was used       checkpoints/    the newest and the best checkpoints
run.json        the starts of the run        log.txt         the console's output of all starts
report.html     a page about the run         curves.png      its learning curves
model/          the best checkpoint as a model (xlt.system.folders), once the run is finished
results.json    the scores; the last file of a finished run
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlt.datamodule import TransferData
from xlt.system.files import write_atomically
from xlt.system.folders import MODEL
from xlt.system.tables import as_json
from xlt.system.yaml_files import read_yaml

KEYS_SAFE_TO_CHANGE = (
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.logger",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.enable_checkpointing",
    "trainer.log_every_n_steps",
    "trainer.default_root_dir",
    "trainer.profiler",
    "trainer.detect_anomaly",
    "trainer.benchmark",
    "model.gradient_checkpointing",
    "data.num_workers",
    "data.cache",
    "data.root",
    "checkpoints",
    "preemption",
    "wandb",
    "config",
    "name",
)
"""Keys that may change when a run is resumed, because none of them changes what is learned."""

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "32", "64", "bf16")
"""Precisions that a run may have."""


class RunFolder:
    """Paths of a run's files.

    Args:
        path: The run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.sources = path / "sources.json"
        self.wandb_id = path / "wandb_id"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.model = path / MODEL
        self.results = path / "results.json"
        self.lock = path / "lock"
        self.starts = path / "run.json"
        self.log = path / "log.txt"
        self.curves = path / "curves.png"
        self.report = path / "report.html"

    @property
    def is_finished(self) -> bool:
        """True if the run has its results."""
        return self.results.is_file()

    @property
    def precision(self) -> Any:
        """Precision that the run was started with, or None if the folder has no run yet.

        Raises:
            ValueError: The run's config is damaged.
        """
        found = self.read_config()["trainer"].get("precision") if self.config.is_file() else None
        if found is not None and str(found) not in PRECISIONS:
            raise ValueError(f"{self.config} is damaged: trainer.precision is {found}. Restore the file")
        return found

    def check(self, config: Mapping[str, Any]) -> None:
        """Check that the folder is writable and belongs to a config.

        Args:
            config: The whole config, nested.

        Raises:
            ValueError: The folder belongs to another config, or its config is damaged.
            OSError: The folder cannot be written.
        """
        for folder in (self.path, self.checkpoints):
            check_writable(folder, "the run's folder", "trainer.default_root_dir")
        self.compare(config)

    def compare(self, config: Mapping[str, Any]) -> None:
        """Check that the folder belongs to a config, or is new. No file is touched.

        Args:
            config: The whole config, nested.

        Raises:
            ValueError: The folder belongs to another config, or its config is damaged.
        """
        if self.config.is_file():
            self._compare(self.read_config(), config)
        elif any(self.checkpoints.glob("*.ckpt")):
            raise ValueError(
                f"{self.config} is missing, but the run has checkpoints: restore the file, or give this run "
                "another --name (or trainer.default_root_dir)"
            )

    def read_config(self) -> dict[str, Any]:
        """Return the run's config, nested.

        Raises:
            ValueError: The config is damaged.
        """
        try:
            config = read_yaml(self.config)
        except ValueError as error:
            raise ValueError(f"{self.config} is damaged: {error}") from error
        if not isinstance(config, dict) or not {"model", "data", "trainer"} <= set(config):
            raise ValueError(f"{self.config} is damaged: model, data or trainer is missing. Restore the file")
        return config

    def describe(self, config: str, wandb_id: str, data: TransferData) -> None:
        """Write the run's config, its W&B id, and its data sources with hashes of their content.

        Args:
            config: The whole config as YAML.
            wandb_id: Identifier of the run at W&B.
            data: The run's data.
        """
        found = {
            name: {split: asdict(stored.meta) for split, stored in splits.items()}
            for name, splits in data.encoded.items()
        }
        write_atomically(self.sources, as_json(found))
        write_atomically(self.wandb_id, wandb_id + "\n")
        write_atomically(self.config, config)

    def _compare(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        """Raise ValueError if a key differs that may not change."""
        there, here = flatten(theirs), flatten(ours)
        changed = [
            f"{key}: {there.get(key)!r} there, {here.get(key)!r} now"
            for key in sorted(there | here)
            if there.get(key) != here.get(key) and not is_safe_to_change(key)
        ]
        if changed:
            raise ValueError(
                f"the run's folder {self.path} belongs to another config ({'; '.join(changed)}). Give "
                "this run another --name (or trainer.default_root_dir), or undo the change to resume that run"
            )


def check_writable(folder: Path, what: str, key: str) -> None:
    """Create a folder if it does not exist, and check that a file can be written into it.

    Args:
        folder: The folder.
        what: Name of the folder in the error message.
        key: Config key of the folder.

    Raises:
        OSError: The folder cannot be created, or no file can be written into it.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The probe is not empty, because a full disk accepts empty files.
        probe.write_bytes(b"1")
    except OSError as error:
        raise OSError(
            f"{what} {folder} cannot be written ({error.strerror}): set {key} to a writable folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key.

    Args:
        nested: The mappings.
        prefix: Text before each key. Defaults to none.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def is_safe_to_change(key: str) -> bool:
    """Return True if a key may change when a run is resumed."""
    return any(key == free or key.startswith(f"{free}.") for free in KEYS_SAFE_TO_CHANGE)

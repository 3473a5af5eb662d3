"""The run's folder: its config, events, checkpoints and results, and the check that it is this run's.

config.yaml     the resolved config          metrics.jsonl   one event a line
sources.json    the data actually used       checkpoints/    the newest and the best
model/          the best checkpoint as a model of its own (xlt.system.folders), once the run is finished
results.json    scores; the last file of a finished run
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlt.datamodule import TransferData
from xlt.system.folders import MODEL
from xlt.system.tables import as_json
from xlt.system.yaml_files import read_yaml
from xlt.training.checkpoint_files import write_whole

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
    "data.num_workers",
    "data.cache",
    "data.root",
    "checkpoints",
    "preemption",
    "wandb",
    "config",
)
"""Keys that may change when a run goes on: none of them alters what is learned."""


class RunFolder:
    """A run's folder.

    Args:
        path: The folder.
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

    @property
    def is_finished(self) -> bool:
        """Whether the run has its results."""
        return self.results.is_file()

    def check(self, config: Mapping[str, Any]) -> None:
        """See that the folder can be this run's.

        Args:
            config: The resolved config, nested.

        Raises:
            ValueError: The folder belongs to another config, or its own is damaged.
            OSError: It cannot be written.
        """
        for folder in (self.path, self.checkpoints):
            check_writable(folder, "the run's folder", "trainer.default_root_dir")
        self.compare(config)

    def compare(self, config: Mapping[str, Any]) -> None:
        """See that the folder, if it is there, is of this config; nothing in it is touched.

        Args:
            config: The resolved config, nested.

        Raises:
            ValueError: The folder belongs to another config, or its own is damaged.
        """
        if self.config.is_file():
            self._compare(self.read_config(), config)

    def read_config(self) -> dict[str, Any]:
        """The run's config, nested.

        Raises:
            ValueError: It is damaged.
        """
        try:
            config = read_yaml(self.config)
        except ValueError as error:
            raise ValueError(f"{self.config} is damaged: {error}") from error
        if not isinstance(config, dict) or not {"model", "data", "trainer"} <= set(config):
            raise ValueError(f"{self.config} is damaged: it lacks model, data or trainer. Restore it")
        return config

    def keep(self, config: str, wandb_id: str, data: TransferData) -> None:
        """Say what the run is: its config, its id, and the rows it reads with hashes of their content."""
        found = {
            name: {split: asdict(stored.meta) for split, stored in splits.items()}
            for name, splits in data.encoded.items()
        }
        write_whole(self.sources, as_json(found))
        write_whole(self.wandb_id, wandb_id + "\n")
        write_whole(self.config, config)

    def _compare(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        """Raise ValueError where a key differs that matters."""
        there, here = flatten(theirs), flatten(ours)
        changed = [
            f"{key}: {there.get(key)!r} there, {here.get(key)!r} now"
            for key in sorted(there | here)
            if there.get(key) != here.get(key) and not is_free(key)
        ]
        if changed:
            raise ValueError(
                f"the run's folder {self.path} belongs to another config ({'; '.join(changed)}). Set "
                "trainer.default_root_dir to another folder, or take the change back to continue that run"
            )


def check_writable(folder: Path, what: str, key: str) -> None:
    """Raise OSError where a file cannot be made in the folder.

    Args:
        folder: The folder, which is made where it is not there.
        what: What to call it in the error.
        key: What names it.
    """
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What is put into the probe is that a disk may be full as well.
        probe.write_bytes(b"1")
    except OSError as error:
        raise OSError(
            f"{what} {folder} cannot be written ({error.strerror}): set {key} to a folder that can"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def is_free(key: str) -> bool:
    """Whether the key may change."""
    return any(key == free or key.startswith(f"{free}.") for free in KEYS_SAFE_TO_CHANGE)

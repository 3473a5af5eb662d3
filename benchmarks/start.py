"""Seconds from the imports to the first training step, when a config is started for the second time.

`python -m benchmarks.start [--config configs/quickstart.yaml]`. The first start, in a process of its own,
fills the cache of encoded rows; the second has a new run's folder and a new process, and is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from lightning import Callback

from benchmarks.workload import REPOSITORY
from xlt.config.cli import Cli

QUICKSTART = REPOSITORY / "configs" / "quickstart.yaml"


def main() -> None:
    """Start twice, and print the second's figures; a process told its folder is one of the starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=QUICKSTART)
    parser.add_argument("--folder", type=Path, help="start once, with cache and run in this folder")
    arguments = parser.parse_args()
    found = start(arguments.config, arguments.folder) if arguments.folder else second_start(arguments.config)
    print(json.dumps(found))


def second_start(config: Path = QUICKSTART) -> dict[str, float]:
    """Seconds of the second start, part by part."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.start", "--config", str(config), "--folder", folder]
        said = [subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True) for _ in range(2)]
    return json.loads(said[1].stdout.splitlines()[-1])


class _Watch(Callback):
    """Keeps when the first step begins and ends, and stops there."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """The first batch is there."""
        self.begun = self.begun or time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The first step is done."""
        self.ended = self.ended or time.perf_counter()


def start(config: Path, folder: Path) -> dict[str, float]:
    """Seconds after the imports until everything is built, the first step begins, and it ends."""
    begin, watch = time.perf_counter(), _Watch()
    with tempfile.TemporaryDirectory(dir=folder) as run, redirect_stdout(StringIO()):
        cli = Cli(
            [
                f"--config={config}",
                f"--data.cache={folder / 'cache'}",
                f"--trainer.default_root_dir={run}/run",
                "--trainer.max_steps=1",
                "--trainer.val_check_interval=1",
                "--data.validation_volume=1",
            ]
        )
        built = time.perf_counter()
        cli.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        cli.trainer.fit(cli.model, cli.datamodule)
    return {
        "built_seconds": built - begin,
        "first_step_begins_seconds": watch.begun - begin,
        "first_step_ends_seconds": watch.ended - begin,
    }


if __name__ == "__main__":
    main()

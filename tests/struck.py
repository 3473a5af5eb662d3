"""Runs that are struck: told to stop or killed, and compared with one that was left in peace."""

from pathlib import Path

from commands import launch
from conftest import Command
from test_fit import DDP, assert_same_weights, events, steps, timeless, weights

CHANGES = {
    "data.tasks": "[mnli, squad_v1, ccg]",
    "trainer.max_steps": 48,
    "trainer.val_check_interval": 4,
    "trainer.log_every_n_steps": 4,
    "checkpoints.every_n_steps": 3,
    "preemption.grace_seconds": 45,
}
"""A run with a validation every four steps, and a checkpoint every three and after the best."""


class Calm:
    """Undisturbed runs, made once.

    Args:
        tiny_run: Makes a run's arguments.
        root: Where they go.
    """

    def __init__(self, tiny_run: Command, root: Path) -> None:
        self._tiny_run, self._root = tiny_run, root
        self._made: dict[int, Path] = {}

    def __call__(self, processes: int) -> Path:
        """The folder of the run on so many processes."""
        if processes not in self._made:
            folder = self._made[processes] = self._root / str(processes)
            code, output = launch(self._tiny_run(folder, {**CHANGES, **ON[processes]}))
            assert code == 0, output
        return self._made[processes]


ON = {1: {}, 2: DDP}
"""Keys for so many processes."""


def last_step(folder: Path) -> int:
    """Of the record."""
    found = steps(folder) if (folder / "metrics.jsonl").is_file() else []
    return found[-1]["step"] if found else 0


def assert_same(folder: Path, other: Path) -> None:
    """The two records are one, event for event, and the weights are the same bits."""
    assert timeless(events(folder)) == timeless(events(other))
    assert_same_weights(weights(folder), weights(other))

"""Show a run on the dashboard as one: `python -m xlt.wandb_sync runs/NAME`.

For runs that were trained offline, or that W&B lost something of: the events of metrics.jsonl that the run on
the dashboard does not have are told under the run's own id, each once. WANDB_MODE=offline writes them into a
new file below the run's folder, to be carried to where there is a network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    from xlt.system.signals import leave_at_signals

    leave_at_signals()

from xlt.config.cli import run_verb
from xlt.config.parser import CommandParser
from xlt.training.metrics_file import read_events
from xlt.training.run_folder import RunFolder
from xlt.training.wandb_logger import Dashboard, mode


def sync(folder: Path) -> int:
    """Tell the dashboard what it does not have of a run.

    Args:
        folder: The run's folder.

    Returns:
        How many events it was told.

    Raises:
        FileNotFoundError: It is no run's folder.
        ValueError: Its record is damaged, or the dashboard could not be reached.
    """
    run = RunFolder(folder)
    if not run.config.is_file() or not run.wandb_id.is_file():
        raise FileNotFoundError(f"{folder} is no run's folder: it has no {run.config.name} or wandb_id")
    config = run.read_config()
    settings = config["wandb"]
    dashboard = Dashboard(
        run,
        config,
        settings["project"],
        settings["group"],
        settings["job_type"],
        settings["tags"] or (),
    )
    dashboard.replay(read_events(run.metrics))
    if not dashboard.finish(patience=None):
        raise ValueError(f"W&B has not taken all of {folder}; the same command tells it the rest")
    return dashboard.num_told


def wandb_sync(args: Sequence[str]) -> None:
    """The verb.

    Args:
        args: Command-line arguments: run folders.

    Raises:
        ValueError: There is no run's folder, or WANDB_MODE is disabled.
    """
    parser = CommandParser(prog="xlt.wandb_sync", description=__doc__)
    parser.add_argument("runs", nargs="*", type=str, help="folders of runs")
    runs = parser.parse_args(list(args)).runs
    if not runs:
        raise ValueError("name one run's folder or several: python -m xlt.wandb_sync runs/NAME")
    if mode() == "disabled":
        raise ValueError("WANDB_MODE is disabled: unset it, or set it to offline or online")
    for name in runs:
        print(f"{name}: {sync(Path(name)):,} events told to W&B ({mode()})")


if __name__ == "__main__":
    sys.exit(run_verb(wandb_sync, sys.argv[1:]))

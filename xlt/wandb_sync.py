"""Send the events of runs that Weights & Biases lacks.

xlt wandb_sync runs/mnli

Use the command for runs that were trained offline, or whose connection broke. Each event of metrics.jsonl
that W&B lacks is logged once, under the run's own id. With WANDB_MODE=offline the events are written to a new
folder in the run's wandb/, which can be copied to a machine with a network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    from xlt.config.help import start

    start("wandb_sync")

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.system.tables import counted
from xlt.system.wandb_mode import wandb_mode
from xlt.training.metrics_file import read_events
from xlt.training.run_folder import RunFolder
from xlt.training.wandb_logger import RunWandbLogger


def sync(folder: Path) -> int:
    """Log the events of a run that W&B does not have, and return their number.

    Args:
        folder: The run's folder.

    Raises:
        FileNotFoundError: The folder is not a run's folder.
        ValueError: The record is damaged, or W&B cannot be reached.
    """
    run = RunFolder(folder)
    if not run.config.is_file() or not run.wandb_id.is_file():
        raise FileNotFoundError(
            f"{folder} is not a run's folder: {run.config.name} or {run.wandb_id.name} is missing"
        )
    config = run.read_config()
    settings = config["wandb"]
    logger = RunWandbLogger(
        run,
        config,
        settings["project"],
        settings["group"],
        settings["job_type"],
        settings["tags"] or (),
    )
    logger.replay(read_events(run.metrics))
    if not logger.finish(timeout=None):
        raise ValueError(f"W&B does not have all events of {folder}: the same command sends the rest")
    return logger.num_logged


def wandb_sync(args: Sequence[str]) -> None:
    """Send the missing events of each run, and print their numbers.

    Args:
        args: Command-line arguments: folders of runs.

    Raises:
        ValueError: No folder is given, or WANDB_MODE is disabled.
    """
    parser = CommandParser(prog="xlt wandb_sync")
    parser.add_argument("runs", nargs="*", type=str, help="Folders of runs, such as runs/mnli.")
    runs = parser.parse_args(list(args)).runs
    if not runs:
        raise ValueError("no run is given: name one or more folders, as in xlt wandb_sync runs/mnli")
    if wandb_mode() == "disabled":
        raise ValueError("WANDB_MODE is disabled: unset it, or set it to offline or online")
    for name in runs:
        count = sync(Path(name))
        if wandb_mode() == "online":
            print(f"{name}: {counted(count, 'event')} sent to W&B")
        else:
            print(
                f"{name}: {counted(count, 'event')} written to {name}/wandb, none sent: W&B is "
                f"{wandb_mode()}. Send the newest folder there with `wandb sync`, or log in (`wandb login`) "
                "and run this again"
            )


if __name__ == "__main__":
    sys.exit(run_command(wandb_sync, sys.argv[1:]))

"""Print the number of trained parameters of runs, and the bytes of the optimizer's state and of a checkpoint.

    python -m scripts.checkpoint_sizes runs/small/mnli runs/lora/mnli

The command reads the newest checkpoint of each run. The bytes do not depend on the machine or on the number
of steps.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from xlt.system.tables import aligned
from xlt.training.checkpoint_files import newest, read_checkpoint
from xlt.training.run_folder import RunFolder


def sizes(run: Path) -> list[str]:
    """Return the cells of a run's line: its folder, the trained parameters, and the bytes of both.

    Raises:
        FileNotFoundError: The run has no undamaged checkpoint.
    """
    path = newest(RunFolder(run).checkpoints)
    if path is None:
        raise FileNotFoundError(f"{run} has no undamaged checkpoint: train the run with xlt fit")
    (optimizer,) = read_checkpoint(path)["optimizer_states"]
    tensors = [
        (name, value)
        for state in optimizer["state"].values()
        for name, value in state.items()
        if isinstance(value, Tensor)
    ]
    trained = sum(value.numel() for name, value in tensors if name == "exp_avg")
    state = sum(value.nbytes for _, value in tensors)
    return [str(run), *(f"{figure:,}" for figure in (trained, state, path.stat().st_size))]


def main(runs: Sequence[str]) -> None:
    """Print a table with a line for each run.

    Args:
        runs: Folders of the runs.
    """
    titles = ["run", "trained parameters", "optimizer bytes", "checkpoint bytes"]
    print(aligned([titles, *(sizes(Path(run)) for run in runs)]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])

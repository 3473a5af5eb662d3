"""What exact and elastic runs cost: `python -m tests.stress.resilience`.

Steps of the quickstart's model in turn as `xlt.fit` trains them (each step made from its number alone, random
numbers seeded by micro-batch, the record, verified checkpoints, an ear for signals) and as plain Lightning
does (the same rows drawn beforehand, no seeds, its CSVLogger and ModelCheckpoint at the same steps). Then how
long a checkpoint holds training up beside its serialisation alone, and what one look costs whether any of two
processes was told to stop. Ratios are medians over rounds of neighbours in time; the last line is JSON.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xlt.batch.batch import Batch
from xlt.config.cli import CommandLine
from xlt.data.sampling.collate import collate
from xlt.data.sampling.steps import as_is
from xlt.datamodule import TransferData
from xlt.module import TransferModule
from xlt.training.checkpoint_files import VerifiedCheckpointIO

MEASURED, EVERY = 30, 15
"""Steps of a round after the first, which warms up; steps between checkpoints."""

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


class Clock(Callback):
    """Times the steps from the end of the first to the end of the last, and what they left to threads.

    Args:
        now: The clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.seconds = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Start after the first step, stop after the last, before its validation."""
        if trainer.global_step == 1:
            self.seconds = -self._now()
        elif trainer.global_step == MEASURED + 1:
            if isinstance(trainer.strategy.checkpoint_io, VerifiedCheckpointIO):
                trainer.strategy.checkpoint_io.finish()
            self.seconds += self._now()


class Drawn(Dataset[list[Batch]]):
    """Micro-batches whose rows have been drawn beforehand, as a plain data set has them.

    Args:
        data: Where the rows are.
        num_steps: Optimizer steps.
    """

    def __init__(self, data: TransferData, num_steps: int) -> None:
        steps = data.build_steps(num_steps, 0, 1)
        self._data = data
        self._drawn = [
            [(batch.task, batch.rows.numpy(), batch.step_weight) for batch in steps[s]]
            for s in range(num_steps)
        ]

    def __getitem__(self, step: int) -> list[Batch]:
        """A step's micro-batches."""
        return [
            collate(
                task,
                self._data.encoded[task]["train"].features,
                rows,
                self._data.tasks[task].inputs,
                first_position=2,
                step_weight=weight,
            )
            for task, rows, weight in self._drawn[step]
        ]

    def __len__(self) -> int:
        """Optimizer steps."""
        return len(self._drawn)


class PlainData(TransferData):
    """The same rows, drawn beforehand."""

    def setup(self, stage: str) -> None:
        """Draw them."""
        super().setup(stage)
        self._drawn = Drawn(self, MEASURED + 1)

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """A loader as Lightning expects one."""
        return DataLoader(self._drawn, batch_size=None, collate_fn=as_is)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}


class PlainModule(TransferModule):
    """The same model, whose dropout is not seeded."""

    def _loss(self, batch: Batch) -> Tensor:
        logits = self.logits(batch)
        loss = self._head(batch.task).loss(logits, batch.packing, batch.columns) / batch.step_weight
        self.step_loss += loss.detach()
        return loss * self.trainer.world_size

    def on_train_batch_end(self, *_: Any) -> None:
        """Log the loss as one does."""
        self.log("loss", self.step_loss)


def command(folder: Path) -> CommandLine:
    """The quickstart, as `xlt.fit` builds it."""
    settings: dict[str, Any] = {
        "config": CONFIG,
        "trainer.default_root_dir": folder,
        "trainer.max_steps": MEASURED + 1,
        "trainer.val_check_interval": MEASURED + 1,
        "trainer.enable_progress_bar": "false",
        "trainer.logger": "false",
        "data.validation_volume": 1,
        "checkpoints.every_n_steps": EVERY,
    }
    return CommandLine([f"--{key}={value}" for key, value in settings.items()])


def ours(now: Callable[[], float], folder: Path) -> float:
    """Seconds of a round as xlt trains."""
    cli, clock = command(folder), Clock(now)
    callbacks: list[Any] = cli.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    callbacks.append(clock)
    cli.trainer.fit(cli.model, cli.datamodule)
    return clock.seconds


def plain(now: Callable[[], float], folder: Path) -> float:
    """Seconds of a round as Lightning trains."""
    config, clock = command(folder).config, Clock(now)
    trainer = Trainer(
        max_steps=MEASURED + 1,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=config.trainer.gradient_clip_val,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=config.trainer.log_every_n_steps,
        logger=CSVLogger(folder),
        callbacks=[ModelCheckpoint(folder, every_n_train_steps=EVERY, save_top_k=-1), clock],
    )
    trainer.fit(PlainModule(**vars(config.model)), PlainData(**vars(config.data)))
    return clock.seconds


def blocking(folder: Path, rounds: int) -> tuple[float, float]:
    """Median seconds for which a save holds training up, and those of its serialisation alone."""
    cli = command(folder)
    cli.trainer.fit(cli.model, cli.datamodule)
    checkpoint = cli.trainer._checkpoint_connector.dump_checkpoint(False)
    held, alone = [], []
    io = VerifiedCheckpointIO()
    for number in range(rounds):
        begun = time.perf_counter()
        io.save_checkpoint(checkpoint, folder / f"step-{number:09d}.ckpt")
        held.append(time.perf_counter() - begun)
        io.finish()
        begun = time.perf_counter()
        with (folder / f"alone-{number}").open("wb") as file:
            torch.save(checkpoint, file)
        alone.append(time.perf_counter() - begun)
    return statistics.median(held), statistics.median(alone)


LOOK = """
import statistics, sys, time, torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=int(sys.argv[2]), world_size=2)
seconds = []
for _ in range(500):
    begun = time.perf_counter()
    heard = torch.tensor(0.0)
    dist.all_reduce(heard, dist.ReduceOp.MAX)
    bool(heard)
    seconds.append(time.perf_counter() - begun)
print(statistics.median(seconds))
"""


def look(folder: Path) -> float:
    """Median seconds of a look on two processes of this machine."""
    commands = [[sys.executable, "-c", LOOK, str(folder / "store"), str(rank)] for rank in (0, 1)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in commands]
    return max(float(process.communicate(timeout=120)[0]) for process in running)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of both, in turn")
    parser.add_argument("--processor-time", action="store_true", help="this program's own seconds alone")
    options = parser.parse_args()
    sys.argv[1:] = []  # the command line of the runs is made below
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    now = time.process_time if options.processor_time else time.perf_counter
    pairs = []
    with tempfile.TemporaryDirectory(prefix="xlt-resilience-") as scratch:
        for number in range(options.rounds):
            folder = Path(scratch) / str(number)
            # Whichever comes second gains or loses by its place, so they change places.
            found = {arm.__name__: arm(now, folder / arm.__name__) for arm in order(number)}
            pairs.append((found["ours"], found["plain"]))
            print(f"round {number}: xlt {found['ours']:.2f} s, Lightning {found['plain']:.2f} s", flush=True)
        held, alone = blocking(Path(scratch) / "blocking", 15)
        looked = look(Path(scratch))
    step = statistics.median(mine for mine, _ in pairs) / MEASURED
    print(
        json.dumps(
            {
                "ratio": round(statistics.median(mine / theirs for mine, theirs in pairs), 4),
                "xlt_step_seconds": round(step, 4),
                "lightning_step_seconds": round(statistics.median(t for _, t in pairs) / MEASURED, 4),
                "save_blocks_seconds": round(held, 4),
                "serialisation_seconds": round(alone, 4),
                "look_seconds": round(looked, 6),
                "clock": "processor" if options.processor_time else "wall",
                "threads": torch.get_num_threads(),
                "rounds": options.rounds,
            }
        )
    )
    return 0


def order(number: int) -> tuple[Callable[[Callable[[], float], Path], float], ...]:
    """The two arms, the other way round in every other round."""
    return (plain, ours) if number % 2 else (ours, plain)


if __name__ == "__main__":
    sys.exit(main())

"""Kills one run again and again, and compares what comes out with an undisturbed one: `make chaos`.

    python -m tests.stress.chaos --seed 0 --faults 30

A run is struck at random points of random steps: kill -9 of all processes or of one, SIGTERM or SIGUSR1 to
one, each or all, in a step, a validation, a save, between a save and its rename, a deletion, or while it
starts. After each fault it goes on with one, two or four processes. The seed determines every fault.

The last line is JSON: faults, how many the run survived (it ended in time, with the exit code that belongs to
the fault, and no checkpoint was lost), steps of the record that are missing or twice, and the greatest
differences of a loss and a weight from those of an undisturbed run on two processes. Exit code 1 where that
is not as it must be.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.stress.faults import Fault, ended, step_of
from xlt.system.signals import STOPPED
from xlt.training.checkpoint_files import VerifiedCheckpointIO, newest
from xlt.training.metrics_file import read_events

STEPS_A_FAULT = 6
"""Optimizer steps of the run for each fault: more than lie between two of them, so that all happen."""

TOLERANCE = 1e-5
"""Most that a loss may differ from the undisturbed run's, over all numbers of processes."""

WEIGHT_TOLERANCE = 1e-4
"""Most that a weight may: a fifth of one step of Adam's at the learning rate of 5e-4.

A bias that a softmax over tokens or choices is blind to has a gradient of rounding errors alone, which Adam
scales up like any other; no loss depends on it.
"""

LIMIT = 600
"""Seconds after which a command counts as hanging."""

REPOSITORY = Path(__file__).parents[2]

PLACES = ("step", "step", "step", "validation", "save", "sync", "delete", "start")
"""Where a fault happens; most often in a step."""


@dataclass(frozen=True)
class Blow:
    """A fault, the number of processes that it meets, and how many steps after the last one in the record."""

    fault: Fault
    processes: int
    steps_later: int


def draw(numbers: random.Random) -> Blow:
    """A random one."""
    processes = numbers.choice((2, 2, 1, 4))
    place = numbers.choice(PLACES)
    # Only the first process saves.
    ranks = (0,) if place in ("save", "sync", "delete") else (-1, *range(processes))
    fault = Fault(
        step=0,
        place=place,
        signal=numbers.choice(("SIGKILL", "SIGKILL", "SIGTERM", "SIGUSR1")),
        rank=numbers.choice(ranks),
        whole=numbers.random() < 0.3,
        times=numbers.choice((1, 1, 2)),
    )
    return Blow(fault, processes, numbers.randint(1, 4))


class Chaos:
    """The runs and what is counted.

    Args:
        scratch: Folder for everything.
        num_faults: Faults to survive.
        seed: What they and the run depend on.
    """

    def __init__(self, scratch: Path, num_faults: int, seed: int) -> None:
        self._scratch, self._num_faults, self._seed = scratch, num_faults, seed
        self.faults, self.survived = 0, 0
        write_encoder(scratch / "encoder")
        write_text(scratch / "text")

    def run(self) -> dict[str, Any]:
        """Strike, go on, compare."""
        code, output = self._command("undisturbed", 2, None)
        if code:
            raise RuntimeError(f"the undisturbed run failed:\n{output}")
        numbers = random.Random(self._seed)
        for blow in [draw(numbers) for _ in range(self._num_faults)]:
            self._strike(blow)
        code, output = self._command("struck", 2, None)
        if code:
            raise RuntimeError(f"the struck run did not end:\n{output}")
        return {"faults": self.faults, "survived": self.survived, **self._compare()}

    def _strike(self, blow: Blow) -> None:
        """One fault, and whether the run was as it must be after it."""
        begun, before = time.monotonic(), self._newest()
        events = read_events(self._scratch / "struck" / "metrics.jsonl")
        last = max((event["step"] for event in events), default=0)
        step = 0 if blow.fault.place == "start" else last + blow.steps_later
        fault = replace(blow.fault, step=step)
        code, output = self._command("struck", blow.processes, fault)
        as_it_must = code not in (0, STOPPED) if fault.signal == "SIGKILL" else code == STOPPED
        good = as_it_must and self._newest() >= before
        self.faults += 1
        self.survived += good
        print(
            f"{self.faults:>3} {fault.signal:<8} {fault.place:<10} step {step:<4} rank {fault.rank:<2} "
            f"{'all at once' if fault.whole else '':<11} of {blow.processes}: exit {code}, checkpoint "
            f"{before} -> {self._newest()}, {time.monotonic() - begun:.0f} s{'' if good else '  FAILED'}",
            flush=True,
        )
        if not good:
            print(output, flush=True)

    def _newest(self) -> int:
        """Step of the newest checkpoint that verifies."""
        with warnings.catch_warnings(action="ignore"):
            path = newest(self._scratch / "struck" / "checkpoints")
        return step_of(path) if path else 0

    def _command(self, name: str, processes: int, fault: Fault | None) -> tuple[int | None, str]:
        """Run to the end or to the fault; no exit code where the command or a process of it does not end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stress.faults", *self._arguments(name, processes)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, **ENVIRONMENT, **(fault.environment() if fault else {})},
            start_new_session=True,
        )
        return ended(process, LIMIT)

    def _arguments(self, name: str, processes: int) -> list[str]:
        """A short run of tasks of all kinds, two of them of plain text, whose tokens are hidden at random."""
        scratch = self._scratch
        settings: dict[str, Any] = {
            "config": REPOSITORY / "configs" / "quickstart.yaml",
            "seed_everything": self._seed,
            "model.encoder": scratch / "encoder",
            "model.from_scratch": "true",
            "data.tasks": "[mnli, squad_v2, ccg, cosmosqa, mlm/aa, ranking/aa-bb]",
            "data.root": f"[samples/open, samples/restricted, {scratch / 'text'}]",
            "data.cache": scratch / "cache",
            "data.max_length": 128,
            "data.stride": 32,
            "data.validation_volume": 8,
            "trainer.default_root_dir": scratch / name,
            "trainer.max_steps": STEPS_A_FAULT * self._num_faults,
            "trainer.val_check_interval": 10,
            "trainer.log_every_n_steps": 5,
            "trainer.devices": processes,
            "trainer.enable_progress_bar": "false",
            "checkpoints.every_n_steps": 2,
            "preemption.grace_seconds": 60,
        }
        return [f"--{key}={value}" for key, value in settings.items()]

    def _compare(self) -> dict[str, Any]:
        """Steps missing or twice, and the greatest differences."""
        ours, theirs = (losses(self._scratch / name) for name in ("struck", "undisturbed"))
        steps = Counter(step for step, _ in ours)
        expected = {step for step, _ in theirs}
        lost = len(expected - steps.keys()) + sum(steps.values()) - len(steps)
        by_step = dict(theirs)
        gaps = [abs(loss - by_step[step]) for step, loss in ours if step in by_step]
        mine, others = (weights(self._scratch / name) for name in ("struck", "undisturbed"))
        apart = {name: float((mine[name] - tensor).abs().max()) for name, tensor in others.items()}
        worst = max(apart, key=lambda name: apart[name])
        print(f"weights differ most in {worst}: {apart[worst]:.2g}")
        return {"lost_steps": lost, "max_loss_difference": max(gaps), "max_weight_difference": apart[worst]}


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "JSONARGPARSE_DEPRECATION_WARNINGS": "off",
}


def losses(folder: Path) -> list[tuple[int, float]]:
    """Step and loss of every training event."""
    events = read_events(folder / "metrics.jsonl")
    return [(event["step"], event["train/loss"]) for event in events if "train/loss" in event]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The newest checkpoint's."""
    path = newest(folder / "checkpoints")
    assert path is not None
    return VerifiedCheckpointIO().load_checkpoint(path)["state_dict"]


def write_encoder(folder: Path) -> None:
    """A tokenizer and the config of two layers of 32, whose weights are drawn."""
    source = REPOSITORY / "encoders" / "mini"
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | sizes))


def write_text(folder: Path) -> None:
    """Text of a language and of a pair, taken from MNLI's rows."""
    rows = pq.read_table(REPOSITORY / "samples" / "open" / "nyu-mll" / "glue" / "mnli" / "train.parquet")
    first, second = rows["premise"], rows["hypothesis"]
    for name, columns in (
        ("mono/aa", {"text": first}),
        ("parallel/aa-bb", {"source": first, "target": second}),
    ):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), path)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="what all faults, and the run, depend on")
    parser.add_argument("--faults", type=int, default=30, help="how many")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xlt-chaos-") as scratch:
        found = Chaos(Path(scratch), options.faults, options.seed).run()
    print(json.dumps(found))
    exact = (
        found["lost_steps"] == 0
        and found["max_loss_difference"] <= TOLERANCE
        and found["max_weight_difference"] <= WEIGHT_TOLERANCE
    )
    return int(not (exact and found["survived"] == found["faults"]))


if __name__ == "__main__":
    sys.exit(main())

"""How cost grows: with the length of sequences, the rows of the data set, the number of tasks."""

import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.processes import in_fresh_process
from benchmarks.systems import Setting, xlt_run
from benchmarks.turns import in_turn
from benchmarks.workload import SIZES, write_encoder
from xlt.data.features import ROWS_PER_BATCH, Features
from xlt.data.sampling.batches import RowStream
from xlt.data.sampling.collate import collate
from xlt.data.sampling.mixture import Schedule, probabilities
from xlt.data.sampling.steps import TaskRows, TrainingSteps

VOCABULARIES = ("4x256", "4x256, 250k pieces")
LENGTHS = (16, 64, 128, 256, 512)
ROWS = (10**3, 10**4, 10**5, 10**6, 10**7)
NUM_TASKS = (1, 3, 9, 27)
TOKENS_PER_BATCH = 4096
STEPS = 100
"""With each vocabulary, at most."""


def by_length(setting: Setting, folder: Path) -> dict[int, dict[str, float]]:
    """Tokens a second in training and evaluation for rows of one length (tokens)."""
    found = {}
    for length in LENGTHS:
        root = folder / f"length-{length}"
        _write_words(root, length - 2)
        run = xlt_run(
            replace(setting, root=root, validation_rows=4096 * 2 // length), options=["--data.max_length=512"]
        )
        found[length] = {"train": run.train.rate, "evaluation": run.evaluation.rate}
    return found


def _write_words(root: Path, words: int) -> None:
    """Rows of so many words that are each one token."""
    folder = root / "rows" / "xlt" / "mixed" / "default"
    folder.mkdir(parents=True)
    text = " ".join(["the"] * words)
    for split, num in (("train", 1024), ("validation", 1024)):
        table = pa.table({"first": [text] * num, "second": [""] * num, "label": [i % 3 for i in range(num)]})
        pq.write_table(table, folder / f"{split}.parquet")


def by_rows(folder: Path) -> dict[int, dict[str, float]]:
    """Seconds until the first batch, seconds a step of 8 micro-batches, and megabytes, by number of rows.

    The rows are simulated: lengths as of mixed tasks, one token id; what grows is the order, the memory map
    and the choice of rows, which see nothing else. Each number has a process of its own, whose peak memory
    beyond its size before is told, mapped pages included.
    """
    found = {}
    for rows in ROWS:
        path = folder / f"{rows}.arrow"
        _write_simulated(path, rows)
        found[rows] = in_fresh_process(_cost_of_rows, path, rows)
        path.unlink()
    return found


def _cost_of_rows(path: Path, rows: int) -> dict[str, float]:
    """The figures of a file of so many rows."""
    small = path.with_name("small.arrow")
    _write_simulated(small, ROWS[0])
    _first_step(small, ROWS[0])  # the code that it takes is in memory from here on
    before, begin = _peak(), time.perf_counter()
    features, stream = _first_step(path, rows)
    first, durations = time.perf_counter() - begin, []
    for visit in range(1, 21):
        begin = time.perf_counter()
        _step(features, stream, visit)
        durations.append(time.perf_counter() - begin)
    return {
        "first_batch_seconds": first,
        "step_seconds": statistics.median(durations),
        "megabytes": (_peak() - before) / 1e3,
    }


def _first_step(path: Path, rows: int) -> tuple[Features, RowStream]:
    """A file's features and the stream of its rows, of which the first step has been taken."""
    features = Features(path)
    stream = RowStream(features.counts("input_ids"), np.arange(rows), TOKENS_PER_BATCH, 8, 0, "simulated")
    _step(features, stream, 0)
    return features, stream


def _step(features: Features, stream: RowStream, visit: int) -> None:
    for rows in stream.step(visit):
        collate("simulated", features, rows, ("targets",))


def _peak() -> int:
    """The process's peak memory so far, kilobytes; `getrusage` would begin at its parent's peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _write_simulated(path: Path, rows: int) -> None:
    """Features of rows whose lengths are log-normal around 20 tokens, at most 96."""
    lengths = np.random.default_rng(0).lognormal(3.0, 0.5, rows).clip(4, 96).astype(np.int32)
    writer = None
    for begin in range(0, rows, ROWS_PER_BATCH):
        part = lengths[begin : begin + ROWS_PER_BATCH]
        one = np.ones_like(part)
        columns = {
            "input_ids": _lists(np.ones(part.sum(), np.int32), part),
            "lengths": _lists(part, one),
            "weight": _lists(one, one),
            "targets": _lists(np.zeros_like(part), one),
        }
        batch = pa.record_batch(columns)
        writer = writer or pa.ipc.new_file(str(path), batch.schema)
        writer.write_batch(batch)
    assert writer is not None
    writer.close()


def _lists(values: np.ndarray, counts: np.ndarray) -> pa.ListArray:
    """The values as lists of so many."""
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def by_tasks(folder: Path) -> dict[int, float]:
    """Seconds that a step of 8 micro-batches takes to make, by number of tasks in the mixture."""
    path = folder / "task.arrow"
    _write_simulated(path, 10_000)
    features, found = Features(path), {}
    for number in NUM_TASKS:
        names = [f"task{i}" for i in range(number)]
        shares = probabilities(dict.fromkeys(names, 10_000), 1.0, 131_072, None)
        rows = {name: TaskRows(features, np.arange(10_000), ("targets",)) for name in names}
        steps = TrainingSteps(Schedule(shares, 200, 0), rows, TOKENS_PER_BATCH, 8, 0, 0, 1)
        durations = []
        for step in range(100):
            begin = time.perf_counter()
            steps[step]
            durations.append(time.perf_counter() - begin)
        found[number] = statistics.median(durations)
    path.unlink()
    return found


def by_vocabulary(root: Path, precision: str, until: float) -> dict[int, dict[str, float]]:
    """Tokens a second in training by number of pieces, and what a step of 16,000 tokens costs in seconds.

    The table's gradient, norm and optimizer take the same time for any number of tokens in the step. The
    sizes take their steps in turn until then (`time.monotonic`).
    """
    systems = {}
    for name in VOCABULARIES:
        encoder = write_encoder(root / name.replace(", ", "-"), SIZES[name])
        systems[name] = partial(
            xlt_run, Setting(root, encoder, SIZES[name], STEPS, precision, 8, micro_batches_per_step=4)
        )
    rates = in_turn(systems, until).rates("train")
    return {
        SIZES[name].vocabulary: {"train": rate, "step_seconds": 4 * TOKENS_PER_BATCH / rate}
        for name, rate in rates.items()
    }

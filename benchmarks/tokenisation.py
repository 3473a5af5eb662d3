"""Encoding of real rows: xlt's tasks against `datasets.map` with the same tokenizer on every core."""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_caching
from transformers import AutoTokenizer

from benchmarks.workload import MAX_LENGTH, SAMPLES, TOKENIZER
from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.splits.store import read_examples, store

TASKS = ("mnli", "cosmosqa", "squad_v1", "hellaswag")


def measure(roots: Sequence[Path] = (SAMPLES,), repeats: int = 3) -> dict[str, float]:
    """Million tokens a second of both, medians, and xlt's ratio to the other, over the tasks together."""
    disable_caching()
    tokens = {name: _xlt(name, roots)[1] for name in TASKS}
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        ours.append(sum(_xlt(name, roots)[0] for name in TASKS))
        theirs.append(sum(_datasets(name, roots) for name in TASKS))
    total = sum(tokens.values())
    return {
        "tokens": total,
        "xlt_tokens_per_second": total / statistics.median(ours),
        "datasets_tokens_per_second": total / statistics.median(theirs),
        "tokenisation_vs_datasets": statistics.median(theirs) / statistics.median(ours),
    }


def _xlt(name: str, roots: Sequence[Path]) -> tuple[float, int]:
    """Seconds and tokens of encoding a task's training rows to disk, from its files."""
    task, text = tasks.load(name), TextEncoder(load_tokenizer(str(TOKENIZER)), MAX_LENGTH, 128)
    parts = [part for source in task.sources for part in source.open("train", list(roots))]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        stored = store(task, parts, text, Path(folder) / "split")
        return time.perf_counter() - begin, stored.meta.tokens


def _datasets(name: str, roots: Sequence[Path]) -> float:
    """Seconds of `datasets.map` over the same pairs; its rows are at hand already."""
    task = tasks.load(name)
    parts = [part for source in task.sources for part in source.open("train", list(roots))]
    pairs = [pair for example, *_ in read_examples(task, parts) for pair in _pairs(example)]
    rows = Dataset.from_dict({"first": [a for a, _ in pairs], "second": [b for _, b in pairs]})
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    cut: dict[str, Any] = {"truncation": True, "max_length": MAX_LENGTH}
    if name == "squad_v1":
        cut = {"truncation": "only_second", "max_length": MAX_LENGTH, "stride": 128}
        cut |= {"return_overflowing_tokens": True, "return_offsets_mapping": True}

    def encode(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["first"], batch["second"], **cut)

    begin = time.perf_counter()
    rows.map(encode, batched=True, num_proc=os.cpu_count(), remove_columns=["first", "second"])
    return time.perf_counter() - begin


def _pairs(example: Any) -> list[tuple[str, str]]:
    """The texts that go to the tokenizer for an example."""
    if hasattr(example, "choices"):
        return [(example.context, choice) for choice in example.choices]
    if hasattr(example, "question"):
        return [(example.question, example.context)]
    return [(example.first, example.second)]

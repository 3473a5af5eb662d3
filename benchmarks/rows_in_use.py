"""Compare the cost of the word embeddings in a step: the whole table, and the rows that the run's data read.

    python -m benchmarks.rows_in_use --run_config configs/small/mixture.yaml

The rows in use belong to the token ids of the config's data, encoded by the tokenizer of its encoder. For
each width, the command times the embedding's part of a step on the CPU: gradient, norm for clipping, AdamW.
Both tables take turns. Memory is that of the parameters, their gradients and AdamW's two moments, in single
precision.
"""

import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
import yaml
from jsonargparse import auto_cli
from torch import nn

from xlt.datamodule import TransferData
from xlt.models.encoders.text import load_config
from xlt.models.kernels.embedding import WordEmbedding, hold_gradients
from xlt.models.optim import adamw
from xlt.system.tables import aligned

COPIES = 4
"""Number of copies of a table in memory: parameters, gradients and two moments."""


class Table:
    """Table of word embeddings with its optimizer.

    Args:
        num_rows: Number of rows.
        width: Width of a row.
        ids: Ids of the rows to train, ascending. If None, all rows are trained.
    """

    def __init__(self, num_rows: int, width: int, ids: torch.Tensor | None = None) -> None:
        torch.manual_seed(0)
        self.words: WordEmbedding = hold_gradients(nn.Embedding(num_rows, width))
        if ids is not None:
            self.words.train_only(ids)
        self._optimizer = adamw(self.words, 1e-5, 0.01)

    @property
    def bytes(self) -> int:
        """Memory of parameters, gradients and moments, in bytes."""
        return COPIES * self.words.weight.nbytes

    def step(self, ids: torch.Tensor) -> float:
        """Take a step on a micro-batch of token ids, and return its duration in seconds."""
        start = perf_counter()
        self.words.zero_grad()
        self.words(ids).sum().backward()
        nn.utils.clip_grad_norm_(self.words.parameters(), 1.0)
        self._optimizer.step()
        return perf_counter() - start


def rows_read(config: str) -> tuple[np.ndarray, int]:
    """Return the token ids in a config's data, ascending, and the number of rows of the encoder's table."""
    keys = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    encoder = keys["model"]["encoder"]
    data = TransferData(**keys["data"], encoder=encoder, seed=keys["seed_everything"])
    data.setup("fit")
    num_rows = load_config(encoder).vocab_size
    ids = data.token_ids()
    return np.arange(num_rows) if ids is None else ids, num_rows


def main(run_config: str, widths: tuple[int, ...] = (384, 1024), tokens: int = 1024, steps: int = 9) -> None:
    """Print the rows, the memory and the time of the embeddings' part of a step.

    Args:
        run_config: Path of the config of a run.
        widths: Widths of the tables, such as 384 for e5-small and 1024 for XLM-R Large.
        tokens: Number of tokens in a step.
        steps: Number of timed steps of each table. Two untimed steps come before.
    """
    found, num_rows = rows_read(run_config)
    ids = torch.from_numpy(found)
    lines: list[tuple[str, ...]] = [
        ("width", "rows", "of", "memory MiB", "of", "ms per step", "of", "median ratio")
    ]
    for width in widths:
        tables = Table(num_rows, width, ids), Table(num_rows, width)
        seconds = []
        for i in range(steps + 2):
            batch = ids[torch.randint(len(ids), (1, tokens), generator=torch.Generator().manual_seed(i))]
            seconds.append([table.step(batch) for table in tables])
        ours, theirs = (median(column) for column in zip(*seconds[2:], strict=True))
        ratio = median(dense / own for own, dense in seconds[2:])
        memory = [f"{table.bytes / 2**20:,.0f}" for table in tables]
        times = f"{1000 * ours:.0f}", f"{1000 * theirs:.0f}"
        lines.append((f"{width:,}", f"{len(ids):,}", f"{num_rows:,}", *memory, *times, f"{ratio:.1f}"))
    print(aligned(lines))
    print(
        json.dumps(
            {"config": run_config, "rows": len(ids), "of": num_rows, "threads": torch.get_num_threads()}
        )
    )


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))

"""Rows and encoders of the benchmarks: real texts of mixed lengths as one classification task.

Three kinds of rows have a third each: MNLI pairs, Cosmos QA narratives with a question and an answer, and
SQuAD questions with their passages. All come from this repository's samples, and are repeated until there are
enough rows.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer, XLMRobertaConfig

from xlt import tasks
from xlt.data.features import Features
from xlt.datamodule import TransferData
from xlt.splits.reading import read_examples

REPOSITORY = Path(__file__).parents[1]
SAMPLES = REPOSITORY / "samples" / "open"
TOKENIZER = REPOSITORY / "encoders" / "mini"
MAX_LENGTH = 384
"""Maximum number of tokens in a sequence."""


@dataclass(frozen=True)
class Size:
    """Sizes of an encoder: layers, hidden width, attention heads and vocabulary."""

    layers: int
    width: int
    heads: int
    vocabulary: int = 16_384

    @property
    def config(self) -> XLMRobertaConfig:
        """Config of `transformers`, with XLM-R's dropout and special tokens."""
        return XLMRobertaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
        )

    @property
    def products(self) -> int:
        """Number of parameters in the matrix products that every token passes."""
        return 12 * self.layers * self.width**2


SIZES = {
    "4x256": Size(4, 256, 4),
    "12x384, 250k pieces": Size(12, 384, 12, 250_002),
    "12x768": Size(12, 768, 12),
    "24x1024, 250k pieces": Size(24, 1024, 16, 250_002),
}
"""Sizes by name, layers × width. 12 × 384 is multilingual-e5-small's size, 24 × 1,024 is XLM-R Large's.

At every size, the rows are encoded by the mini tokenizer. They use only a part of 250,002 pieces, as real
rows do.
"""


def texts(kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of texts without end, from each kind of rows in turn."""
    return (pair for some in zip(*map(itertools.cycle, map(_pairs, kinds)), strict=True) for pair in some)


def _pairs(name: str) -> list[tuple[str, str]]:
    """Return the text pairs of the sample rows of a task."""
    task = tasks.load(name)
    parts = [part for source in task.sources for part in source.open("train", [SAMPLES])]
    return [KINDS[name](example) for example in read_examples(task, parts)]


KINDS: dict[str, Any] = {
    "mnli": lambda e: (e.first, e.second),
    "cosmosqa": lambda e: (e.context, e.choices[0]),
    "squad_v1": lambda e: (e.question, e.context),
}
"""Tasks of the rows. Each maps to a function that returns the text pair of an example."""

MIXED = tuple(KINDS)


def write_rows(root: Path, num_rows: int, num_validation_rows: int, kinds: Sequence[str] = MIXED) -> None:
    """Write the rows that the task benchmarks/mixed.py reads.

    Labels are random, because they do not matter here.

    Args:
        root: Data root to write to.
        num_rows: Number of training rows.
        num_validation_rows: Number of validation rows.
        kinds: Kinds of rows, keys of KINDS, in turn.
    """
    folder = root / "xlt" / "mixed" / "default"
    folder.mkdir(parents=True)
    labels = np.random.default_rng(0).integers(0, 3, num_rows + num_validation_rows)
    rows = [
        {"first": a, "second": b, "label": int(label)}
        for (a, b), label in zip(texts(kinds), labels, strict=False)
    ]
    pq.write_table(pa.Table.from_pylist(rows[:num_rows]), folder / "train.parquet")
    pq.write_table(pa.Table.from_pylist(rows[num_rows:]), folder / "validation.parquet")


def write_encoder(folder: Path, size: Size, dropout: float = 0.1) -> Path:
    """Write the config and the tokenizer of an encoder without weights, and return the folder."""
    config = size.config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    return folder


def encode_rows(root: Path) -> tuple[Features, Features]:
    """Encode the rows as xlt prepares them, and return the features of training and of validation rows."""
    data = TransferData(
        ["benchmarks.mixed"],
        root=str(root / "rows"),
        cache=str(root / "cache"),
        max_length=MAX_LENGTH,
        encoder=str(write_encoder(root / "tokenizer", SIZES["4x256"])),
    )
    data.prepare_data()
    return data.encoded["mixed"]["train"].features, data.encoded["mixed"]["validation"].features

"""Measure the text that the paper reads: published numbers of examples, and mean tokens of real rows.

    python -m benchmarks.paper_sizes --data ROOT [--tokenizer FOLDER]

The command rewrites benchmarks/paper_sizes.json from the rows under ROOT. ROOT is a mirror of the hub as xlt
reads it: `<org>/<name>/<config>/<split>.parquet`, and the shared task's text files for BUCC's sentences. A
split without rows under ROOT keeps its stored figure. For each split, the file names the source of the number
of examples, the rows that were measured, and their number.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from jsonargparse import auto_cli

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Question, TaggedWords, TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification, SpanExtraction, Tagging
from xlt.kinds.task import Task

TABLE = Path(__file__).with_suffix(".json")
REPOSITORY = Path(__file__).parents[1]


class Split(NamedTuple):
    """Training or test data of a task in one language, or in another part of the split."""

    task: str
    split: str
    """Name of the split: train or test."""
    part: str
    """Language (ISO 639-1), or name of a part if the split has several."""
    examples: int
    """Published number of examples."""
    source: str
    """Key of the source in `Sizes.sources`."""
    rows: str
    """Measured rows: a file or a pattern of files in a data root, without the suffix of parquet files."""
    tokens: float | None
    """Mean number of tokens per example, with all sequences and special tokens. None if not measured."""
    num_rows: int
    """Number of measured examples."""


class Sizes(NamedTuple):
    """Table of the sizes of all splits, with the settings of the measurement."""

    tokenizer: str
    max_length: int
    """Maximum number of tokens in a sequence."""
    stride: int
    """Number of tokens that two neighbouring windows of a passage share."""
    sources: Mapping[str, str]
    """Description of each source of a number of examples, by key."""
    splits: tuple[Split, ...]

    def of(self, task: str, split: str) -> list[Split]:
        """Return the parts of a task's split. An unmeasured part gets the mean of the measured parts.

        Raises:
            ValueError: No part was measured.
        """
        parts = [found for found in self.splits if (found.task, found.split) == (task, split)]
        measured = [found.tokens for found in parts if found.tokens is not None]
        if not measured:
            raise ValueError(
                f"no rows of {task} {split} were measured: run python -m benchmarks.paper_sizes --data ROOT"
            )
        return [p if p.tokens is not None else p._replace(tokens=fmean(measured)) for p in parts]


def load(path: Path = TABLE) -> Sizes:
    """Return the stored table."""
    table = json.loads(path.read_text())
    return Sizes(**table | {"splits": tuple(Split(**split) for split in table["splits"])})


def save(sizes: Sizes, path: Path = TABLE) -> None:
    """Write the table, with one line per split."""
    head = json.dumps(sizes._asdict() | {"splits": []}, indent=1, ensure_ascii=False)
    lines = ",\n".join("  " + json.dumps(split._asdict()) for split in sizes.splits)
    path.write_text(head.removesuffix("[]\n}") + f"[\n{lines}\n ]\n}}\n")


def _pair(row: Row) -> TextPair:
    return TextPair(row["sentence1"], row["sentence2"], 0)


def _translation(row: Row) -> TextPair:
    # A pair has the special tokens of two single sentences.
    return TextPair(row["source_sentence"], row["target_sentence"], 0)


def _sentence(row: Row) -> TextPair:
    return TextPair(row["sentence"], None, 0)


def _words(row: Row) -> TaggedWords:
    return TaggedWords(tuple(row["tokens"]), ("",) * len(row["tokens"]))


def _question(row: Row) -> Question:
    return Question(row["question"], row["context"], (), ())


_HUB = Hub("google/xtreme")
XTREME: dict[str, Task[Any]] = {
    "xnli": Classification(source=_HUB, read=_pair, labels=("any",)),
    "pawsx": Classification(source=_HUB, read=_pair, labels=("any",)),
    "tatoeba": Classification(source=_HUB, read=_translation, labels=("any",)),
    "bucc2018": Classification(source=_HUB, read=_sentence, labels=("any",)),
    "udpos": Tagging(source=_HUB, read=_words),
    "panx": Tagging(source=_HUB, read=_words),
    "xquad": SpanExtraction(source=_HUB, read=_question),
    "mlqa": SpanExtraction(source=_HUB, read=_question),
    "tydiqa": SpanExtraction(source=_HUB, read=_question),
}
"""Tasks that turn the rows of the targets into sequences. Labels do not matter here."""


def measure(sizes: Sizes, roots: Sequence[Path], tokenizer: str) -> Sizes:
    """Return the table with new measurements of every split that has rows under a root.

    Args:
        sizes: The table. Splits without rows keep their figures.
        roots: Data roots. The first root that has the rows of a split is read.
        tokenizer: Tokenizer of the encoder: a folder or a name on the hub.

    Raises:
        ValueError: The tokenizer is not the table's, and the rows of a measured split are missing.
    """
    text = TextEncoder(load_tokenizer(str(_folder(tokenizer))), sizes.max_length, sizes.stride)
    splits = tuple(_measured(split, roots, text) for split in sizes.splits)
    if tokenizer != sizes.tokenizer:
        _refuse_mixed(sizes, roots, tokenizer)
    return sizes._replace(tokenizer=tokenizer, splits=splits)


def _folder(tokenizer: str) -> Path | str:
    """Return the tokenizer's folder in the repository if it exists, and otherwise the name as given."""
    return REPOSITORY / tokenizer if (REPOSITORY / tokenizer).is_dir() else tokenizer


def _refuse_mixed(sizes: Sizes, roots: Sequence[Path], tokenizer: str) -> None:
    """Raise ValueError if the table would mix the figures of two tokenizers."""
    missing = sorted({s.task for s in sizes.splits if s.tokens and not files_of(s.rows, roots)})
    if missing:
        raise ValueError(
            f"--tokenizer {tokenizer}: rows of {', '.join(missing)} are missing, and their stored figures "
            f"are those of {sizes.tokenizer}. Add a data root with these rows to --data"
        )


def _measured(split: Split, roots: Sequence[Path], text: TextEncoder) -> Split:
    """Return the split with a new mean number of tokens. A split without rows under a root is unchanged."""
    task = XTREME.get(split.task) or tasks.load(split.task)
    rows = (row for file in files_of(split.rows, roots) for row in _rows(file))
    examples = [task.read(row) for row in rows if row.get("language", split.part) == split.part]
    examples = [example for example in examples if task.is_labelled(example)]
    if not examples:
        return split
    return split._replace(tokens=round(mean_tokens(task, examples, text), 2), num_rows=len(examples))


def mean_tokens(task: Task[Any], examples: Sequence[Any], text: TextEncoder) -> float:
    """Return the mean number of tokens per example, with choices, windows and special tokens."""
    columns, _ = task.encode(examples, 0, text)
    return sum(map(len, columns["input_ids"])) / len(examples)


def files_of(rows: str, roots: Iterable[Path]) -> list[Path]:
    """Return the files of the rows in the first root that has any."""
    for root in roots:
        found = sorted(root.glob(f"{rows}.parquet")) or [root / rows][: (root / rows).is_file()]
        if found:
            return found
    return []


@lru_cache(maxsize=1)
def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a parquet file, or the sentences of a text file, which follow a tab in each line."""
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    return [{"sentence": line.partition("\t")[2]} for line in file.read_text("utf-8").split("\n") if line]


def measure_all(data: list[Path], tokenizer: str = "encoders/mini") -> None:
    """Measure all splits that have rows, and write the table.

    Args:
        data: Data roots. The first root that has the rows of a split is read.
        tokenizer: Tokenizer of the encoder: a folder or a name on the hub.
    """
    save(measure(load(), data, tokenizer))


if __name__ == "__main__":
    auto_cli(measure_all, as_positional=False)

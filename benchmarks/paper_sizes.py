"""How much text the paper reads: published numbers of examples, and mean tokens measured on real rows.

    python -m benchmarks.paper_sizes --data ROOT [--tokenizer FOLDER]

rewrites benchmarks/paper_sizes.json from the rows under ROOT, a mirror of the hub as xlt reads it
(`<org>/<name>/<config>/<split>.parquet`; BUCC's sentences as the shared task's text files). A split whose
rows are not there keeps its figure. The file says of each split where its number of examples comes from,
on which rows its tokens were measured, and on how many.
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
    """What is trained on or tested on in one language, or one part of it."""

    task: str
    split: str
    """train or test."""
    part: str
    """Language (ISO 639-1), or the name of a part of several."""
    examples: int
    """Published number."""
    source: str
    """Key of the table's sources."""
    rows: str
    """Where measured: file or files in a data root, without the suffix."""
    tokens: float | None
    """Mean of an example, all its sequences and special tokens included; None where not measured."""
    num_rows: int
    """Examples measured."""


class Sizes(NamedTuple):
    """The whole table."""

    tokenizer: str
    max_length: int
    """Most tokens in a sequence."""
    stride: int
    """Tokens by which the windows of a passage overlap."""
    sources: Mapping[str, str]
    splits: tuple[Split, ...]

    def of(self, task: str, split: str) -> list[Split]:
        """The task's parts; one that was not measured has the mean of those that were."""
        parts = [found for found in self.splits if (found.task, found.split) == (task, split)]
        measured = [found.tokens for found in parts if found.tokens is not None]
        if not measured:
            raise ValueError(
                f"no rows of {task} {split} were measured: run benchmarks.paper_sizes --data ROOT"
            )
        return [p if p.tokens is not None else p._replace(tokens=fmean(measured)) for p in parts]


def load(path: Path = TABLE) -> Sizes:
    """The table as stored."""
    table = json.loads(path.read_text())
    return Sizes(**table | {"splits": tuple(Split(**split) for split in table["splits"])})


def save(sizes: Sizes, path: Path = TABLE) -> None:
    """Store the table, a line a split."""
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
"""How the rows of the targets become sequences; labels do not matter here."""


def measure(sizes: Sizes, roots: Sequence[Path], tokenizer: str) -> Sizes:
    """The table with the tokens of every split whose rows lie under a root.

    Raises:
        ValueError: Another tokenizer than the table's, and some measured split's rows are not there.
    """
    text = TextEncoder(load_tokenizer(str(_folder(tokenizer))), sizes.max_length, sizes.stride)
    splits = tuple(_measured(split, roots, text) for split in sizes.splits)
    if tokenizer != sizes.tokenizer:
        _refuse_mixed(sizes, roots, tokenizer)
    return sizes._replace(tokenizer=tokenizer, splits=splits)


def _folder(tokenizer: str) -> Path | str:
    """The tokenizer's folder in the repository, where it is one."""
    return REPOSITORY / tokenizer if (REPOSITORY / tokenizer).is_dir() else tokenizer


def _refuse_mixed(sizes: Sizes, roots: Sequence[Path], tokenizer: str) -> None:
    """Raise where figures of two tokenizers would stand in one table."""
    missing = sorted({s.task for s in sizes.splits if s.tokens and not files_of(s.rows, roots)})
    if missing:
        raise ValueError(
            f"--tokenizer {tokenizer}: the rows of {', '.join(missing)} are not all there to be measured "
            f"with it, and their stored figures are those of {sizes.tokenizer}. Give --data a root with them"
        )


def _measured(split: Split, roots: Sequence[Path], text: TextEncoder) -> Split:
    """The split with its mean tokens, unchanged where its rows are not there."""
    task = XTREME.get(split.task) or tasks.load(split.task)
    rows = (row for file in files_of(split.rows, roots) for row in _rows(file))
    examples = [task.read(row) for row in rows if row.get("language", split.part) == split.part]
    examples = [example for example in examples if task.is_labelled(example)]
    if not examples:
        return split
    return split._replace(tokens=round(mean_tokens(task, examples, text), 2), num_rows=len(examples))


def mean_tokens(task: Task[Any], examples: Sequence[Any], text: TextEncoder) -> float:
    """Tokens of an example: choices, windows and special tokens included."""
    columns, _ = task.encode(examples, 0, text)
    return sum(map(len, columns["input_ids"])) / len(examples)


def files_of(rows: str, roots: Iterable[Path]) -> list[Path]:
    """The files in the first root that has any."""
    for root in roots:
        found = sorted(root.glob(f"{rows}.parquet")) or [root / rows][: (root / rows).is_file()]
        if found:
            return found
    return []


@lru_cache(maxsize=1)
def _rows(file: Path) -> list[dict[str, Any]]:
    """A parquet file's rows, or a text file's sentences, which stand after a tab."""
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    return [{"sentence": line.partition("\t")[2]} for line in file.read_text("utf-8").split("\n") if line]


def measure_all(data: list[Path], tokenizer: str = "encoders/mini") -> None:
    """Measure again and store.

    Args:
        data: Data roots, the first that holds a split's rows taken.
        tokenizer: A folder or a name on the hub.
    """
    save(measure(load(), data, tokenizer))


if __name__ == "__main__":
    auto_cli(measure_all, as_positional=False)

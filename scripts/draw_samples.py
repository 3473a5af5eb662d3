"""Draw the rows of `samples/` from a larger data root of the same layout.

    python scripts/draw_samples.py --source MIRROR --seed 0

Each split is shuffled with its own seed and cut. A smaller sample is a prefix of a larger sample. The SQuAD
splits are shuffled by paragraph and keep all questions of a paragraph together, because a context is stored
once. The column types and label names of the source files are kept. The command prints a table of rows and
bytes, which the README files also show.
"""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from jsonargparse import auto_cli

OPEN_TREEBANKS = (
    *("Afrikaans", "Chinese", "Dutch", "Finnish", "German", "Indonesian", "Japanese", "Korean"),
    *("Marathi", "Persian", "Portuguese", "Telugu", "Vietnamese"),
)
"""Languages of UDPOS whose treebanks in UD 2.5 are all CC BY-SA or CC BY."""

RESTRICTED_TREEBANKS = (
    *("Arabic", "Basque", "Bulgarian", "Estonian", "French", "Greek", "Hindi", "Hungarian", "Italian"),
    *("Russian", "Spanish", "Tamil", "Turkish", "Urdu"),
)
"""Languages of UDPOS with a treebank that is for non-commercial use only, or under another licence."""

ENGLISH = "google/xtreme/udpos.English"
ENGLISH_WEB = {"train": (0, 11_000), "validation": (11_000, 1_543)}
"""Training rows of the source that each English split is drawn from: first row and number of rows.

The first 12,543 training rows are from the English Web Treebank (CC BY-SA 4.0). The others have other terms.
"""

ROWS = {
    "open/nyu-mll/glue/mnli": {"train": 2_000, "validation_matched": 400},
    "open/stanfordnlp/snli/plain_text": {"train": 2_000, "validation": 400},
    "open/facebook/anli/plain_text": {
        **{"train_r1": 600, "train_r2": 600, "train_r3": 600},
        **{"dev_r1": 130, "dev_r2": 130, "dev_r3": 130},
    },
    "open/rajpurkar/squad/plain_text": {"train": 2_000, "validation": 400},
    "open/rajpurkar/squad_v2/squad_v2": {"train": 2_000, "validation": 400},
    "open/Rowan/hellaswag/default": {"train": 1_800, "validation": 350},
    "open/allenai/cosmos_qa/default": {"train": 1_800, "validation": 350},
    "open/tau/commonsense_qa/default": {"train": 2_000, "validation": 400},
    "open/google/xtreme/udpos.English": {"train": 1_500, "validation": 60},
    **{f"open/google/xtreme/udpos.{name}": {"validation": 60} for name in OPEN_TREEBANKS},
    **{f"restricted/google/xtreme/udpos.{name}": {"validation": 60} for name in RESTRICTED_TREEBANKS},
    "restricted/nyu-mll/glue/qqp": {"train": 150, "validation": 50},
    "restricted/ccg/default": {"train": 150, "validation": 50},
}
"""Number of rows of each split, by folder under `samples/`."""

BY_PARAGRAPH = ("rajpurkar/squad/plain_text", "rajpurkar/squad_v2/squad_v2")
"""Data sets whose rows are shuffled by paragraph."""

ZSTD_LEVEL = 19


def draw_samples(source: Path, out: Path = Path("samples"), seed: int = 0) -> None:
    """Write all samples under `out`, and print a table of their sizes.

    Args:
        source: Data root with `<org>/<name>/<config>/<split>.parquet`.
        out: Folder of `open/` and `restricted/`. Files of the same names are replaced.
        seed: Seed of the order of the rows.
    """
    total = 0
    print("| file | rows | of | bytes |\n|---|---:|---:|---:|")
    for folder, splits in ROWS.items():
        name = folder.partition("/")[2]
        for split, num_rows in splits.items():
            if name == ENGLISH:
                table = read(source / name / "train.parquet").slice(*ENGLISH_WEB[split])
            else:
                table = read(source / name / f"{split}.parquet")
            sample = draw(table, num_rows, f"{seed} {name} {split}", name in BY_PARAGRAPH)
            size = write(sample, out / folder / f"{split}.parquet")
            numbers = f"{sample.num_rows:,} | {table.num_rows:,} | {size:,}"
            print(f"| {folder}/{split}.parquet | {numbers} |")
            total += size
    print(f"\n{total:,} bytes in all")


def read(path: Path) -> pa.Table:
    """Return the table of a split, with the metadata that describes its features.

    Raises:
        FileNotFoundError: The data root lacks the split.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: --source must be a folder with <org>/<name>/<config>/<split>.parquet"
        )
    return pq.read_table(path)


def draw(table: pa.Table, num_rows: int, seed: str, by_paragraph: bool) -> pa.Table:
    """Return the first rows of a table in a seeded order.

    Args:
        table: Table of a split.
        num_rows: Number of rows. With `by_paragraph`, the last paragraph may add more.
        seed: Seed of the order.
        by_paragraph: True to shuffle whole paragraphs instead of rows.
    """
    keys = table["context"].to_pylist() if by_paragraph else range(table.num_rows)
    groups: dict[object, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    chosen: list[int] = []
    for rows in order:
        if len(chosen) >= num_rows:
            break
        chosen.extend(rows)
    return table.take(pa.array(chosen))


def write(table: pa.Table, path: Path) -> int:
    """Write the parquet file of a split, and return its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", compression_level=ZSTD_LEVEL)
    return path.stat().st_size


if __name__ == "__main__":
    auto_cli(draw_samples, as_positional=False)

"""Convert the few-shot rows of IGLUE's XVNLI to the training rows of a data root.

    python -m scripts.iglue_few_shot iglue/datasets/XVNLI/annotations ar 5 OUT

The command reads `ar/train_5.jsonl` of https://github.com/e-bug/iglue and writes OUT/xvnli_train.parquet. The
number 5 counts images. A run finds the photos by their Flickr30K number, in the column `image_id` of
`flickr/train.parquet` in any of its data roots.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = {
    "pair_id": "pairID",
    "image_id": "Flikr30kID",
    "premise": "sentence1",
    "hypothesis": "sentence2",
    "label": "gold_label",
}
"""Columns of xvnli_train.parquet, with IGLUE's names. IGLUE spells `Flikr30kID` without a c."""


def read(path: Path, language: str) -> list[dict[str, Any]]:
    """Return the rows of a file of IGLUE as rows of xvnli_train.parquet.

    Raises:
        ValueError: A row lacks a column.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = json.loads(line)
        lacking = sorted(set(COLUMNS.values()) - set(row))
        if lacking:
            raise ValueError(f"{path}, line {number} lacks {', '.join(lacking)}; it has {', '.join(row)}")
        rows.append({ours: row[theirs] for ours, theirs in COLUMNS.items()} | {"language": language})
    return rows


def convert(annotations: Path, language: str, num_images: str, out: Path) -> Path:
    """Write the rows of a language, and return the path of the file.

    Args:
        annotations: IGLUE's folder, with a folder for each language.
        language: ISO 639-1 code.
        num_images: Number of images: 1, 5, 10, 20, 25 or 48.
        out: Data root to write to. An existing xvnli_train.parquet is replaced.

    Raises:
        OSError: The file cannot be read.
        ValueError: A row lacks a column.
    """
    rows = read(annotations / language / f"train_{num_images}.jsonl", language)
    path = out / "xvnli_train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python -m scripts.iglue_few_shot ANNOTATIONS LANGUAGE IMAGES OUT")
    try:
        print(f"wrote {convert(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))}")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")

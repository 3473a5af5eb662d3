"""Write PAWS-X with training rows: `python -m scripts.pawsx --mirror MIRROR --out runs/pawsx-root`.

The mirror has no training rows. Its English dev set is split: 1,600 rows for training, 200 rows for
validation and 200 rows for testing. The German and Chinese test sets of the mirror share no row with them.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jsonargparse import auto_cli


def write_root(mirror: Path, out: Path = Path("runs/pawsx-root")) -> Path:
    """Write PAWS-X with training rows, and return its data root. Existing files are kept.

    Args:
        mirror: Data root with google/xtreme/PAWS-X.en.
        out: Data root to write.
    """
    rows = pq.read_table(mirror / "google/xtreme/PAWS-X.en/validation.parquet")
    order = np.random.default_rng(0).permutation(rows.num_rows)
    folder = out / "google" / "xtreme" / "PAWS-X.en"
    folder.mkdir(parents=True, exist_ok=True)
    for split, first, last in (("train", 0, 1600), ("validation", 1600, 1800), ("test", 1800, 2000)):
        path = folder / f"{split}.parquet"
        if not path.is_file():
            pq.write_table(rows.take(np.sort(order[first:last])), path)
    return out


if __name__ == "__main__":
    print(auto_cli(write_root, as_positional=False))

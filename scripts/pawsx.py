"""PAWS-X with training rows: `python -m scripts.pawsx --mirror MIRROR --out runs/pawsx-root`.

The mirror has none: 1,600 rows of its English development set take their place, 200 others validate, the last
200 are tested with the German and Chinese test sets, which share no row with them.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def write_root(mirror: Path, root: Path) -> Path:
    """Write what is not there yet; the root.

    Args:
        mirror: Has google/xtreme/PAWS-X.en.
        root: The root to write.
    """
    rows = pq.read_table(mirror / "google/xtreme/PAWS-X.en/validation.parquet")
    order = np.random.default_rng(0).permutation(rows.num_rows)
    folder = root / "google" / "xtreme" / "PAWS-X.en"
    folder.mkdir(parents=True, exist_ok=True)
    for split, first, last in (("train", 0, 1600), ("validation", 1600, 1800), ("test", 1800, 2000)):
        path = folder / f"{split}.parquet"
        if not path.is_file():
            pq.write_table(rows.take(np.sort(order[first:last])), path)
    return root


def main() -> None:
    """Read the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mirror", type=Path, required=True, help="Data root with google/xtreme/PAWS-X.en. Required."
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/pawsx-root"),
        help="Folder to write. Defaults to runs/pawsx-root.",
    )
    arguments = parser.parse_args()
    print(write_root(arguments.mirror, arguments.out))


if __name__ == "__main__":
    main()

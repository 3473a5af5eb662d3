"""Print mean and spread of the scores of several evaluations, such as draws of a few training examples.

    python -m scripts.draws runs/few-shot/scores-de-*

The command prints a line for each task, language, metric and perturbation: number of evaluations, mean,
sample standard deviation, lowest and highest score. Scores are in percent.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from xlt.system.tables import aligned

CELL = ("task", "language", "metric", "perturbation")
"""Columns of results.csv that identify a score."""

MEASURES = ("evaluations", "mean", "sd", "lowest", "highest")
"""Further columns of the printed table."""


def scores_of(folders: Sequence[Path]) -> dict[tuple[str, ...], list[float]]:
    """Return the scores of the evaluations in percent, by task, language, metric and perturbation.

    Raises:
        FileNotFoundError: A folder is not that of a finished evaluation.
    """
    found: dict[tuple[str, ...], list[float]] = {}
    for folder in folders:
        path = folder / "results.csv"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: name the folders (--out) of finished evaluations"
            )
        with path.open(encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines):
                found.setdefault(tuple(line[name] for name in CELL), []).append(float(line["score"]))
    return found


def table(folders: Sequence[Path]) -> str:
    """Return a table with a line for each score: its mean and its spread over the evaluations.

    Raises:
        FileNotFoundError: A folder is not that of a finished evaluation.
        ValueError: There are fewer than two folders. One evaluation has no spread.
    """
    if len(folders) < 2:
        raise ValueError(f"give the folders (--out) of at least two evaluations, not {len(folders)}")
    lines = [[*CELL, *MEASURES]]
    for cell, scores in scores_of(folders).items():
        spread = f"{stdev(scores):.1f}" if len(scores) > 1 else "–"
        figures = [f"{value:.1f}" for value in (mean(scores), min(scores), max(scores))]
        lines.append([*cell, str(len(scores)), figures[0], spread, *figures[1:]])
    return aligned(lines, num_left=len(CELL))


if __name__ == "__main__":
    try:
        print(table([Path(folder) for folder in sys.argv[1:]]))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")

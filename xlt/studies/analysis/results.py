"""What came out of a study: its scores, its runs, and what is missing; and how its table of scores is read.

A table of scores is a CSV file with a line a score, of the columns `COLUMNS`.
"""

# pandas says what it returns too widely.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

KEY = ["intermediate", "volume", "seed", "target_seed", "target", "language", "perturbation"]
"""Columns that tell a score from the others."""

COLUMNS = [*KEY, "score", "rows", "split", "example_scores", "run"]
"""Of the table of scores."""

RUN_COLUMNS = [
    *("phase", "name", "folder", "intermediate", "volume", "seed", "target", "tokens", "hours", "wandb"),
    "config",
]
"""Of the table of runs."""

NUMBERS = {"volume": int, "seed": int, "target_seed": int, "rows": int, "score": float}
"""Columns that are no text."""

STUDIES = Path("runs/study/studies")
"""Where a study is that is given by its name alone."""

SCORES = "scores.csv"


@dataclass(frozen=True)
class StudyResults:
    """All that the report of a study shows.

    Args:
        name: The study's name.
        scores: A line a score, in percent: `COLUMNS`.
        checkpoints: The same of other checkpoints, on both splits, with a column `checkpoint` (step); empty
            where none were tested.
        missing: What is missing, the reason, and the path of the log or an empty text.
        runs: A line a finished run: `RUN_COLUMNS`; `wandb` is a URL or empty, `config` YAML.
        about: What else to say: encoder, date, versions, device, command; `words` are sentences on what the
            study can and cannot say.
        folder: What the paths in the scores' column `example_scores` are relative to; None where there are
            none.
    """

    name: str
    scores: pd.DataFrame
    checkpoints: pd.DataFrame = field(default_factory=pd.DataFrame)
    missing: Sequence[tuple[str, str, str]] = ()
    runs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=pd.Index(RUN_COLUMNS)))
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None


def read_scores(path: Path) -> pd.DataFrame:
    """The table of scores of a file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no table of scores, or holds none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}, the scores of a study, is not there: python -m xlt.study writes it")
    try:
        # "nan" and the like are text here: no cell of this table stands for nothing.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is no table of scores ({error})") from error
    return checked(table, str(path))


def checked(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table of scores with its columns in order and of their types.

    Args:
        table: The table.
        name: What to call it in an error.

    Raises:
        ValueError: It lacks columns, holds no scores, a cell that is no number, or two scores of one cell.
    """
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise ValueError(f"{name} has no column {', '.join(lacking)}: it must have {', '.join(COLUMNS)}")
    if table.empty:
        raise ValueError(f"{name} holds no scores: none of the study's evaluations has ended yet")
    table = table[COLUMNS].reset_index(drop=True)
    for column, kind in NUMBERS.items():
        table[column] = _numbers(table[column], kind, name)
    twice = table.duplicated(KEY)
    if twice.any():
        first = table.loc[twice.idxmax(), KEY].to_dict()
        raise ValueError(f"{name} has two scores of {first}: keep one")
    return table


def _numbers(values: pd.Series, kind: type, name: str) -> pd.Series:
    """A column as numbers."""
    numbers = pd.to_numeric(values, errors="coerce")
    bad = numbers.isna() | (numbers.round() != numbers if kind is int else False)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise ValueError(f"{name}, row {row}: {values.name} is {values.iloc[row]!r}, and must be a number")
    return numbers.astype(kind)


def find_study(name: str) -> Path:
    """The folder of a study, from its name or its path.

    Raises:
        FileNotFoundError: There is none.
    """
    for folder in (Path(name), STUDIES / name):
        if folder.is_dir():
            return folder
    there = sorted(path.name for path in STUDIES.glob("*") if path.is_dir())
    known = f"there are: {', '.join(there)}" if there else f"{STUDIES} has none"
    raise FileNotFoundError(f"there is no study {name!r}, neither a folder nor a name ({known})")


def find_scores(folder: Path) -> Path:
    """The table of scores in a study's folder, or in its report.

    Raises:
        FileNotFoundError: There is none.
    """
    for path in (folder / "report" / SCORES, folder / SCORES):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder} has no {SCORES}, nor has its report: python -m xlt.study writes it when it has run"
    )

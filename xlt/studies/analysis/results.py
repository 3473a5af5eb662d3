"""The results of a study: its scores, its runs and what is missing.

A table of scores is a CSV file with one line for each score and the columns `COLUMNS`.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportReturnType=false

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from xlt.metrics.collapse import COLLAPSED, UNKNOWN, VERDICTS
from xlt.studies.design.limits import MARGIN

KEY = ["intermediate", "volume", "seed", "target_seed", "target", "language", "perturbation"]
"""Columns that identify a score."""

COLUMNS = [*KEY, "score", "rows", "split", "example_scores", "run", COLLAPSED]
"""Columns of the table of scores. Tables of earlier versions may lack `collapsed`, which is then unknown."""

RUN_COLUMNS = [
    *("phase", "name", "folder", "intermediate", "volume", "seed", "target", "tokens", "hours", "wandb"),
    *("dev_score", "dev_chance", "precision", "config"),
]
"""Columns of the table of runs. Evaluations have no dev score, and training has no precision of scores."""

NUMBERS = {"volume": int, "seed": int, "target_seed": int, "rows": int, "score": float}
"""Columns that are not text, with their types."""

STUDIES = Path("runs/study/studies")
"""Folder in which a study is searched for by its name."""

SCORES = "scores.csv"


@dataclass(frozen=True)
class StudyResults:
    """All results that the report of a study shows.

    Args:
        name: Name of the study.
        scores: One line for each score, in percent, with the columns `COLUMNS`.
        checkpoints: Scores of intermediate checkpoints on both splits, with the additional column
            `checkpoint` (step). Empty if none were tested.
        missing: Name, reason, and path of the log (or an empty text) of everything that is missing.
        runs: One line for each finished run, with the columns `RUN_COLUMNS`. `wandb` is a URL or empty,
            `config` is YAML.
        about: Further facts: encoder, date, versions, device, command. `words` holds sentences on what the
            study can and cannot show.
        without_english: Targets whose means over languages leave English out.
        with_images: Targets with images, on which claims about text are not judged.
        consistency: Percentage of the examples that are answered as in English, with the columns of `KEY`
            without the perturbation, and `percent`. May be empty.
        margin: Margin of equivalence in points. Defaults to 2.
        recipes: Scores of all recipes, with the columns of `recipe_scores`. Empty if there is one recipe.
        folder: Folder that the paths in the column `example_scores` are relative to; None if there are none.
    """

    name: str
    scores: pd.DataFrame
    checkpoints: pd.DataFrame = field(default_factory=pd.DataFrame)
    missing: Sequence[tuple[str, str, str]] = ()
    runs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=pd.Index(RUN_COLUMNS)))
    about: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    without_english: frozenset[str] = frozenset()
    with_images: frozenset[str] = frozenset()
    consistency: pd.DataFrame = field(default_factory=pd.DataFrame)
    margin: float = MARGIN
    recipes: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_scores(path: Path) -> pd.DataFrame:
    """Read a table of scores.

    Args:
        path: Path of the CSV file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a table of scores, or has no scores.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}, the scores of a study, does not exist: xlt study writes it")
    try:
        # Text such as "nan" stays text: no cell of this table is a missing value.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a table of scores: {error}") from error
    return check_scores(table, str(path))


def check_scores(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table of scores with its columns in order and of the right types.

    Args:
        table: The table.
        name: Name of the table in error messages.

    Raises:
        ValueError: The table lacks columns or scores, a cell has a value that it cannot have, or a score
            appears twice.
    """
    if COLLAPSED not in table:
        table = table.assign(**{COLLAPSED: UNKNOWN})
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise ValueError(
            f"{name} has no column {', '.join(absent)}: it must have the columns {', '.join(COLUMNS)}"
        )
    if table.empty:
        raise ValueError(f"{name} holds no scores: wait until one of the study's evaluations is finished")
    table = table[COLUMNS].reset_index(drop=True)
    for column, kind in NUMBERS.items():
        table[column] = _numbers(table[column], kind, name)
    _check_verdicts(table[COLLAPSED], name)
    twice = table.duplicated(KEY)
    if twice.any():
        first = table.loc[twice.idxmax(), KEY].to_dict()
        raise ValueError(f"{name} has two scores of {first}: delete one of them")
    return table


def _check_verdicts(values: pd.Series, name: str) -> None:
    """Raise ValueError for a value that is no verdict on a collapse."""
    bad = ~values.isin(VERDICTS)
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise ValueError(
            f"{name}, row {row}: {COLLAPSED} is {values.iloc[row]!r}: it must be {', '.join(VERDICTS)}. "
            "Correct the cell, or delete the column"
        )


def _numbers(values: pd.Series, kind: type, name: str) -> pd.Series:
    """Return a column as numbers."""
    numbers = pd.to_numeric(values, errors="coerce")
    bad = numbers.isna() | (numbers.round() != numbers if kind is int else False)
    if bad.any():
        rule = "a whole number" if kind is int else "a number"
        row = int(bad.to_numpy().argmax())
        raise ValueError(f"{name}, row {row}: {values.name} is {values.iloc[row]!r}: it must be {rule}")
    return numbers.astype(kind)


def find_study(name: str) -> Path:
    """Return the folder of a study.

    Args:
        name: Name of the study, or its folder.

    Raises:
        FileNotFoundError: There is no such study.
    """
    for folder in (Path(name), STUDIES / name):
        if folder.is_dir():
            return folder
    there = sorted(path.name for path in STUDIES.glob("*") if path.is_dir())
    known = f"has the studies {', '.join(there)}" if there else "has no study"
    raise FileNotFoundError(f"there is no study {name!r}: give a folder or a name; {STUDIES} {known}")


def find_scores(folder: Path) -> Path:
    """Return the path of the table of scores in a study's folder or in its report.

    Raises:
        FileNotFoundError: There is no table of scores.
    """
    for path in (folder / "report" / SCORES, folder / SCORES):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder} has no {SCORES}, nor has its folder report: run xlt study, which writes it"
    )

"""The written report of a study, read back: its tables, and the facts that `study.json` holds."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xlt.studies.analysis.collapsed import RUN, judged_runs
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import find_study

FACTS = "study.json"
"""File name of the facts of a report that no table holds."""

TABLES = {
    "claims": ["name", "claim", "verdict", "estimate", "low", "high"],
    "effects_by_volume": ["intermediate", "volume", "mean", "low", "high", "complete", "target"],
}
"""Tables that each report has, with the columns that are read."""

FURTHER_TABLES = {
    "verdicts": ["target", "intermediate", "volume", "effect", "low", "high", "verdict", "margin"],
    "volume_verdicts": [
        *("target", "intermediate", "smallest", "volume", "effect", "low", "high", "verdict", "margin")
    ],
    "curves": ["intermediate", "target", "language", "best"],
    "robustness": ["measure", "target", "intermediate", "volume", "mean", "low", "high"],
    "recipe_ranges": ["encoder", "target", "intermediate", "volume", "recipes", "positive", "range"],
}
"""Tables that a report may lack, with the columns that are read."""


@dataclass(frozen=True)
class WrittenStudy:
    """A report that was read.

    Args:
        name: Name of the study.
        page: Path of the report's page.
        facts: Content of `study.json`; empty if an earlier version of xlt wrote the report.
        tables: Tables by the names of their files; a table that the report lacks is empty.
    """

    name: str
    page: Path
    facts: dict[str, Any]
    tables: dict[str, pd.DataFrame]


def facts_of(findings: Findings, answer: list[str]) -> dict[str, Any]:
    """Return the facts of a report that no table holds.

    Args:
        findings: Findings of the study.
        answer: Sentences of the report's answer.
    """
    study, runs = findings.study, findings.study.runs
    hours = pd.to_numeric(runs["hours"])
    about = {key: study.about.get(key) for key in ("encoder", "date", "device") if key in study.about}
    return about | {
        "name": study.name,
        "answer": answer,
        "runs": {str(phase): int(count) for phase, count in runs["phase"].value_counts(sort=False).items()},
        "tokens": int(pd.to_numeric(runs["tokens"]).sum()),
        "hours": float(hours.sum()),
        "runs_without_hours": int(hours.isna().sum()),
        "collapsed": len(findings.collapsed),
        "judged": len(judged_runs(findings.clean)),
        "tested": len(findings.clean.drop_duplicates(RUN)),
        "seeds": len(findings.seeds),
        "missing": len(study.missing),
    }


def read_report(name: str) -> WrittenStudy:
    """Read the report of a study, which may be unfinished.

    Args:
        name: Name of the study, its folder, or the folder of its report.

    Raises:
        FileNotFoundError: There is no such study, or it has no report.
        ValueError: A table cannot be read or lacks a column.
    """
    folder = find_study(name)
    places = [place for place in (folder / "report", folder) if (place / "claims.csv").is_file()]
    if not places:
        raise FileNotFoundError(
            f"{folder} has no claims.csv, nor has its folder report: run xlt study with its config and "
            "--report_only true, which writes the report of the finished runs"
        )
    place, path = places[0], places[0] / FACTS
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    tables = {key: _read(place / f"{key}.csv", columns, True) for key, columns in TABLES.items()}
    tables |= {key: _read(place / f"{key}.csv", columns, False) for key, columns in FURTHER_TABLES.items()}
    return WrittenStudy(str(facts.get("name") or folder.resolve().name), place / "index.html", facts, tables)


def _read(path: Path, columns: list[str], is_required: bool) -> pd.DataFrame:
    """Return a table of a report; an empty table if the report may lack it and does."""
    if not path.is_file():
        if is_required:
            raise FileNotFoundError(
                f"{path}, a table of a study's report, does not exist: xlt study writes it"
            )
        return pd.DataFrame(columns=pd.Index(columns))
    try:
        table = pd.read_csv(path, encoding="utf-8", keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:  # a table without columns: the study has no such numbers
        return pd.DataFrame(columns=pd.Index(columns))
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a table of a study's report: {error}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        if table.empty:
            return pd.DataFrame(columns=pd.Index(columns))
        raise ValueError(
            f"{path} lacks the columns {', '.join(missing)}: run xlt study with --report_only true, which "
            "writes the table again"
        )
    return table

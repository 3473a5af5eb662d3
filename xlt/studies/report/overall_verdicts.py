"""The table of verdicts over several studies: claims of the paper and questions of the studies."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false, reportGeneralTypeIssues=false

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from xlt.studies.analysis import names
from xlt.studies.analysis.equivalence import UNDECIDED
from xlt.studies.analysis.points import at_common_volume
from xlt.studies.analysis.written_study import WrittenStudy
from xlt.studies.report import tables
from xlt.system.tables import number

NOT_RUN = "not run"


class Cell(NamedTuple):
    """A study's verdict on a claim or a question.

    Args:
        verdict: Verdict in words; empty if there are only figures.
        kind: Verdict as a class of the style sheet: supported, contradicted, equivalent, undecided, not-run.
        figures: Estimate with its interval, or further figures; may be empty.
    """

    verdict: str
    kind: str
    figures: str = ""

    def __str__(self) -> str:
        """Return verdict and figures as one text."""
        return " ".join(filter(None, (self.verdict, self.figures)))


class Row(NamedTuple):
    """A claim or a question, with a cell for each study."""

    text: str
    cells: list[Cell]


MISSING = Cell(NOT_RUN, "not-run")

KINDS = {"gain": "supported", "loss": "contradicted"}
"""Class of the style sheet by verdict on an effect, if the class has another name."""


def claim_rows(studies: Sequence[WrittenStudy]) -> Iterator[Row]:
    """Yield a row for each claim of Phang et al. (2020) that a report names.

    Args:
        studies: The studies.
    """
    found = pd.concat([study.tables["claims"] for study in studies], ignore_index=True)
    for name, text in found.drop_duplicates("name")[["name", "claim"]].itertuples(index=False):
        yield Row(str(text), [_claim(study.tables["claims"], name) for study in studies])


def _claim(claims: pd.DataFrame, name: str) -> Cell:
    """Return a study's verdict on a claim."""
    own = claims[claims["name"] == name]
    if own.empty or own.iloc[0]["verdict"] == NOT_RUN:
        return MISSING
    return _cell(own.iloc[0].rename({"estimate": "mean"}))


def _cell(line: pd.Series) -> Cell:
    """Return a verdict with its estimate; columns verdict, mean, low, high, and margin if equivalent."""
    verdict = str(line["verdict"])
    words = f"no effect above {line['margin']:g} points" if verdict == "equivalent" else verdict
    kind = KINDS.get(verdict, verdict.replace(" ", "-"))
    return Cell(words, kind, "" if pd.isna(line["mean"]) else tables.interval(line, "+"))


def question_rows(studies: Sequence[WrittenStudy]) -> Iterator[Row]:
    """Yield a row for the effect of each arm, for the curves over the volume, and for the recipes.

    Args:
        studies: The studies.
    """
    arms = [arm for study in studies for arm in study.tables["effects_by_volume"]["intermediate"]]
    for arm in names.sort_arms(arms):
        text = f"Effect of {names.task_name(arm)} on the mean of all targets, points"
        yield Row(text, [_effect(study, arm) for study in studies])
    more = [arm for study in studies for arm in study.tables["volume_verdicts"]["intermediate"]]
    for arm in names.sort_arms(more):
        text = f"Change by more examples of {names.task_name(arm)}, points"
        yield Row(text, [_more_examples(study, arm) for study in studies])
    for text, cells in (
        ("Decided effects on single targets, points", [_decided(study) for study in studies]),
        ("Best curve over the volume (AICc)", [_curve(study) for study in studies]),
        ("Effects by recipe", [_recipes(study) for study in studies]),
    ):
        if any(cell != MISSING for cell in cells):
            yield Row(text, cells)


def _effect(study: WrittenStudy, arm: str) -> Cell:
    """Return the effect of an arm at the largest volume that all arms of the study have."""
    points = study.tables["effects_by_volume"]
    own = at_common_volume(points[points["target"] == "all"])
    own = own[own["intermediate"] == arm]
    if own.empty:
        return MISSING
    point, judged = own.iloc[0], _of_all_targets(study.tables["verdicts"], arm)
    judged = judged[judged["volume"] == point["volume"]]
    cell = _cell(judged.iloc[0].rename({"effect": "mean"})) if len(judged) else None
    cell = cell or Cell("", "", tables.interval(point, "+"))
    return cell._replace(figures=f"{cell.figures} at {point['volume']:,}")


def _decided(study: WrittenStudy) -> Cell:
    """Return the effects on single targets with another verdict than undecided."""
    verdicts = study.tables["verdicts"]
    single = verdicts[verdicts["target"] != "all"]
    if single.empty:
        return MISSING
    parts = [
        f"{tables.place(line)}: {_cell(line.rename({'effect': 'mean'}))}"
        for _, line in single[single["verdict"] != UNDECIDED].iterrows()
    ]
    return Cell("", "", f"{len(parts)} of {len(single)}{': ' if parts else ''}{'; '.join(parts)}")


def _more_examples(study: WrittenStudy, arm: str) -> Cell:
    """Return the change of the mean of all targets from an arm's smallest to its largest volume."""
    own = _of_all_targets(study.tables["volume_verdicts"], arm)
    if own.empty:
        return MISSING
    line = own.iloc[0].rename({"effect": "mean"})
    cell = _cell(line)
    return cell._replace(figures=f"{cell.figures} from {line['smallest']:,} to {line['volume']:,}")


def _of_all_targets(verdicts: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return an arm's verdicts on the mean of all targets, or on the single target of the study."""
    pooled = verdicts[verdicts["target"] == "all"] if (verdicts["target"] == "all").any() else verdicts
    return pooled[pooled["intermediate"] == arm]


def _curve(study: WrittenStudy) -> Cell:
    """Return the curve that fits each arm with several volumes best over all targets."""
    curves = study.tables["curves"]
    own = curves[curves["target"].isna() & curves["best"].notna()]
    parts = [
        f"{best}: {', '.join(map(names.task_name, names.sort_arms(part['intermediate'])))}"
        for best, part in own.groupby("best", sort=False)
    ]
    return Cell("", "", "; ".join(parts)) if parts else MISSING


def _recipes(study: WrittenStudy) -> Cell:
    """Return the signs and the range of the effects over recipes."""
    ranges = study.tables["recipe_ranges"]
    own = ranges[(ranges["encoder"] == "all") & (ranges["target"] == "all")]
    parts = []
    for _, line in own.iterrows():
        chance = line.get("by_chance", math.nan)
        by_chance = "" if pd.isna(chance) else f", {number(chance)} by chance of seeds"
        parts.append(
            f"{names.task_name(line['intermediate'])} at {line['volume']:,}: {line['positive']} of "
            f"{line['recipes']} positive, range {number(line['range'])} points{by_chance}"
        )
    return Cell("", "", "; ".join(parts)) if parts else MISSING


def verdicts_csv(rows: Sequence[Row], studies: Sequence[str]) -> pd.DataFrame:
    """Return the table of verdicts, one line for each claim or question and study.

    Args:
        rows: Claims and questions.
        studies: Names of the studies.
    """
    found = [(row.text, name, *cell) for row in rows for name, cell in zip(studies, row.cells, strict=True)]
    return pd.DataFrame(found, columns=pd.Index(["question", "study", "verdict", "kind", "figures"]))


def markdown(rows: Sequence[Row], studies: Sequence[str]) -> str:
    """Return the verdicts as a Markdown table, for a README.

    Args:
        rows: The claims.
        studies: Names of the studies.
    """
    found = [["claim", *studies], ["---"] * (1 + len(studies))]
    found += [[row.text, *map(str, row.cells)] for row in rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in found)

"""One page over several studies: verdicts, answers, curves, image gain and cost side by side.

<out>/index.html
<out>/figures/curves.png, .pdf
<out>/verdicts.csv, verdicts.md
"""

# pandas declares its return types too broadly.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false, reportGeneralTypeIssues=false

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from xlt.studies.analysis import names
from xlt.studies.analysis.interval import Interval
from xlt.studies.analysis.points import at_common_volume
from xlt.studies.analysis.written_study import WrittenStudy
from xlt.studies.design.nodes import NONE
from xlt.studies.report import tables
from xlt.studies.report.charts import Level, Marks, lines, marks_of
from xlt.studies.report.drawing import COLOURS, DARK, Figure, Panel, save
from xlt.studies.report.overall_verdicts import Row, claim_rows, markdown, question_rows, verdicts_csv
from xlt.studies.report.page import figure_data, table_data
from xlt.system.files import write_atomically
from xlt.system.tables import counted
from xlt.training.html import environment, table_of

PAGE = "overall.html"

UNKNOWN = "unknown"


def write_overview(studies: Sequence[WrittenStudy], out: Path) -> None:
    """Write the page over several studies and its files.

    Args:
        studies: The studies in the order of the page.
        out: Folder of the page; an earlier page in it is replaced.

    Raises:
        ValueError: Two studies have the same name.
        OSError: The folder cannot be written.
    """
    labels = [study.name for study in studies]
    if len(set(labels)) < len(labels):
        raise ValueError(f"studies are {', '.join(labels)}: give each name once")
    (out / "figures").mkdir(parents=True, exist_ok=True)
    figure = curves_figure(studies)
    if figure:
        save(figure, out / "figures" / figure.name)
    claims, questions = list(claim_rows(studies)), list(question_rows(studies))
    verdicts_csv([*claims, *questions], labels).to_csv(out / "verdicts.csv", index=False, lineterminator="\n")
    write_atomically(out / "verdicts.md", markdown(claims, labels))
    write_atomically(out / "index.html", render(studies, claims, questions, figure, out))


def render(
    studies: Sequence[WrittenStudy],
    claims: Sequence[Row],
    questions: Sequence[Row],
    figure: Figure | None,
    out: Path,
) -> str:
    """Return the page's text.

    Args:
        studies: The studies.
        claims: Verdicts on the claims of Phang et al. (2020).
        questions: Verdicts on the studies' own questions.
        figure: Curves by volume, or None.
        out: Folder of the page, which its links are relative to.
    """
    gains = image_gains(studies)
    return (
        environment(Path(__file__).parent)
        .get_template(PAGE)
        .render(
            studies=[_study_data(study, out) for study in studies],
            parts=[
                part
                for part in (
                    ("Claims of Phang et al. (2020)", claims),
                    ("Questions of the studies", questions),
                )
                if part[1]
            ],
            figure=figure_data(figure) if figure else None,
            gains=table_data(gains) if len(gains) else None,
            cost=table_of(COST, [cost_line(study) for study in studies]),
            colours=list(zip(COLOURS, DARK, strict=True)),
        )
    )


def _study_data(study: WrittenStudy, out: Path) -> dict[str, Any]:
    """Return a study in the form that the template expects."""
    link = Path(os.path.relpath(study.page.resolve(), out.resolve())).as_posix()
    return {
        "name": study.name,
        "link": quote(link) if study.page.is_file() else "",
        # The page of the study lists the missing results, this page does not.
        "answer": [line.replace("; they are listed below", "") for line in study.facts.get("answer", [])],
    }


def curves_figure(studies: Sequence[WrittenStudy]) -> Figure | None:
    """Return the figure of the mean effect over targets by volume, one chart for each study; or None.

    Args:
        studies: The studies.
    """
    pooled = {study.name: _pooled(study) for study in studies}
    drawn = {name: points for name, points in pooled.items() if len(points)}
    if not drawn:
        return None
    marks = marks_of([arm for points in drawn.values() for arm in points["intermediate"]])
    panels = [_panel(name, points, marks) for name, points in drawn.items()]
    parts = []
    for name, points in drawn.items():
        shown = tables.points_table(points.assign(target="all", collapsed=0)).drop(
            columns=["Target", "Mean of"]
        )
        shown.insert(0, "Study", name)
        parts.append(shown)
    sentences = [
        "Mean effect over all targets of a study against the number of examples of the intermediate task. An "
        "arm has the same colour in every chart.",
        "Bars are 95 % intervals over seeds (Student's t). A triangle marks an interval that is cut off. "
        "Studies differ in encoder, targets and steps, so their axes differ.",
    ]
    numbers = pd.concat(parts, ignore_index=True).fillna("")
    return Figure("curves", "Effect against the volume, by study", sentences, panels, numbers)


def _pooled(study: WrittenStudy) -> pd.DataFrame:
    """Return the points of the mean over all targets."""
    points = study.tables["effects_by_volume"]
    return points[points["target"] == "all"].reset_index(drop=True)


def _panel(name: str, points: pd.DataFrame, marks: Marks) -> Panel:
    """Return the chart of one study."""
    own = {arm: marks[arm] for arm in names.sort_arms(points["intermediate"])}
    chart = lines(
        points, own, "Effect, points", Level(Interval(0.0, math.nan, math.nan), "none"), signed=True
    )
    last = points.sort_values("volume").groupby("intermediate").tail(1)
    ends = ", ".join(
        f"{names.task_name(point['intermediate'])} {tables.interval(point, '+')} at {point['volume']:,}"
        for _, point in last.iterrows()
    )
    return Panel(
        chart, name, f"{name}: mean effect over targets, in points, against training examples: {ends}."
    )


def image_gains(studies: Sequence[WrittenStudy]) -> pd.DataFrame:
    """Return the image gain by target, without intermediate training and at the largest common volume.

    Args:
        studies: The studies.
    """
    found = []
    for study in studies:
        measures = study.tables["robustness"]
        own = measures[(measures["measure"] == "image_gain") & (measures["target"] != "all")]
        shown = pd.concat([own[own["intermediate"] == NONE], at_common_volume(own)]) if len(own) else own
        for _, point in shown.iterrows():
            arm = names.task_name(point["intermediate"])
            examples = f"{point['volume']:,}" if point["intermediate"] != NONE else "–"
            cells = [names.task_name(point["target"]), arm, examples, tables.interval(point, "+")]
            found.append([study.name, *cells])
    heads = ["Study", "Target", "Intermediate task", "Examples", "Image gain, points"]
    return pd.DataFrame(found, columns=pd.Index(heads))


COST = ["Study", "Hours", "Trained tokens", "Collapsed runs", "Missing results", "Seeds", "Encoder", "Runs"]
"""Columns of the table of costs."""


def cost_line(study: WrittenStudy) -> list[str]:
    """Return the cost of a study: runs, tokens, hours, and runs that collapsed or are missing.

    Args:
        study: The study.
    """
    facts = study.facts
    if not facts:
        return [study.name, *[UNKNOWN] * (len(COST) - 1)]
    runs = ", ".join(f"{count:,} {phase}" for phase, count in facts["runs"].items()) or "0"
    lacking = facts["runs_without_hours"]
    hours = f"{facts['hours']:,.1f}" + (f" ({counted(lacking, 'run')} unknown)" if lacking else "")
    judged = f"{facts['collapsed']:,} of {facts['judged']:,}" if facts["judged"] else UNKNOWN
    encoder, seeds = str(facts.get("encoder") or UNKNOWN), f"{facts['seeds']}"
    cost = [hours, f"{facts['tokens']:,}", judged, f"{facts['missing']:,}"]
    return [study.name, *cost, seeds, encoder, runs]

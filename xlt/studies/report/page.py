"""The report of a study: one HTML page that needs no network and no script, its figures and tables as files.

<out>/index.html
<out>/figures/<name>.png, .pdf
<out>/scores.csv, effects.csv, effects_by_volume.csv, robustness.csv, curves.csv, mixed_model.csv,
      claims.csv, missing.csv

Names, reasons and configs are of whoever ran the study: the template escapes all text, and the page's own
policy forbids scripts and whatever is not in the page.
"""

# pandas says what it returns too widely.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from xlt.studies.analysis import names
from xlt.studies.analysis.claims import Judged
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.points import at_common_volume, common_volume
from xlt.studies.analysis.results import StudyResults, checked
from xlt.studies.analysis.volumes import pooling_words
from xlt.studies.design.targets import NONE
from xlt.studies.report import figures, tables
from xlt.studies.report.drawing import COLOURS, DARK, Figure, save, svg
from xlt.studies.report.run_list import groups_of
from xlt.system.files import write_atomically

TEMPLATES = Path(__file__).parent
PAGE = "page.html"

SECTIONS = ("effect", "scores", "languages", "robustness", "claims")
"""Figures that the page has a place for."""


def page(study: StudyResults, out: Path) -> None:
    """Write a study's report.

    Args:
        study: What came out of it.
        out: The report's folder; what an earlier report left there is replaced.

    Raises:
        ValueError: The table of scores is none.
        OSError: The folder cannot be written.
    """
    checked(study.scores, f"the table of scores of {study.name}")
    findings = Findings(study)
    made = figures.draw(findings)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    tables.write_csv(tables.csv_files(findings), out)
    write_pictures(made, out / "figures")
    write_atomically(out / "index.html", render(findings, made))


def write_pictures(made: Sequence[Figure], folder: Path) -> None:
    """Write the figures' files; those of figures that are no more go."""
    for figure in made:
        save(figure, folder / figure.name)
    for path in folder.glob("*.*"):
        if path.suffix in (".png", ".pdf") and path.stem not in {figure.name for figure in made}:
            path.unlink()


def render(findings: Findings, made: Sequence[Figure]) -> str:
    """The page's text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    study = findings.study
    return environment.get_template(PAGE).render(
        name=study.name,
        facts=list(facts(findings)),
        words=_sentences(study.about.get("words")),
        short=list(in_short(findings)),
        coverage=rows_of(coverage(findings)),
        figures=dict.fromkeys(SECTIONS) | {figure.name: _shown(figure) for figure in made},
        claims=[_claim(one) for one in findings.judged],
        fits=rows_of(tables.of_fits(findings.fits)) if len(findings.fits) else None,
        told=pooling_words(findings.fits) if len(findings.fits) else "",
        model=rows_of(tables.of_model(findings.model)),
        model_words=[
            f"{words[0].upper()}{words[1:]}." for words in sorted(set(findings.model["words"])) if words
        ],
        power=rows_of(tables.of_power(findings)),
        missing=sorted(map(tuple, study.missing), key=lambda line: (line[1].startswith("waits for"), line)),
        runs=groups_of(study.runs),
        num_runs=len(study.runs),
        colours=list(zip(COLOURS, DARK, strict=True)),
    )


def _shown(figure: Figure) -> dict[str, Any]:
    """A figure as the template takes it."""
    pictures = [
        {"title": panel.title, "note": panel.note, "svg": Markup(svg(panel, f"{figure.name}-{number}-"))}
        for number, panel in enumerate(figure.panels)
    ]
    return {
        "name": figure.name,
        "title": figure.title,
        "says": figure.says,
        "pictures": pictures,
        "numbers": rows_of(figure.numbers),
    }


def rows_of(table: pd.DataFrame) -> dict[str, Any]:
    """A table as the template takes it: its head, and rows of texts, each with whether it is a number."""
    rows = [[(str(cell), _is_number(str(cell))) for cell in row] for row in table.itertuples(index=False)]
    return {"head": [str(name) for name in table.columns], "rows": rows}


def _is_number(text: str) -> bool:
    """Whether a cell stands to the right."""
    return re.match(r"[+\-−]?\d", text) is not None


def _claim(one: Judged) -> dict[str, str]:
    """A claim as the template takes it; its words begin with the verdict, which stands apart."""
    words = one.words.removeprefix(f"{one.verdict.capitalize()}: ")
    return {"text": one.claim.text, "paper": one.claim.paper, "verdict": one.verdict, "words": words}


def facts(findings: Findings) -> Iterator[tuple[str, str]]:
    """What was run: terms and what they are here."""
    study, clean = findings.study, findings.clean
    about = dict(study.about)
    if "encoder" in about:
        yield "Encoder", str(about.pop("encoder"))
    yield "Intermediate tasks", ", ".join(map(names.task, findings.arms)) or "none"
    yield "Examples of them", ", ".join(f"{volume:,}" for volume in findings.volumes) or "–"
    yield "Seeds", ", ".join(map(str, findings.seeds))
    yield "Targets", ", ".join(map(names.task, findings.targets))
    yield "Languages", str(clean["language"].nunique())
    splits = ", ".join(sorted(set(clean["split"])))
    yield "Scores", f"{len(study.scores):,} on {splits} rows, {len(clean):,} of them of text as it is"
    yield from _runs(study.runs)
    for key, value in about.items():
        if key != "words":
            yield key.capitalize(), _text(value)


def _runs(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Runs, tokens and hours by phase."""
    if len(runs):
        counts = runs["phase"].value_counts(sort=False)
        yield "Runs", ", ".join(f"{count:,} {phase}" for phase, count in counts.items())
        yield "Trained on", f"{pd.to_numeric(runs['tokens']).sum():,.0f} tokens"
        hours = pd.to_numeric(runs["hours"])
        unknown = int(hours.isna().sum())
        yield "Took", f"{hours.sum():,.1f} hours" + (f", {unknown:,} runs not counted" if unknown else "")


def _text(value: Any) -> str:
    """A value of `about` as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _sentences(value: Any) -> list[str]:
    """Words as a list of sentences or paragraphs."""
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(part) for part in value]


def in_short(findings: Findings) -> Iterator[str]:
    """What a hurried reader takes away."""
    if len(findings.pooled):
        yield figures.best(findings.pooled)
        own = at_common_volume(findings.effects)
        volume = common_volume(findings.by_language)
        where = f"At {volume:,} examples" if volume else "At each task's largest volume"
        up, down = int((own["low"] > 0).sum()), int((own["high"] < 0).sum())
        yield (
            f"{where}, of {len(own)} pairs of an intermediate task and a target, the interval of the effect "
            f"lies above zero in {up} and below zero in {down}."
        )
    elif findings.arms:
        yield "No effect can be given: no run without intermediate training shares its seed with one with it."
    verdicts = pd.Series([one.verdict for one in findings.judged], dtype=str).value_counts(sort=False)
    if len(verdicts):
        told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        yield f"Of {len(findings.judged)} claims of Phang et al. (2020): {told}."
    count = len(findings.study.missing)
    yield (
        f"{count:,} runs, or tasks in a language, are missing; they are listed below."
        if count
        else "No run is missing."
    )


def coverage(findings: Findings) -> pd.DataFrame:
    """How many pairs of a seed and a target each arm and volume has, of how many."""
    pairs = findings.clean.groupby(["intermediate", "volume"])[["seed", "target"]]
    wanted = len(findings.seeds) * len(findings.targets)
    counts = {key: len(part.drop_duplicates()) for key, part in pairs}
    volumes = [0, *findings.volumes]
    lines = []
    for arm in [NONE, *findings.arms]:
        cells = [counts.get((arm, volume), 0) for volume in volumes]
        texts = [f"{count} of {wanted}" if count else "" for count in cells]
        lines.append([names.task(arm), *texts])
    return pd.DataFrame(
        lines, columns=pd.Index(["Intermediate task", *(f"{volume:,}" for volume in volumes)])
    )

"""The report of a study: an HTML page without network or script, with figures and tables as files.

<out>/index.html
<out>/figures/<name>.png, .pdf
<out>/scores.csv, effects.csv, effects_by_volume.csv, robustness.csv, curves.csv, mixed_model.csv,
      claims.csv, missing.csv
<out>/recipe_scores.csv, recipe_seeds.csv, recipe_effects.csv, recipe_ranges.csv, recipe_variance.csv (only
      of a study with recipes)
<out>/study.json: answer and cost

Names, reasons and configs come from the user. The template therefore escapes all text, and the page's content
security policy forbids scripts and external content.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from xlt.studies.analysis import names
from xlt.studies.analysis.claims import Judged
from xlt.studies.analysis.collapsed import RUN, describe_runs, judged_runs
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.points import at_common_volume, common_volume
from xlt.studies.analysis.results import StudyResults, check_scores
from xlt.studies.analysis.volumes import describe_identifiable
from xlt.studies.analysis.written_study import FACTS, facts_of
from xlt.studies.design.nodes import NONE
from xlt.studies.report import figures, tables
from xlt.studies.report.drawing import COLOURS, DARK, Figure, save, svg
from xlt.studies.report.run_list import groups_of
from xlt.system.files import write_atomically
from xlt.system.tables import as_json, number
from xlt.training.html import environment, table_of

TEMPLATES = Path(__file__).parent
PAGE = "page.html"

SECTIONS = ("effect", "scores", "languages", "robustness", "claims", "recipes")
"""Names of the figures that the page has a place for."""


def page(study: StudyResults, out: Path) -> None:
    """Write a study's report.

    Args:
        study: Results of the study.
        out: Folder of the report; an earlier report in it is replaced.

    Raises:
        ValueError: The study's table is not a table of scores.
        OSError: The folder cannot be written.
    """
    check_scores(study.scores, f"the table of scores of {study.name}")
    findings = Findings(study)
    drawn = figures.draw(findings)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    tables.write_csv(tables.csv_files(findings), out)
    write_figure_files(drawn, out / "figures")
    write_atomically(out / FACTS, as_json(facts_of(findings, list(summary(findings)))))
    write_atomically(out / "index.html", render(findings, drawn))


def write_figure_files(drawn: Sequence[Figure], folder: Path) -> None:
    """Write the files of the figures; delete files of figures that no longer exist."""
    for figure in drawn:
        save(figure, folder / figure.name)
    for path in folder.glob("*.*"):
        if path.suffix in (".png", ".pdf") and path.stem not in {figure.name for figure in drawn}:
            path.unlink()


def render(findings: Findings, drawn: Sequence[Figure]) -> str:
    """Return the page's text."""
    study = findings.study
    return (
        environment(TEMPLATES)
        .get_template(PAGE)
        .render(
            name=study.name,
            facts=list(facts(findings)),
            words=_as_list(study.about.get("words")),
            summary=list(summary(findings)),
            coverage=table_data(replicate_counts(findings)),
            figures=dict.fromkeys(SECTIONS) | {figure.name: _figure_data(figure) for figure in drawn},
            claims=[_claim_data(one) for one in findings.judged],
            fits=table_data(tables.fits_table(findings.fits)) if len(findings.fits) else None,
            identifiable=describe_identifiable(findings.fits) if len(findings.fits) else "",
            model=table_data(tables.model_table(findings.model)),
            model_words=[
                f"{words[0].upper()}{words[1:]}." for words in sorted(set(findings.model["words"])) if words
            ],
            power=table_data(tables.power_table(findings)),
            missing=sorted(
                map(tuple, study.missing), key=lambda line: (line[1].startswith("waits for"), line)
            ),
            collapsed=describe_runs(findings.collapsed),
            runs=groups_of(study.runs),
            num_runs=len(study.runs),
            colours=list(zip(COLOURS, DARK, strict=True)),
        )
    )


def _figure_data(figure: Figure) -> dict[str, Any]:
    """Return a figure in the form that the template expects."""
    pictures = [
        {"title": panel.title, "note": panel.note, "svg": Markup(svg(panel, f"{figure.name}-{number}-"))}
        for number, panel in enumerate(figure.panels)
    ]
    return {
        "name": figure.name,
        "title": figure.title,
        "sentences": figure.sentences,
        "pictures": pictures,
        "numbers": table_data(figure.numbers),
    }


def table_data(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table in the form that the template expects: head, and rows of (text, is a number)."""
    return table_of(list(map(str, table.columns)), list(table.itertuples(index=False)))


def _claim_data(one: Judged) -> dict[str, str]:
    """Return a claim in the form that the template expects; the verdict is shown apart from the words."""
    words = one.words.removeprefix(f"{one.verdict.capitalize()}: ")
    return {
        "text": one.claim.text,
        "paper": one.claim.paper,
        "verdict": one.verdict,
        "words": _minus(words[:1].upper() + words[1:]),
    }


def _minus(text: str) -> str:
    """Return a text with a minus sign, as in tables and charts, before each negative number."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def facts(findings: Findings) -> Iterator[tuple[str, str]]:
    """Yield terms and values for the section about the runs."""
    study, clean = findings.study, findings.clean
    about = dict(study.about)
    if "encoder" in about:
        yield "Encoder", str(about.pop("encoder"))
    yield "Intermediate tasks", ", ".join(map(names.task_name, findings.arms)) or "none"
    yield "Examples of intermediate training", ", ".join(f"{volume:,}" for volume in findings.volumes) or "–"
    yield "Seeds", ", ".join(map(str, findings.seeds))
    yield "Targets", ", ".join(map(names.task_name, findings.targets))
    yield "Languages", str(clean["language"].nunique())
    splits = ", ".join(sorted(set(clean["split"])))
    yield "Scores", f"{len(study.scores):,} on {splits} rows, {len(clean):,} of them on unperturbed text"
    yield from _run_facts(study.runs)
    for key, value in about.items():
        if key != "words":
            yield key.capitalize(), _text(value)


def _run_facts(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the number of runs, tokens and hours."""
    if len(runs):
        counts = runs["phase"].value_counts(sort=False)
        yield "Runs", ", ".join(f"{count:,} {phase}" for phase, count in counts.items())
        yield "Training", f"{pd.to_numeric(runs['tokens']).sum():,.0f} tokens"
        hours = pd.to_numeric(runs["hours"])
        unknown = int(hours.isna().sum())
        yield "Duration", f"{hours.sum():,.1f} hours" + (f" ({unknown:,} runs unknown)" if unknown else "")


def _text(value: Any) -> str:
    """Return a value of `about` as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _as_list(value: Any) -> list[str]:
    """Return words as a list of paragraphs."""
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(part) for part in value]


def summary(findings: Findings) -> Iterator[str]:
    """Yield the sentences of the section `Answer`: the question, then what the data say."""
    yield question(findings)
    if len(findings.pooled):
        yield figures.largest_effect(findings.pooled)
        yield from _describe_widths(findings.pooled)
        yield from _describe_curves(findings)
        own = at_common_volume(findings.effects)
        volume = common_volume(findings.by_language)
        where = f"At {volume:,} examples" if volume else "At each task's largest volume"
        gains, losses = int((own["low"] > 0).sum()), int((own["high"] < 0).sum())
        yield (
            f"{where}, the interval of the effect is above zero in {gains} and below zero in {losses} of "
            f"{len(own)} pairs of an intermediate task and a target."
        )
    elif findings.arms:
        yield ("There is no effect: no seed has a run with and a run without intermediate training.")
    verdicts = pd.Series([one.verdict for one in findings.judged], dtype=str).value_counts(sort=False)
    if len(verdicts):
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        yield f"Of {len(findings.judged)} claims of Phang et al. (2020): {counts}."
    yield collapse_sentence(findings)
    count = len(findings.study.missing)
    yield (
        f"{count:,} runs or test languages are missing; they are listed below."
        if count
        else "No run is missing."
    )


def collapse_sentence(findings: Findings) -> str:
    """Return a sentence with the numbers of collapsed runs, judged runs, and runs that are not judged."""
    judged, runs = len(judged_runs(findings.clean)), len(findings.clean.drop_duplicates(RUN))
    if not judged:
        return "It is unknown which runs have collapsed: older scores do not tell, nor do tiny splits."
    rest = f" {runs - judged:,} other runs cannot be judged." if judged < runs else ""
    count = len(findings.collapsed)
    return f"{count:,} of {judged:,} runs have collapsed to constant predictions.{rest}"


def question(findings: Findings) -> str:
    """Return the study's question."""
    arms, targets = (
        ", ".join(map(names.task_name, found)) or "no task" for found in (findings.arms, findings.targets)
    )
    volumes = [f"{volume:,}" for volume in findings.volumes]
    span = f"from {volumes[0]} to {volumes[-1]}" if len(volumes) > 1 else "".join(volumes) or "0"
    return (
        f"Asked: does intermediate training in English on {arms}, with {span} examples, help zero-shot "
        f"transfer in {targets}, and does more of it help more?"
    )


def _describe_widths(points: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence on the widths of the intervals of the mean effects, if there are intervals."""
    widths = (points["high"] - points["low"]).dropna()
    if len(widths):
        yield (
            f"The 95 % intervals of the mean effects are {number(widths.median())} points wide at the median "
            f"({number(widths.min())} to {number(widths.max())}): smaller differences cannot be told apart."
        )


def _describe_curves(findings: Findings) -> Iterator[str]:
    """Yield a sentence on the curve that fits each arm best over all targets."""
    if not len(findings.fits):
        return
    fits = findings.fits[(findings.fits["target"] == "") & (findings.fits["best"] != "")]
    parts = [
        f"{best} for {', '.join(map(names.task_name, names.sort_arms(own['intermediate'])))}"
        for best, own in fits.groupby("best", sort=False)
    ]
    if parts:
        yield f"The curve over the volume that fits best, by AICc over all targets: {'; '.join(parts)}."


def replicate_counts(findings: Findings) -> pd.DataFrame:
    """Return the number of pairs of a seed and a target that each arm and volume has, and the full number."""
    pairs = findings.clean.groupby(["intermediate", "volume"])[["seed", "target"]]
    wanted = len(findings.seeds) * len(findings.targets)
    counts = {key: len(part.drop_duplicates()) for key, part in pairs}
    volumes = [0, *findings.volumes]
    lines = []
    for arm in [NONE, *findings.arms]:
        cells = [counts.get((arm, volume), 0) for volume in volumes]
        texts = [f"{count} of {wanted}" if count else "" for count in cells]
        lines.append([names.task_name(arm), *texts])
    return pd.DataFrame(
        lines, columns=pd.Index(["Intermediate task", *(f"{volume:,}" for volume in volumes)])
    )

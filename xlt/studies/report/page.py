"""The report of a study: an HTML page without network or script, with figures and tables as files.

<out>/index.html
<out>/figures/<name>.png, .pdf
<out>/scores.csv, effects.csv, effects_by_volume.csv, robustness.csv, curves.csv, mixed_model.csv,
      claims.csv, verdicts.csv, volume_verdicts.csv, covariates.csv, missing.csv
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
from xlt.studies.analysis.collapsed import describe_runs
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import StudyResults, check_scores
from xlt.studies.analysis.volumes import describe_identifiable
from xlt.studies.analysis.written_study import FACTS, facts_of
from xlt.studies.design.nodes import NONE
from xlt.studies.report import figures, tables
from xlt.studies.report.covariate_figures import covariates_table
from xlt.studies.report.drawing import COLOURS, DARK, Figure, save, svg
from xlt.studies.report.run_list import groups_of
from xlt.studies.report.summary import cautions, sentences_of, summary
from xlt.system.files import write_atomically
from xlt.system.tables import as_json
from xlt.training.html import environment, table_of

TEMPLATES = Path(__file__).parent
PAGE = "page.html"

SECTIONS = ("effect", "scores", "languages", "covariates", "robustness", "claims", "recipes")
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
            words=sentences_of(study.about.get("words", "")),
            cautions=list(cautions(findings)),
            summary=list(summary(findings)),
            coverage=table_data(replicate_counts(findings)),
            figures=dict.fromkeys(SECTIONS) | {figure.name: figure_data(figure) for figure in drawn},
            claims=[_claim_data(one) for one in findings.judged],
            claims_table=table_data(tables.claims_table(findings.judged).drop(columns="Reason")),
            verdicts=_verdicts_data(findings),
            volume_verdicts=table_data(tables.volume_verdicts_table(findings.volume_verdicts)),
            margin=f"{study.margin:g}",
            covariates=table_data(covariates_table(findings.covariates)),
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


def figure_data(figure: Figure) -> dict[str, Any]:
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
    words = one.words.removeprefix(f"{one.verdict_in_words.capitalize()}: ")
    return {
        "text": one.claim.text,
        "paper": one.claim.paper,
        "verdict": one.verdict_in_words,
        "kind": one.verdict.replace(" ", "-"),
        "words": _minus(words[:1].upper() + words[1:]),
    }


def _verdicts_data(findings: Findings) -> list[tuple[str, dict[str, Any]]]:
    """Return the verdicts on effects in the form that the template expects: titles and tables."""
    found, parts = findings.verdicts, []
    for title, own in (
        ("Mean of all targets", found[found["target"] == "all"]),
        ("Each target", found[found["target"] != "all"]),
    ):
        if len(own):
            parts.append((title, table_data(tables.verdicts_table(own))))
    return parts


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
            yield key.capitalize(), str(value)


def _run_facts(runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the number of runs, tokens and hours."""
    if len(runs):
        counts = runs["phase"].value_counts(sort=False)
        yield "Runs", ", ".join(f"{count:,} {phase}" for phase, count in counts.items())
        yield "Training", f"{pd.to_numeric(runs['tokens']).sum():,.0f} tokens"
        hours = pd.to_numeric(runs["hours"])
        unknown = int(hours.isna().sum())
        yield "Duration", f"{hours.sum():,.1f} hours" + (f" ({unknown:,} runs unknown)" if unknown else "")


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

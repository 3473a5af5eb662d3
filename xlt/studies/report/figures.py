"""The figures of a study: effects, scores, languages, robustness and the paper's claims."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import math
from collections.abc import Iterator

import pandas as pd

from xlt.data.languages import name_of
from xlt.metrics.collapse import collapse_note
from xlt.studies.analysis import names
from xlt.studies.analysis.claims import PAPER
from xlt.studies.analysis.collapsed import describe_runs
from xlt.studies.analysis.equivalence import EQUIVALENT, in_words
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.interval import Interval
from xlt.studies.analysis.points import common_volume
from xlt.studies.design.nodes import NONE
from xlt.studies.report import tables
from xlt.studies.report.charts import Level, Marks, forest, heat_map, lines, marks_of
from xlt.studies.report.covariate_figures import effect_by_covariate
from xlt.studies.report.drawing import COLOURS, MUTED, Figure, Panel
from xlt.studies.report.recipe_figures import recipe_effects
from xlt.system.tables import number

VERDICTS = {
    "supported": COLOURS[0],
    "contradicted": COLOURS[1],
    "equivalent": COLOURS[2],
    "undecided": MUTED,
}
"""Colours of the claims' estimates by verdict."""

CHANCE = {"xnli": 100 / 3, "pawsx": 100 / 2, "xvnli": 100 / 3, "marvl": 100 / 2}
"""Accuracy of a uniform guess among the target's classes, in percent."""

HOLLOW = "A hollow mark has fewer seeds than other marks."
ROWS = (
    "Bars are 95 % intervals. In a single target they cover seeds and test rows (hierarchical bootstrap; a "
    "parallel test set draws the same rows in all languages); for all targets they cover seeds (Student's t)."
)
CUT = "An interval that is much longer than the differences is cut off: a triangle marks the end that is cut."
BARS = "Bars are 95 % intervals over seeds (Student's t)."


def draw(findings: Findings) -> list[Figure]:
    """Return every figure that the numbers allow."""
    marks = marks_of(findings.arms)
    return [
        *effect_by_volume(findings, marks),
        *scores_by_volume(findings, marks),
        *effect_by_language(findings),
        *effect_by_covariate(findings, marks),
        *robustness_by_volume(findings, marks),
        *claims(findings),
        *recipe_effects(findings),
    ]


def effect_by_volume(findings: Findings, marks: Marks) -> Iterator[Figure]:
    """Yield the figure of the mean effect over targets and of the effect in each target."""
    points = findings.pooled
    if points.empty:
        return
    zero = Level(Interval(0.0, math.nan, math.nan), "none")
    axis = "Effect, points"
    all_targets = "All targets" if len(findings.targets) > 1 else ""
    panels = [_panel(points, marks, axis, all_targets, zero, signed=True)] if all_targets else []
    for target, own in _by_target(findings, findings.effects):
        panels.append(_panel(own, marks, axis, names.task_name(target), zero, signed=True))
    sentences = [
        extreme_effects(points),
        "An effect is a score minus the score of the same seed without intermediate training, averaged over "
        "all languages.",
        *describe_means(findings),
        *_describe_bars(points, ROWS if findings.effects["of_rows"].all() else BARS),
        *_describe_coverage(points, "targets"),
        *describe_collapsed(findings),
    ]
    numbers = pd.concat([points.assign(target="all"), findings.effects], ignore_index=True)
    yield Figure(
        "effect",
        "Effect of intermediate training against its volume",
        sentences,
        panels,
        tables.points_table(numbers, True),
    )


def scores_by_volume(findings: Findings, marks: Marks) -> Iterator[Figure]:
    """Yield the figure of the score in each target."""
    panels = []
    for target, own in _by_target(findings, findings.scores):
        level = _level(own)
        trained = own[own["intermediate"] != NONE]
        if len(trained):
            chance = CHANCE.get(target)
            panels.append(_panel(trained, marks, "Score, %", names.task_name(target), level, chance=chance))
    if not panels:
        return
    sentences = [
        "Zero-shot score in each target (mean over its languages) against the number of examples of the "
        "intermediate task.",
        *describe_means(findings),
        "The dashed line is the score without intermediate training; the grey band is its interval. The "
        "dotted line is chance, drawn if the scores are near it.",
        *_describe_bars(findings.scores),
        *_describe_coverage(findings.scores, "languages"),
        *describe_collapsed(findings),
    ]
    yield Figure(
        "scores", "Scores against the volume", sentences, panels, tables.points_table(findings.scores)
    )


def effect_by_language(findings: Findings) -> Iterator[Figure]:
    """Yield the figure of effects by language and target, at the largest common volume."""
    cells = findings.cells
    if cells.empty:
        return
    cells = cells.assign(certain=(cells["low"] > 0) | (cells["high"] < 0))
    cells["text"] = [number(mean, "+") for mean in cells["mean"]]
    cells["row"], cells["column"] = (
        cells["language"].map(name_of),
        cells["target"].map(names.task_name),
    )
    rows = cells.groupby("row")["mean"].mean().sort_values(ascending=False).index.tolist()
    columns = [names.task_name(target) for target in names.sort_targets(cells["target"])]
    reach = max(1.0, math.ceil(cells["mean"].abs().quantile(0.98)))
    panels = []
    for arm in names.sort_arms(cells["intermediate"]):
        own = cells[cells["intermediate"] == arm]
        hurt = f"{int((own['mean'] < 0).sum())} of {len(own)} cells are below zero"
        chart = heat_map(own[["row", "column", "mean", "text", "certain"]], rows, columns, reach)
        panels.append(
            Panel(
                chart, names.task_name(arm), f"{names.task_name(arm)}: effect by language and target; {hurt}."
            )
        )
    volume = common_volume(findings.by_language)
    at = f"{volume:,} examples" if volume else "each intermediate task's largest volume"
    sentences = [
        f"Effect in points at {at}, averaged over seeds: blue is a gain, orange is a loss.",
        "Bold: the 95 % interval over seeds excludes zero (not corrected for the number of cells).",
        "Languages are sorted by their mean effect. Blank cells are languages that the "
        "target does not have, or that are missing.",
    ]
    yield Figure(
        "languages", "Effect by language and target", sentences, panels, tables.cells_table(cells), columns=2
    )


def robustness_by_volume(findings: Findings, marks: Marks) -> Iterator[Figure]:
    """Yield the figure of each measure of robustness, averaged over targets."""
    panels = []
    for measure in findings.measures:
        trained = measure.pooled[measure.pooled["intermediate"] != NONE]
        if len(trained):
            level = _level(measure.pooled)
            panels.append(
                _panel(
                    trained,
                    marks,
                    measure.labels.axis,
                    measure.labels.title,
                    level,
                    measure.labels.explanation,
                )
            )
    if not panels:
        return
    sentences = [
        "Each measure is averaged over the targets that have it.",
        *describe_means(findings),
        *_describe_bars(findings.measures[0].pooled),
    ]
    numbers = tables.measures_table(findings.measures)
    yield Figure("robustness", "Robustness against the volume", sentences, panels, numbers)


def claims(findings: Findings) -> Iterator[Figure]:
    """Yield the figure of the claims that this study can test, with their intervals."""
    drawn = [one for one in findings.judged if one.estimate and math.isfinite(one.estimate.low)]
    if not drawn:
        return
    rows = [
        (
            one.claim.text,
            *one.estimate,
            *one.seeds_only[1:],
            VERDICTS.get(one.verdict, MUTED),
            PAPER.get(one.claim.name, math.nan),
        )
        for one in drawn
        if one.estimate and one.seeds_only
    ]
    columns = ["words", "estimate", "low", "high", "seeds_low", "seeds_high", "colour", "paper"]
    chart = forest(pd.DataFrame(rows, columns=pd.Index(columns)), "Difference, points")
    verdicts = "; ".join(f"{one.claim.text}: {one.verdict_in_words}" for one in drawn)
    sentences = [
        "Estimates of the differences that the claims are about.",
        "Thin bar: 95 % interval over seeds and targets (languages if there is one target). Thick bar: "
        "interval over seeds alone.",
        f"Blue: supported; orange: contradicted; green: {in_words(EQUIVALENT, findings.study.margin)}; grey: "
        "undecided.",
        "Hollow diamond: the paper's figure, for XLM-R Large on XTREME's development sets.",
    ]
    panel = Panel(chart, "", f"Estimates of the claims. {verdicts}.")
    numbers = tables.claims_table(findings.judged)
    yield Figure("claims", "Claims of Phang et al. (2020)", sentences, [panel], numbers)


def _panel(
    points: pd.DataFrame, marks: Marks, axis: str, title: str, level: Level | None,
    note: str = "", signed: bool = False, chance: float | None = None,
) -> Panel:  # fmt: skip
    """Return a chart of lines over the volume, with its text for readers who cannot see it."""
    last = points.sort_values("volume").groupby("intermediate").tail(1)
    ends = ", ".join(
        f"{names.task_name(arm)} {number(mean)} at {volume:,}"
        for arm, mean, volume in zip(last["intermediate"], last["mean"], last["volume"], strict=True)
    )
    base = f"; without intermediate training {number(level.interval.estimate)}" if level else ""
    words = f"{title or 'All targets'}, {axis}, against training examples: {ends}{base}."
    return Panel(lines(points, marks, axis, level, signed, chance), title, words, note)


def _by_target(findings: Findings, points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the points of each target that has points."""
    for target in findings.targets:
        own = points[points["target"] == target]
        if len(own):
            yield target, own


def _level(points: pd.DataFrame) -> Level | None:
    """Return the level of the arm without intermediate training, if it was run."""
    own = points[points["intermediate"] == NONE]
    if own.empty:
        return None
    found = own.iloc[0]
    return Level(Interval(found["mean"], found["low"], found["high"]), "none")


def _describe_bars(points: pd.DataFrame, words: str = BARS) -> list[str]:
    """Return sentences on the bars, or on their absence, and on hollow marks."""
    one_seed = points["low"].isna().all()
    bars = ["There is one seed, so there are no intervals."] if one_seed else [words, CUT]
    return bars + ([] if points["complete"].all() else [HOLLOW])


def _describe_coverage(points: pd.DataFrame, what: str) -> list[str]:
    """Return a sentence on the number of targets or languages behind the means, if some are missing."""
    found = points.loc[points["common"] < points["of"]]
    if found.empty:
        return []
    parts = {f"{common} of {of}" for common, of in zip(found["common"], found["of"], strict=True)}
    return [f"Means are over the {what} that all runs have: {', '.join(sorted(parts))} if some are missing."]


def describe_means(findings: Findings) -> list[str]:
    """Return a sentence with the targets whose means leave English out, if any."""
    own = [names.task_name(name) for name in findings.targets if name in findings.study.without_english]
    return [f"Means of {', '.join(own)} leave English out, as IGLUE's do."] if own else []


def describe_collapsed(findings: Findings) -> list[str]:
    """Return a sentence with the number and the names of the collapsed runs that the means cover, if any."""
    note = collapse_note(describe_runs(findings.collapsed))
    return [f"The means cover runs with constant predictions: {note}."] if note else []


def extreme_effects(points: pd.DataFrame) -> str:
    """Return a sentence on the highest and the lowest mean effect."""
    highest, lowest = (
        _effect_in_words(points.loc[row]) for row in (points["mean"].idxmax(), points["mean"].idxmin())
    )
    if highest == lowest:
        return f"The only mean effect is {highest}."
    return f"The highest mean effect is {highest}, and the lowest is {lowest}."


def _effect_in_words(line: pd.Series) -> str:
    """Return an effect with its interval, intermediate task and volume."""
    arm = names.task_name(line["intermediate"])
    return f"{tables.interval(line, '+')} points ({arm} at {line['volume']:,} examples)"

"""The figures of a study: effects, scores, languages, robustness and the paper's claims."""

# pandas says what it returns too widely.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import math
from collections.abc import Iterator

import pandas as pd

from xlt.data.languages import name_of
from xlt.studies.analysis import names
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.points import Interval, common_volume
from xlt.studies.design.targets import NONE
from xlt.studies.report import tables
from xlt.studies.report.charts import Level, Looks, forest, heat_map, lines, looks_of
from xlt.studies.report.drawing import COLOURS, MUTED, Figure, Panel, number

VERDICTS = {"supported": COLOURS[0], "contradicted": COLOURS[1], "undecided": MUTED}
"""Colour of a claim's estimate."""

HOLLOW = "A hollow mark is of fewer seeds than others."
ROWS = (
    "Bars are 95 % intervals: in a target over seeds and test rows (hierarchical bootstrap, rows drawn "
    "together in all languages of a parallel test set), of all targets over seeds (Student's t)."
)
CUT = "An interval much longer than the differences leaves the picture."
BARS = "Bars are 95 % intervals over seeds (Student's t)."


def draw(findings: Findings) -> list[Figure]:
    """Every figure that there are numbers for."""
    looks = looks_of(findings.arms)
    made = [
        *effect_by_volume(findings, looks),
        *scores_by_volume(findings, looks),
        *effect_by_language(findings),
        *robustness_by_volume(findings, looks),
        *claims(findings),
    ]
    return list(made)


def effect_by_volume(findings: Findings, looks: Looks) -> Iterator[Figure]:
    """The mean effect over targets, and the effect in each target."""
    points = findings.pooled
    if points.empty:
        return
    zero = Level(Interval(0.0, math.nan, math.nan), "none")
    axis = "Effect, points"
    every = "All targets" if len(findings.targets) > 1 else ""
    panels = [_panel(points, looks, axis, every, zero, signed=True)] if every else []
    for target, own in _by_target(findings, findings.effects):
        panels.append(_panel(own, looks, axis, names.task(target), zero, signed=True))
    says = [
        best(points),
        "An effect is a score less that of the same seed without intermediate training, over all languages.",
        *_bars(points, ROWS if findings.effects["of_rows"].all() else BARS),
        *_of_common(points, "targets"),
    ]
    numbers = pd.concat([points.assign(target="all"), findings.effects], ignore_index=True)
    yield Figure(
        "effect",
        "Effect of intermediate training against its volume",
        says,
        panels,
        tables.of_points(numbers, True),
    )


def scores_by_volume(findings: Findings, looks: Looks) -> Iterator[Figure]:
    """The score in each target."""
    panels = []
    for target, own in _by_target(findings, findings.scores):
        level = _level(own)
        trained = own[own["intermediate"] != NONE]
        if len(trained):
            panels.append(_panel(trained, looks, "Score, %", names.task(target), level))
    if not panels:
        return
    says = [
        "Zero-shot score in each target, the mean over its languages, against the number of examples of the "
        "intermediate task.",
        "The dashed line is the score without intermediate training, the grey band its interval.",
        *_bars(findings.scores),
        *_of_common(findings.scores, "languages"),
    ]
    yield Figure("scores", "Scores against the volume", says, panels, tables.of_points(findings.scores))


def effect_by_language(findings: Findings) -> Iterator[Figure]:
    """Language by target at the largest volume that all arms have."""
    cells = findings.cells
    if cells.empty:
        return
    cells = cells.assign(certain=(cells["low"] > 0) | (cells["high"] < 0))
    cells["text"] = [number(mean, "+") for mean in cells["mean"]]
    cells["row"], cells["column"] = cells["language"].map(name_of), cells["target"].map(names.task)
    rows = cells.groupby("row")["mean"].mean().sort_values(ascending=False).index.tolist()
    columns = [names.task(target) for target in names.targets(cells["target"])]
    reach = max(1.0, math.ceil(cells["mean"].abs().quantile(0.98)))
    panels = []
    for arm in names.arms(cells["intermediate"]):
        own = cells[cells["intermediate"] == arm]
        hurt = f"{int((own['mean'] < 0).sum())} of {len(own)} cells are below zero"
        chart = heat_map(own[["row", "column", "mean", "text", "certain"]], rows, columns, reach)
        panels.append(
            Panel(chart, names.task(arm), f"{names.task(arm)}: effect by language and target; {hurt}.")
        )
    volume = common_volume(findings.by_language)
    at = f"{volume:,} examples" if volume else "each intermediate task's largest volume"
    says = [
        f"Effect in points at {at}, the mean over seeds: blue helps, orange hurts.",
        "Bold: the 95 % interval over seeds excludes zero (each cell alone, not corrected for their number).",
        "Languages are ordered by their mean effect; a blank is a language that the target does not have, or "
        "that is missing.",
    ]
    yield Figure(
        "languages", "Effect by language and target", says, panels, tables.of_cells(cells), columns=2
    )


def robustness_by_volume(findings: Findings, looks: Looks) -> Iterator[Figure]:
    """Each measure of robustness, the mean over targets."""
    panels = []
    for measure in findings.measures:
        trained = measure.pooled[measure.pooled["intermediate"] != NONE]
        if len(trained):
            level = _level(measure.pooled)
            panels.append(
                _panel(trained, looks, measure.words.axis, measure.words.title, level, measure.words.says)
            )
    if not panels:
        return
    says = ["Each is the mean over the targets that have it.", *_bars(findings.measures[0].pooled)]
    numbers = tables.of_measures(findings.measures)
    yield Figure("robustness", "Robustness against the volume", says, panels, numbers)


def claims(findings: Findings) -> Iterator[Figure]:
    """The claims that this study can test, with their intervals."""
    drawn = [one for one in findings.judged if one.estimate and math.isfinite(one.estimate.low)]
    if not drawn:
        return
    rows = [
        (one.claim.text, *one.estimate, *one.here[1:], VERDICTS.get(one.verdict, MUTED))
        for one in drawn
        if one.estimate and one.here
    ]
    columns = ["words", "estimate", "low", "high", "seeds_low", "seeds_high", "colour"]
    chart = forest(pd.DataFrame(rows, columns=pd.Index(columns)), "Difference, points")
    told = "; ".join(f"{one.claim.text}: {one.verdict}" for one in drawn)
    says = [
        "This study's estimate of each claim.",
        "Thin: 95 % interval over seeds and targets (or languages, for one target). Thick: over seeds alone.",
        "Blue: supported; orange: contradicted; grey: undecided.",
    ]
    panel = Panel(chart, "", f"Estimates of the claims. {told}.")
    numbers = tables.of_claims(findings.judged)
    yield Figure("claims", "Claims of Phang et al. (2020)", says, [panel], numbers)


def _panel(
    points: pd.DataFrame, looks: Looks, axis: str, title: str, level: Level | None,
    note: str = "", signed: bool = False,
) -> Panel:  # fmt: skip
    """Lines over the volume, with what they show in words."""
    last = points.sort_values("volume").groupby("intermediate").tail(1)
    ends = ", ".join(
        f"{names.task(arm)} {mean:.1f} at {volume:,}"
        for arm, mean, volume in zip(last["intermediate"], last["mean"], last["volume"], strict=True)
    )
    base = f"; without intermediate training {level.interval.mean:.1f}" if level else ""
    words = f"{title or 'All targets'}, {axis}, against training examples: {ends}{base}."
    return Panel(lines(points, looks, axis, level, signed), title, words, note)


def _by_target(findings: Findings, points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The points of each target that has any."""
    for target in findings.targets:
        own = points[points["target"] == target]
        if len(own):
            yield target, own


def _level(points: pd.DataFrame) -> Level | None:
    """The arm without intermediate training, where it was run."""
    own = points[points["intermediate"] == NONE]
    if own.empty:
        return None
    found = own.iloc[0]
    return Level(Interval(found["mean"], found["low"], found["high"]), "none")


def _bars(points: pd.DataFrame, words: str = BARS) -> list[str]:
    """What the bars are, or why there are none; what a hollow mark is."""
    one_seed = points["low"].isna().all()
    bars = ["There is one seed: no interval can be given."] if one_seed else [words, CUT]
    return bars + ([] if points["complete"].all() else [HOLLOW])


def _of_common(points: pd.DataFrame, what: str) -> list[str]:
    """Over how many of how many the means are, where some are missing."""
    found = points.loc[points["common"] < points["of"]]
    if found.empty:
        return []
    parts = {f"{common} of {of}" for common, of in zip(found["common"], found["of"], strict=True)}
    return [
        f"Means are over the {what} that all runs have: {', '.join(sorted(parts))} where some are missing."
    ]


def best(points: pd.DataFrame) -> str:
    """The largest effect in a sentence."""
    best = points.loc[points["mean"].idxmax()]
    where = f"{names.task(best['intermediate'])} at {best['volume']:,} examples"
    return f"The largest mean effect is that of {where}: {tables.interval(best, '+')} points."

"""The figure of the effects by recipe, and its tables."""

# pandas declares its return types too broadly.
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from xlt.studies.analysis import names
from xlt.studies.analysis.claims import PAPER
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.recipes import ALL, POINT, Recipes
from xlt.studies.report import tables
from xlt.studies.report.charts import forest
from xlt.studies.report.drawing import COLOURS, MUTED, Figure, Panel
from xlt.system.tables import counted, number

ABOVE, BELOW = COLOURS[0], COLOURS[1]
"""Colours of intervals above and below zero."""

GAIN_NAMES = {
    "squad": "SQuAD", "mnli": "MNLI", "hellaswag": "HellaSwag", "mixture": "the mixture",
    "best": "the mixture over SQuAD",
}  # fmt: skip
"""Display names of the published gains."""


def recipe_effects(findings: Findings) -> Iterator[Figure]:
    """Yield the figure of the effect by recipe, if the study has recipes."""
    found = findings.recipes
    if found is None or found.points.empty:
        return
    panels = [_panel(found, key, part) for key, part in found.points.groupby(POINT, sort=False)]
    sentences = [
        *headlines(found),
        *compare_with_gains(found),
        "Each row is a recipe. Thin bar: 95 % interval over seeds (Student's t). Thick bar: from the "
        "smallest to the largest seed. Blue: the interval is above zero; orange: below zero; grey: neither.",
        "By chance: the range that the seeds alone would give if all recipes had the same effect. Variance: "
        "shares of the sources, corrected for their number of values; combination is the joint effect of "
        "learning rate, steps and encoder beyond the sum of their own effects. With few seeds the shares are "
        "rough.",
    ]
    title = "Effect of intermediate training by recipe"
    yield Figure("recipes", title, sentences, panels, _points_table(found.points), columns=2)


def _panel(found: Recipes, key: tuple[Any, ...], points: pd.DataFrame) -> Panel:
    """Return the chart of one target, arm and volume."""
    rows = pd.DataFrame({
        "words": [_describe(point) for _, point in points.iterrows()],
        "estimate": points["mean"], "low": points["low"], "high": points["high"],
        "seeds_low": points["smallest"], "seeds_high": points["largest"],
        "colour": [_colour(low, high) for low, high in zip(points["low"], points["high"], strict=True)],
        "paper": math.nan,
    })  # fmt: skip
    subject = _subject(*key)
    ends = f"from {number(points['mean'].min(), '+')} to {number(points['mean'].max(), '+')} points"
    alternative = f"{subject}: effects of {counted(len(points), 'recipe')} {ends}."
    note = " ".join([*_range_note(found.ranges, key), *_shares_note(found.shares, key)])
    return Panel(forest(rows, "Effect, points"), subject, alternative, note)


def _describe(point: pd.Series) -> str:
    """Return a recipe in words."""
    return f"{point['recipe']}: {point['encoder']}, rate {point['learning_rate']}, {point['steps']} steps"


def _colour(low: float, high: float) -> str:
    """Return the colour of an interval."""
    return ABOVE if low > 0 else BELOW if high < 0 else MUTED


def _subject(target: str, intermediate: str, volume: int) -> str:
    """Return a target, an arm and a volume in words."""
    shown = "all targets" if target == ALL else names.task_name(target)
    return f"{names.task_name(intermediate)} at {volume:,} examples, {shown}"


def _of(table: pd.DataFrame, key: tuple[Any, ...]) -> pd.DataFrame:
    """Return the lines of a target, an arm and a volume."""
    return table[(table[POINT] == list(key)).all(axis=1)]


def headlines(found: Recipes) -> Iterator[str]:
    """Yield a sentence on the signs of the effects for each arm and volume, on the mean of all targets."""
    everywhere = found.ranges[found.ranges["encoder"] == ALL]
    pooled = everywhere[everywhere["target"] == ALL]
    for _, line in (pooled if len(pooled) else everywhere).iterrows():
        yield (
            f"{_subject(*line[POINT])}: {line['positive']} of {counted(line['recipes'], 'recipe')} have a "
            f"positive effect; the effects range from {number(line['smallest'], '+')} to "
            f"{number(line['largest'], '+')} points."
        )


def _range_note(ranges: pd.DataFrame, key: tuple[Any, ...]) -> Iterator[str]:
    """Yield the signs and the range of the effects, of all recipes and of the recipes of each encoder."""
    for _, line in _of(ranges, key).iterrows():
        who = "" if line["encoder"] == ALL else f"{line['encoder']}: "
        chance = "" if math.isnan(line["by_chance"]) else f" (by chance {number(line['by_chance'])})"
        yield (
            f"{who}{line['positive']} of {line['recipes']} positive, interval above zero in {line['above']}, "
            f"below zero in {line['below']}, range {number(line['range'])} points{chance}."
        )


def _shares_note(shares: pd.DataFrame, key: tuple[Any, ...]) -> Iterator[str]:
    """Yield the shares of the variance of the effect by source."""
    own = _of(shares, key)
    parts = [f"{source} {share:.0f} %" for source, share in zip(own["source"], own["share"], strict=True)]
    if parts:
        yield f"Variance: {', '.join(parts)}."


def compare_with_gains(found: Recipes) -> Iterator[str]:
    """Yield a sentence on the published gains that the largest range over recipes of one encoder reaches."""
    ranges = found.ranges
    own = ranges[ranges["encoder"] != ALL] if (ranges["encoder"] != ALL).any() else ranges
    pooled = own[own["target"] == ALL] if (own["target"] == ALL).any() else own
    widest = pooled.loc[pooled["range"].idxmax()]
    reached = [
        f"{number(gain, '+')} ({GAIN_NAMES.get(name, name)})"
        for name, gain in PAPER.items()
        if gain <= widest["range"]
    ]
    with_names = f": {', '.join(reached)}" if reached else ""
    yield (
        f"With one encoder, the choice of learning rate and steps changes the effect by up to "
        f"{number(widest['range'])} points ({_subject(*widest[POINT])}). {len(reached)} of {len(PAPER)} "
        f"gains that Phang et al. (2020) report for XLM-R Large are no larger than that{with_names}."
    )


def _points_table(points: pd.DataFrame) -> pd.DataFrame:
    """Return the effects by recipe for the reader."""
    shown = points.assign(
        target=[ALL if name == ALL else names.task_name(name) for name in points["target"]],
        intermediate=points["intermediate"].map(names.task_name),
        effect=[tables.interval(point, "+") for _, point in points.iterrows()],
    )
    heads = {
        "recipe": "Recipe", "encoder": "Encoder", "learning_rate": "Learning rate", "steps": "Steps",
        "target": "Target", "intermediate": "Intermediate task", "volume": "Examples",
        "effect": "Effect, points", "seeds": "Seeds",
    }  # fmt: skip
    return shown[list(heads)].rename(columns=heads)

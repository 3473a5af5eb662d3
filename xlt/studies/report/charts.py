"""The charts of a study: lines over the volume, a heat map, and a forest plot of intervals."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import altair as alt
import pandas as pd

from xlt.studies.analysis import names
from xlt.studies.analysis.interval import Interval
from xlt.studies.report.drawing import COLOURS, INK, MUTED, PAPER, SHAPES, spread_out

WIDTH, HEIGHT = 236, 200
"""Size of a plot in pixels: with its labels it fits the screen of a phone."""

SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~f')"
"""Format of the labels of differences."""

LABEL = 13
"""Minimum distance in pixels between the names at the ends of the lines."""


@dataclass(frozen=True)
class Mark:
    """An arm's colour, shape and number among the arms."""

    colour: str
    shape: str
    number: int


Marks = dict[str, Mark]
"""Maps each arm to its mark."""


def marks_of(arms: Sequence[str]) -> Marks:
    """Return the mark of each arm."""
    return {
        arm: Mark(COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)], i)
        for i, arm in enumerate(names.sort_arms(arms))
    }


@dataclass(frozen=True)
class Level:
    """A horizontal line that the arms are compared with."""

    interval: Interval
    label: str


def lines(
    points: pd.DataFrame,
    marks: Marks,
    axis: str,
    level: Level | None = None,
    signed: bool = False,
    chance: float | None = None,
) -> alt.LayerChart:
    """Draw a line for each arm over the volume, with intervals. A triangle marks an interval that is cut off.

    Args:
        points: The table that `average_over_seeds` returns, of one target.
        marks: Mark of each arm.
        axis: Title of the vertical axis, with the unit.
        level: Level that the arms are compared with. Defaults to none.
        signed: True if the points are differences, labelled with their sign. Defaults to False.
        chance: Score of a uniform guess, in percent, drawn if the points are near it. Defaults to none.
    """
    low, high = _axis_limits(points, level)
    if chance is not None and low - (high - low) <= chance <= high:
        low = min(low, chance - 0.04 * (high - chance))
    else:
        chance = None
    x = _volume_axis(points["volume"].unique().tolist())
    y = alt.Scale(domain=[low, high], nice=False, zero=False)
    table = _style_points(points, marks)
    base = alt.Chart(table, width=WIDTH, height=HEIGHT).encode(
        x=x,
        color=alt.Color("colour:N", scale=None),
        y=alt.Y("mean:Q", scale=y, axis=vertical_axis(axis, signed)),
    )
    ranges = base.mark_rule(strokeWidth=1.5, opacity=0.55, clip=True).encode(y="low:Q", y2="high:Q")
    shape = alt.Shape("shape:N", scale=None)
    symbols = base.mark_point(size=46, strokeWidth=1.6, opacity=1).encode(
        shape=shape, fill=alt.Fill("fill:N", scale=None)
    )
    level_layers = _draw_level(level, y) if level else []
    if chance is not None:
        level_layers.append(_draw_chance(chance, y))
    ends = _line_ends(table, level, low, high, chance)
    layers = [
        *level_layers,
        ranges.transform_filter("isValid(datum.low)"),
        *_draw_cuts(base, table, low, high),
        base.mark_line(strokeWidth=1.8),
        symbols,
        ends,
    ]
    return alt.layer(*layers)


def _draw_chance(chance: float, y: alt.Scale) -> alt.Chart:
    """Draw the level of chance as a dotted line."""
    base = alt.Chart(pd.DataFrame([{"mean": chance}]), width=WIDTH, height=HEIGHT)
    return base.mark_rule(color=MUTED, strokeDash=[1, 3], strokeWidth=1.4).encode(y=alt.Y("mean:Q", scale=y))


def _draw_cuts(base: alt.Chart, table: pd.DataFrame, low: float, high: float) -> list[alt.Chart]:
    """Mark the intervals that leave the panel: a triangle at the edge that they cross."""
    cut = []
    for is_cut, condition, edge, shape in (
        (table["low"] < low, f"datum.low < {low}", HEIGHT, "triangle-down"),
        (table["high"] > high, f"datum.high > {high}", 0, "triangle-up"),
    ):
        if bool(is_cut.to_numpy().any()):
            mark = base.transform_filter(f"isValid(datum.low) && {condition}")
            cut.append(
                mark.mark_point(filled=True, size=34, opacity=0.9, shape=shape).encode(y=alt.value(edge))
            )
    return cut


def _style_points(points: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """Return the points with their marks; arms of one volume are slightly shifted against each other."""
    decades = math.log10(points["volume"].max() / points["volume"].min()) or 1.0
    table = points[["intermediate", "volume", "mean", "low", "high", "complete"]].copy()
    own_marks = [marks[arm] for arm in table["intermediate"]]
    step = decades * min(0.016, 0.08 / len(marks))
    shift = [(mark.number - (len(marks) - 1) / 2) * step for mark in own_marks]
    table["position"] = table["volume"] * [10**s for s in shift]
    table["colour"], table["shape"] = [mark.colour for mark in own_marks], [mark.shape for mark in own_marks]
    table["fill"] = table["colour"].where(table["complete"], PAPER)
    return table


def _axis_limits(points: pd.DataFrame, level: Level | None) -> tuple[float, float]:
    """Return the limits of the vertical axis: all means, and intervals unless they are much longer."""
    means, ends = points["mean"].tolist(), [*points["low"].dropna(), *points["high"].dropna()]
    if level:
        means.append(level.interval.estimate)
        ends += [end for end in level.interval[1:] if not math.isnan(end)]
    low, high = min(means), max(means)
    reach = max(high - low, 0.01 * max(abs(low), abs(high)), 0.01)
    floor = 0.0 if low >= 0 and level is None else -math.inf
    low = max(min([low, *ends]), low - reach, floor)
    high = max(min(max([high, *ends]), high + reach), low + 0.2 * reach)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _volume_axis(volumes: Sequence[int]) -> alt.X:
    """Return a log axis labelled at the volumes, or at powers of ten if there are many volumes."""
    low, high = min(volumes), max(volumes)
    edge = max((high / low) ** 0.07, 1.35)
    scale = alt.Scale(type="log", domain=[low / edge, high * edge], nice=False)
    marked = sorted(volumes)
    if len(marked) > 5 or any(b / a < 1.8 for a, b in pairwise(marked)):
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        marked = [10**power for power in range(first, last + 1)] or [low]
    axis = alt.Axis(title="Intermediate training examples", values=marked, format=".3~s", grid=False)
    return alt.X("position:Q", scale=scale, axis=axis)


def vertical_axis(title: str, signed: bool) -> alt.Axis:
    """Return the vertical axis, with its title above.

    Args:
        title: Title with the unit.
        signed: True to label values above zero with a plus sign.
    """
    return alt.Axis(
        title=title, titleAngle=0, titleAlign="left", titleAnchor="end", titleY=-12, titleX=-28,
        tickCount=5, domain=False, ticks=False, labelExpr=SIGNED if signed else "datum.label",
    )  # fmt: skip


def _draw_level(level: Level, y: alt.Scale) -> list[alt.Chart]:
    """Draw the level and its interval across the chart."""
    mean, low, high = level.interval
    table = pd.DataFrame([{"mean": mean, "low": low, "high": high}])
    base = alt.Chart(table, width=WIDTH, height=HEIGHT)
    band = base.mark_rect(color=MUTED, opacity=0.16, clip=True).encode(y=alt.Y("low:Q", scale=y), y2="high:Q")
    line = base.mark_rule(color=INK, strokeDash=[5, 3], strokeWidth=1.2)
    line = line.encode(y=alt.Y("mean:Q", scale=y))
    return [line] if math.isnan(low) else [band, line]


def _line_ends(
    table: pd.DataFrame, level: Level | None, low: float, high: float, chance: float | None
) -> alt.Chart:
    """Draw the name of each arm at the end of its line; `low` and `high` are the limits of the axis."""
    last = table.sort_values("volume").groupby("intermediate").tail(1)
    labelled = [
        (names.task_name(arm), mean, colour)
        for arm, mean, colour in zip(last["intermediate"], last["mean"], last["colour"], strict=True)
    ]
    if level:
        labelled.append((level.label, level.interval.estimate, INK))
    if chance is not None:
        labelled.append(("chance", chance, MUTED))
    wanted = [HEIGHT * (high - mean) / (high - low) for _, mean, _ in labelled]
    labels = pd.DataFrame(labelled, columns=pd.Index(["label", "mean", "colour"]))
    labels["at"] = spread_out(wanted, LABEL)
    text = alt.Chart(labels, width=WIDTH, height=HEIGHT).mark_text(align="left", baseline="middle")
    return text.encode(
        x=alt.value(WIDTH + 7),
        y=alt.Y("at:Q", scale=None),
        text="label:N",
        color=alt.Color("colour:N", scale=None),
    )


def heat_map(
    cells: pd.DataFrame, rows: Sequence[str], columns: Sequence[str], reach: float
) -> alt.LayerChart:
    """Draw the effects of one arm, languages by targets; bold if the interval excludes zero.

    Args:
        cells: Columns `row`, `column`, `mean` in points, `text`, and `certain` (True if the interval excludes
            zero).
        rows: Order of the rows.
        columns: Order of the columns.
        reach: Largest absolute value of the colour scale, in points.
    """
    size = min(46, 276 // len(columns))
    angle = 0 if size >= 46 and max(map(len, columns)) <= 8 else -40
    top = alt.Axis(title=None, orient="top", labelAngle=angle, ticks=False, domain=False, labelLimit=200)
    side = alt.Axis(title=None, ticks=False, domain=False, labelLimit=200)
    base = alt.Chart(cells, width=size * len(columns), height=17 * len(rows)).encode(
        x=alt.X("column:N", sort=list(columns), axis=top, scale=alt.Scale(domain=list(columns))),
        y=alt.Y("row:N", sort=list(rows), axis=side, scale=alt.Scale(domain=list(rows))),
    )
    scale = alt.Scale(scheme="blueorange", reverse=True, domain=[-reach, reach], clamp=True)
    legend = alt.Legend(
        title="Effect in points",
        orient="bottom",
        gradientLength=180,
        gradientThickness=9,
        values=[-reach, 0, reach],
        labelExpr=SIGNED,
    )
    fill = base.mark_rect().encode(color=alt.Color("mean:Q", scale=scale, legend=legend))
    ink = alt.condition(f"abs(datum.mean) > {0.72 * reach}", alt.value("#fdfdfd"), alt.value("#111111"))
    texts = [
        base.transform_filter("datum.certain" if bold else "!datum.certain")
        .mark_text(fontSize=10, fontWeight="bold" if bold else "normal")
        .encode(text="text:N", color=ink)
        for bold in (True, False)
    ]
    return alt.layer(fill, *texts)


def forest(rows: pd.DataFrame, axis: str) -> alt.LayerChart:
    """Draw estimates with intervals, each below its words; a line marks zero.

    Args:
        rows: Columns `words`, `estimate`, `low`, `high`, `seeds_low`, `seeds_high`, `colour` and `paper`: the
            paper's figure, or NaN if it has none.
        axis: Title of the horizontal axis, with the unit.
    """
    table = rows.copy()
    words = [textwrap.wrap(text, 54) for text in rows["words"]]
    table["words"] = ["\n".join(parts) for parts in words]
    table["position"] = [50.0 * number + 38 for number in range(len(table))]
    table["above"] = [
        position - 21 - 12 * (len(parts) - 1)
        for position, parts in zip(table["position"], words, strict=True)
    ]
    table["from"], table["to"] = table["position"] - 8, table["position"] + 8
    ends = table[["low", "high", "seeds_low", "seeds_high", "paper"]]
    low, high = min(0.0, ends.min().min()), max(0.0, ends.max().max())
    margin = 0.04 * (high - low or 1.0)
    x = alt.Scale(domain=[low - margin, high + margin], nice=False)
    own = alt.Y("position:Q", scale=None, axis=None)
    base = alt.Chart(table, width=310, height=50 * len(table) + 6)
    drawn = base.encode(y=own, color=alt.Color("colour:N", scale=None))
    at = alt.X("estimate:Q", scale=x, axis=alt.Axis(title=axis, tickCount=6, labelExpr=SIGNED, grid=False))
    zero = base.mark_rule(color=MUTED).encode(
        x=alt.XDatum(0, scale=x), y=alt.Y("from:Q", scale=None, axis=None), y2="to:Q"
    )
    text = base.mark_text(align="left", baseline="middle", lineBreak="\n", lineHeight=12, color=INK)
    return alt.layer(
        zero,
        drawn.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", scale=x), x2="high:Q"),
        drawn.mark_rule(strokeWidth=5, opacity=0.5).encode(
            x=alt.X("seeds_low:Q", scale=x), x2="seeds_high:Q"
        ),
        drawn.mark_point(size=60, filled=True, opacity=1).encode(x=at),
        base.transform_filter("isValid(datum.paper)")
        .mark_point(size=70, shape="diamond", strokeWidth=1.6, color=INK, opacity=1)
        .encode(y=own, x=alt.X("paper:Q", scale=x)),
        text.encode(x=alt.value(0), y=alt.Y("above:Q", scale=None, axis=None), text="words:N"),
    )

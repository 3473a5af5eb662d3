"""The kinds of picture of a study: lines over the volume, a heat map, intervals one below the other."""

# pandas says what it returns too widely.
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
"""Of a picture's plot in pixels: with its labels it fits a phone."""

SIGNED = "datum.value == 0 ? '0' : format(datum.value, '+~f')"
"""Labels of differences."""

LABEL = 13
"""Pixels from one name at the end of a line to the next."""


@dataclass(frozen=True)
class Look:
    """An arm's colour, shape and place among the others."""

    colour: str
    shape: str
    number: int


Looks = dict[str, Look]


def looks_of(arms: Sequence[str]) -> Looks:
    """The look of each arm."""
    return {
        arm: Look(COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)], i)
        for i, arm in enumerate(names.sort_arms(arms))
    }


@dataclass(frozen=True)
class Level:
    """A line across a picture that the arms are compared with."""

    interval: Interval
    label: str


def lines(
    points: pd.DataFrame, looks: Looks, axis: str, level: Level | None = None, signed: bool = False
) -> alt.LayerChart:
    """A line an arm over the volume, with intervals.

    Args:
        points: What `average_over_seeds` returns, of one target.
        looks: How each arm looks.
        axis: Title of the vertical axis, with its unit.
        level: What the arms are compared with.
        signed: Whether its numbers are differences, shown with their sign.
    """
    low, high = _span(points, level)
    x = _volume_axis(points["volume"].unique().tolist())
    y = alt.Scale(domain=[low, high], nice=False, zero=False)
    table = _placed(points, looks)
    base = alt.Chart(table, width=WIDTH, height=HEIGHT).encode(
        x=x, color=alt.Color("colour:N", scale=None), y=alt.Y("mean:Q", scale=y, axis=_axis(axis, signed))
    )
    ranges = base.mark_rule(strokeWidth=1.5, opacity=0.55, clip=True).encode(y="low:Q", y2="high:Q")
    shape = alt.Shape("shape:N", scale=None)
    marks = base.mark_point(size=46, strokeWidth=1.6, opacity=1).encode(
        shape=shape, fill=alt.Fill("fill:N", scale=None)
    )
    level_layers = _level(level, y) if level else []
    ends = _ends(table, level, low, high)
    layers = [
        *level_layers,
        ranges.transform_filter("isValid(datum.low)"),
        base.mark_line(strokeWidth=1.8),
        marks,
        ends,
    ]
    return alt.layer(*layers)


def _placed(points: pd.DataFrame, looks: Looks) -> pd.DataFrame:
    """The points with their looks; arms of one volume stand a little beside each other."""
    decades = math.log10(points["volume"].max() / points["volume"].min()) or 1.0
    table = points[["intermediate", "volume", "mean", "low", "high", "complete"]].copy()
    own = [looks[arm] for arm in table["intermediate"]]
    step = decades * min(0.016, 0.08 / len(looks))
    shift = [(look.number - (len(looks) - 1) / 2) * step for look in own]
    table["place"] = table["volume"] * [10**s for s in shift]
    table["colour"], table["shape"] = [look.colour for look in own], [look.shape for look in own]
    table["fill"] = table["colour"].where(table["complete"], PAPER)
    return table


def _span(points: pd.DataFrame, level: Level | None) -> tuple[float, float]:
    """From where to where the vertical axis goes: all means, and intervals unless they dwarf the means."""
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
    """A log axis marked at the volumes, or at powers of ten where there are many."""
    low, high = min(volumes), max(volumes)
    edge = max((high / low) ** 0.07, 1.35)
    scale = alt.Scale(type="log", domain=[low / edge, high * edge], nice=False)
    marked = sorted(volumes)
    if len(marked) > 5 or any(b / a < 1.8 for a, b in pairwise(marked)):
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        marked = [10**power for power in range(first, last + 1)] or [low]
    axis = alt.Axis(title="Intermediate training examples", values=marked, format=".3~s", grid=False)
    return alt.X("place:Q", scale=scale, axis=axis)


def _axis(title: str, signed: bool) -> alt.Axis:
    """The vertical axis, its title above it."""
    return alt.Axis(
        title=title, titleAngle=0, titleAlign="left", titleAnchor="end", titleY=-12, titleX=-28,
        tickCount=5, domain=False, ticks=False, labelExpr=SIGNED if signed else "datum.label",
    )  # fmt: skip


def _level(level: Level, y: alt.Scale) -> list[alt.Chart]:
    """The level and its interval across the picture."""
    mean, low, high = level.interval
    table = pd.DataFrame([{"mean": mean, "low": low, "high": high}])
    base = alt.Chart(table, width=WIDTH, height=HEIGHT)
    band = base.mark_rect(color=MUTED, opacity=0.16, clip=True).encode(y=alt.Y("low:Q", scale=y), y2="high:Q")
    line = base.mark_rule(color=INK, strokeDash=[5, 3], strokeWidth=1.2)
    line = line.encode(y=alt.Y("mean:Q", scale=y))
    return [line] if math.isnan(low) else [band, line]


def _ends(table: pd.DataFrame, level: Level | None, low: float, high: float) -> alt.Chart:
    """The name of each arm beside the end of its line, at `low` … `high` of the vertical axis."""
    last = table.sort_values("volume").groupby("intermediate").tail(1)
    found = [
        (names.task_name(arm), mean, colour)
        for arm, mean, colour in zip(last["intermediate"], last["mean"], last["colour"], strict=True)
    ]
    if level:
        found.append((level.label, level.interval.estimate, INK))
    wanted = [HEIGHT * (high - mean) / (high - low) for _, mean, _ in found]
    labels = pd.DataFrame(found, columns=pd.Index(["label", "mean", "colour"]))
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
    """Effects of one arm, language by target; bold where the interval excludes zero.

    Args:
        cells: Columns `row`, `column`, `mean` in points, its `text`, and whether it is `certain`.
        rows: Order of the rows.
        columns: Order of the columns.
        reach: Points at which the colours end.
    """
    size = min(46, 276 // len(columns))
    angle = 0 if size >= 46 else -40
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
    """Estimates with intervals, each below its words; a line marks zero.

    Args:
        rows: Columns `words`, `estimate`, `low`, `high`, `seeds_low`, `seeds_high` and `colour`.
        axis: Title of the horizontal axis, with its unit.
    """
    table = rows.copy()
    words = [textwrap.wrap(text, 54) for text in rows["words"]]
    table["words"] = ["\n".join(parts) for parts in words]
    table["place"] = [50.0 * number + 38 for number in range(len(table))]
    table["above"] = [
        place - 21 - 12 * (len(parts) - 1) for place, parts in zip(table["place"], words, strict=True)
    ]
    table["from"], table["to"] = table["place"] - 8, table["place"] + 8
    ends = table[["low", "high", "seeds_low", "seeds_high"]]
    low, high = min(0.0, ends.min().min()), max(0.0, ends.max().max())
    margin = 0.04 * (high - low or 1.0)
    x = alt.Scale(domain=[low - margin, high + margin], nice=False)
    own = alt.Y("place:Q", scale=None, axis=None)
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
        text.encode(x=alt.value(0), y=alt.Y("above:Q", scale=None, axis=None), text="words:N"),
    )

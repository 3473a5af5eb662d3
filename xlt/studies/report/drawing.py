"""How figures look, and how they become SVG for the page and files of their own.

A figure is drawn by Vega-Lite (altair) and made an image without a browser (vl-convert). The page's SVG takes
its ink from the page's style, so that it is legible on light and on dark paper; it holds no script.
"""

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from PIL import Image

SVG = "http://www.w3.org/2000/svg"
INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#dfe3e8", "#fffffe"
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

COLOURS = (
    *("#0072b2", "#bf5300", "#00795a", "#a8487f", "#8a6a00"),
    *("#4f5560", "#882255", "#443399", "#6e6e1e", "#177a71"),
)
"""Of arms on light paper, told apart by the colour-blind; each is also told by shape and name.

Source: Okabe and Ito (2008), https://jfly.uni-koeln.de/color, and Tol (2021),
https://personal.sron.nl/~pault, darkened to a contrast of 4.5 or more on white.
"""

DARK = (
    *("#56b4e9", "#ff9a4d", "#2fc79b", "#ec9fcb", "#e6c229"),
    *("#b6bcc6", "#e07fa8", "#aa9df0", "#cbcb62", "#6fd8c6"),
)
"""The same on dark paper."""

SHAPES = (
    *("circle", "square", "triangle-up", "diamond"),
    *("cross", "triangle-down", "triangle-right", "triangle-left"),
)

VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    colour: f"var(--arm-{number})" for number, colour in enumerate(COLOURS)
}
"""Colours that the page's style decides on."""

NOTHING = ("", "M0,0h0v0h0Z")
"""Paths without a mark."""

IDLE = {"class", "pointer-events", "font-family", "stroke-miterlimit", "version"}
"""Attributes that alter nothing on the page."""


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Args:
        chart: The chart, without a title.
        title: What it is of; empty where the figure says it.
        alt: What it shows, in words.
        note: A sentence below the title.
    """

    chart: alt.LayerChart
    title: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """Pictures that belong together, with what they say and their numbers.

    Args:
        name: Name of its files.
        title: What it shows.
        says: Sentences on how to read it and what it shows.
        panels: The pictures.
        numbers: What they are drawn from, as a reader takes it.
        columns: Pictures side by side in its files.
    """

    name: str
    title: str
    says: Sequence[str]
    panels: Sequence[Panel]
    numbers: pd.DataFrame
    columns: int = 3


def svg(panel: Panel, prefix: str) -> str:
    """A picture as an element of a page.

    Args:
        panel: The picture.
        prefix: Goes before its ids, which must differ from those of the page's other pictures.
    """
    text = io.StringIO()
    styled(panel.chart, "transparent").save(text, format="svg")
    root = ET.fromstring(text.getvalue())
    _clean(root, prefix)
    root.set("role", "img")
    root.set("aria-label", panel.alt)
    ET.register_namespace("", SVG)
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, prefix: str) -> None:
    """Drop what draws nothing, leave colours to the page, and make ids unique."""
    for child in list(element):
        if child.get("display") == "none" or child.get("fill") == "transparent" or child.get("d") in NOTHING:
            element.remove(child)
        else:
            _clean(child, prefix)
    for name, value in list(element.attrib.items()):
        if name in IDLE:
            del element.attrib[name]
        elif name == "id":
            element.set(name, prefix + value)
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
        elif value in VARIABLES:
            element.set(name, VARIABLES[value])


def save(figure: Figure, stem: Path) -> None:
    """Write a figure's files, PNG and PDF, on white paper.

    Args:
        figure: The figure.
        stem: The files' path without the suffix.
    """
    charts = [panel.chart.properties(title=panel.title) for panel in figure.panels]
    whole = alt.concat(*charts, columns=figure.columns, spacing=28)
    whole = whole.resolve_scale(color="independent", shape="independent", fill="independent")
    title = alt.Title(figure.title, fontSize=16, anchor="start", offset=16)
    finished = styled(whole.properties(title=title), "#ffffff")
    finished.save(stem.with_suffix(".pdf"))
    picture = io.BytesIO()
    finished.save(picture, format="png", scale_factor=2)
    # A figure has few colours: a palette of them makes a sixth of the file.
    Image.open(picture).convert("RGB").quantize(256).save(stem.with_suffix(".png"), optimize=True)


def styled(chart: Any, background: str) -> Any:
    """The chart in the one style of all figures."""
    axis = {"labelColor": MUTED, "titleColor": INK, "titleFontWeight": "normal", "domainColor": MUTED}
    axis |= {"gridColor": GRID, "tickColor": MUTED, "labelFontSize": 11, "titleFontSize": 12}
    title = {"color": INK, "fontSize": 13, "anchor": "start", "offset": 8}
    config = {
        "font": FONT, "aria": False, "background": background, "view": {"stroke": None},
        "axis": axis, "title": title, "text": {"color": INK, "fontSize": 11},
        "legend": {"labelColor": MUTED, "titleColor": INK, "titleFontWeight": "normal"},
    }  # fmt: skip
    return chart.properties(config=config)


def spread_out(places: Sequence[float], gap: float) -> list[float]:
    """Places moved as little as need be to lie at least `gap` apart, in their order.

    Places that would lie too close form a block around their mean; blocks that touch become one.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[list[int]] = []
    for i in order:
        blocks.append([i])
        while len(blocks) > 1 and _ends(blocks[-2], places, gap)[1] + gap > _ends(blocks[-1], places, gap)[0]:
            last = blocks.pop()
            blocks[-1] += last
    moved = [0.0] * len(places)
    for block in blocks:
        first = _ends(block, places, gap)[0]
        for number, i in enumerate(block):
            moved[i] = first + number * gap
    return moved


def _ends(block: Sequence[int], places: Sequence[float], gap: float) -> tuple[float, float]:
    """First and last place of a block around its mean."""
    half = (len(block) - 1) * gap / 2
    middle = sum(places[i] for i in block) / len(block)
    return middle - half, middle + half


def number(value: float, sign: str = "", digits: int = 1) -> str:
    """A number as text: `+1.2` or `−0.3` where signed, and nothing below zero that is zero when rounded."""
    text = f"{value:{sign}.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")

"""The style of figures, and their conversion to SVG for the page and to files.

Vega-Lite (altair) draws a figure and vl-convert renders it without a browser. The SVG on the page takes its
colours from the page's style sheet, so that it is legible in light and in dark mode; it contains no script.
"""

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert
from PIL import Image

SVG = "http://www.w3.org/2000/svg"
VEGA_LITE = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
"""Version of Vega-Lite that altair writes, such as 6.1."""

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#dfe3e8", "#fffffe"
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

COLOURS = (
    *("#0072b2", "#bf5300", "#00795a", "#a8487f", "#8a6a00"),
    *("#4f5560", "#882255", "#443399", "#6e6e1e", "#177a71"),
)
"""Colours of arms on a light background, safe for colour-blind readers; each arm also has a shape.

Source: Okabe and Ito (2008), https://jfly.uni-koeln.de/color, and Tol (2021),
https://personal.sron.nl/~pault, darkened to a contrast of 4.5 or more on white.
"""

DARK = (
    *("#56b4e9", "#ff9a4d", "#2fc79b", "#ec9fcb", "#e6c229"),
    *("#b6bcc6", "#e07fa8", "#aa9df0", "#cbcb62", "#6fd8c6"),
)
"""The same colours for a dark background."""

SHAPES = (
    *("circle", "square", "triangle-up", "diamond"),
    *("cross", "triangle-down", "triangle-right", "triangle-left"),
)

VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    colour: f"var(--arm-{number})" for number, colour in enumerate(COLOURS)
}
"""Colours that the page's style sheet sets."""

EMPTY_PATHS = ("", "M0,0h0v0h0Z")
"""Paths that draw nothing."""

UNUSED_ATTRIBUTES = {"class", "pointer-events", "font-family", "stroke-miterlimit", "version"}
"""Attributes without an effect on the page."""


@dataclass(frozen=True)
class Panel:
    """One chart of a figure.

    Args:
        chart: The chart, without a title.
        title: Title of the chart; empty if the figure's title is enough.
        alternative: Text of the chart for readers who cannot see it.
        note: A sentence below the title. Defaults to no sentence.
    """

    chart: alt.LayerChart
    title: str
    alternative: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """Charts that belong together, with their explanation and numbers.

    Args:
        name: Name of the figure's files.
        title: Title.
        sentences: Sentences on the result and on how to read the charts.
        panels: The charts.
        numbers: The numbers of the charts as a table for the reader.
        columns: Number of charts side by side in the files. Defaults to 3.
    """

    name: str
    title: str
    sentences: Sequence[str]
    panels: Sequence[Panel]
    numbers: pd.DataFrame
    columns: int = 3


def svg(panel: Panel, prefix: str) -> str:
    """Return a chart as an SVG element for a page.

    Args:
        panel: The chart.
        prefix: Prefix of the element's ids, unique on the page.
    """
    root = ET.fromstring(vl_convert.vegalite_to_svg(_spec_of(panel.chart, "transparent"), VEGA_LITE))
    _clean_svg(root, prefix)
    root.set("role", "img")
    root.set("aria-label", panel.alternative)
    ET.register_namespace("", SVG)
    return ET.tostring(root, encoding="unicode")


def _clean_svg(element: ET.Element, prefix: str) -> None:
    """Remove invisible parts, replace colours by variables of the style sheet, and make ids unique."""
    for child in list(element):
        if (
            child.get("display") == "none"
            or child.get("fill") == "transparent"
            or child.get("d") in EMPTY_PATHS
        ):
            element.remove(child)
        else:
            _clean_svg(child, prefix)
    for name, value in list(element.attrib.items()):
        if name in UNUSED_ATTRIBUTES:
            del element.attrib[name]
        elif name == "id":
            element.set(name, prefix + value)
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
        elif value in VARIABLES:
            element.set(name, VARIABLES[value])


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as PNG and PDF on white.

    Args:
        figure: The figure.
        stem: Path of the files without the suffix.
    """
    charts = [panel.chart.properties(title=panel.title) for panel in figure.panels]
    combined = alt.concat(*charts, columns=figure.columns, spacing=28)
    combined = combined.resolve_scale(color="independent", shape="independent", fill="independent")
    title = alt.Title(figure.title, fontSize=16, anchor="start", offset=16)
    spec = _spec_of(combined.properties(title=title), "#ffffff")
    stem.with_suffix(".pdf").write_bytes(vl_convert.vegalite_to_pdf(spec, VEGA_LITE))
    picture = io.BytesIO(vl_convert.vegalite_to_png(spec, VEGA_LITE, scale=2))
    # A figure has few colours: with a palette the file is six times smaller.
    Image.open(picture).convert("RGB").quantize(256).save(stem.with_suffix(".png"), optimize=True)


def _spec_of(chart: Any, background: str) -> dict[str, Any]:
    """Return a chart in the common style as Vega-Lite. Altair's check would take as long as the drawing."""
    return apply_style(chart, background).to_dict(validate=False)


def apply_style(chart: Any, background: str) -> Any:
    """Return the chart in the common style of all figures."""
    axis = {"labelColor": MUTED, "titleColor": INK, "titleFontWeight": "normal", "domainColor": MUTED}
    axis |= {"gridColor": GRID, "tickColor": MUTED, "labelFontSize": 11, "titleFontSize": 12}
    title = {"color": INK, "fontSize": 13, "anchor": "start", "offset": 8}
    config = {
        "font": FONT, "aria": False, "background": background, "view": {"stroke": None},
        "axis": axis, "title": title, "text": {"color": INK, "fontSize": 11},
        "legend": {"labelColor": MUTED, "titleColor": INK, "titleFontWeight": "normal"},
    }  # fmt: skip
    return chart.properties(config=config)


def spread_out(positions: Sequence[float], gap: float) -> list[float]:
    """Shift positions as little as possible so that they are at least `gap` apart, in the same order.

    Positions that are too close form a block around their mean; blocks that touch are merged.

    Args:
        positions: Positions in pixels.
        gap: Minimum distance in pixels.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    blocks: list[list[int]] = []
    for i in order:
        blocks.append([i])
        while (
            len(blocks) > 1
            and _ends(blocks[-2], positions, gap)[1] + gap > _ends(blocks[-1], positions, gap)[0]
        ):
            last = blocks.pop()
            blocks[-1] += last
    shifted = [0.0] * len(positions)
    for block in blocks:
        first = _ends(block, positions, gap)[0]
        for number, i in enumerate(block):
            shifted[i] = first + number * gap
    return shifted


def _ends(block: Sequence[int], positions: Sequence[float], gap: float) -> tuple[float, float]:
    """Return the first and the last position of a block around its mean."""
    half = (len(block) - 1) * gap / 2
    middle = sum(positions[i] for i in block) / len(block)
    return middle - half, middle + half

"""Heat map: a picture of a table of percentages."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from xlt.system.files import write_atomically
from xlt.system.tables import number


def heat_map(
    values: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    title: str,
    stars: np.ndarray | None = None,
) -> Figure:
    """Return a picture of percentages, each written into its cell without decimals. NaN stays white.

    The colours change fastest near 0, so that low scores can be told apart beside high ones.

    Args:
        values: The values, 0 to 100. NaN marks a missing value.
        rows: Names of the rows.
        columns: Names of the columns.
        label: Label of the colour bar.
        title: Title of the picture. A long title is broken into lines.
        stars: True for the values with a star, in the shape of `values`. Defaults to no star.
    """
    width = max(4.5, 2.4 + 0.42 * len(columns))
    lines = textwrap.wrap(title, int(11 * width))
    height = 2.1 + 0.42 * len(rows) + 0.2 * len(lines)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="viridis", norm=PowerNorm(0.5, 0, 100), aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        is_dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        star = "*" if stars is not None and stars[row, column] else ""
        text = number(float(values[row, column]), digits=0) + star
        axes.text(
            column, row, text, ha="center", va="center", fontsize=7,
            color="white" if is_dark else "black",
        )  # fmt: skip
    figure.colorbar(image, ax=axes, label=label, pad=0.01, ticks=[0, 5, 10, 25, 50, 75, 100])
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture at 160 dots an inch. The file appears when it is complete."""
    content = BytesIO()
    with mpl.rc_context({"savefig.dpi": 160}):
        figure.savefig(content, format=path.suffix[1:])
    write_atomically(path, content.getvalue())

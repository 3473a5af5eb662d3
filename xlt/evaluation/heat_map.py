"""Heat map: a picture of a table of numbers."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure


def heat_map(
    values: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    colours: str,
    limits: tuple[float, float],
    stars: np.ndarray | None = None,
) -> Figure:
    """Return a picture of values, each written into its cell without decimals. Cells with NaN stay white.

    Args:
        values: The values. NaN marks a missing value.
        rows: Names of the rows.
        columns: Names of the columns.
        label: Label of the colour bar.
        colours: Name of matplotlib's colour map.
        limits: Values at the two ends of the colour map.
        stars: True for the values with a star, in the shape of `values`. Defaults to no star.
    """
    figure = Figure(figsize=(2.2 + 0.42 * len(columns), 1.4 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        is_dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        star = "*" if stars is not None and stars[row, column] else ""
        axes.text(
            column, row, f"{values[row, column]:.0f}{star}", ha="center", va="center", fontsize=7,
            color="white" if is_dark else "black",
        )  # fmt: skip
    figure.colorbar(image, ax=axes, label=label, shrink=0.9, pad=0.01)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture at 160 dots an inch."""
    with mpl.rc_context({"savefig.dpi": 160}):
        figure.savefig(path)

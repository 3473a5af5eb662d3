"""Text tables with aligned columns, numbers as text, and JSON that every reader accepts."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def aligned(lines: Sequence[Sequence[str]], rule_before: int | None = None, num_left: int = 1) -> str:
    """Return a text table with columns of equal width.

    Args:
        lines: Cells by line. The first line is the heading, with a rule below it.
        rule_before: Index of a line with a rule above it. Defaults to no such line.
        num_left: Number of left-aligned columns; the others are right-aligned. Defaults to 1.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [str.ljust] * num_left + [str.rjust] * (len(widths) - num_left)
    rows = [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True))
        for line in lines
    ]
    rule = "-" * len(rows[0])
    for place in (rule_before, 1):
        if place is not None:
            rows.insert(place, rule)
    return "\n".join(row.rstrip() for row in rows)


def as_json(values: Any, indent: int | None = 1) -> str:
    """Return the text of a JSON file. NaN and infinity become null, because JSON has neither.

    Args:
        values: Content of the file.
        indent: Spaces per level, or None to write one line. Defaults to 1.
    """
    return json.dumps(finite(values), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def finite(values: Any) -> Any:
    """Return the values with None for each NaN and infinity."""
    if isinstance(values, float) and not math.isfinite(values):
        return None
    if isinstance(values, Mapping):
        return {key: finite(value) for key, value in values.items()}
    return [finite(value) for value in values] if isinstance(values, (list, tuple)) else values


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 step` or `1,200 steps`.

    Args:
        count: The number.
        noun: The noun in the singular; its plural ends in -s.
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def number(value: float, sign: str = "", digits: int = 1) -> str:
    """Return a number as text, such as `+1.2` or `−0.3`; a number that rounds to zero has no sign."""
    text = f"{value:{sign}.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")

"""Tables of text, and JSON as files hold it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def aligned(lines: Sequence[Sequence[str]], rule_before: int | None = None, num_left: int = 1) -> str:
    """Columns of equal width.

    Args:
        lines: Their cells; the first line is a heading, with a rule below it.
        rule_before: Number of a line with a rule above it.
        num_left: Columns that are written to the left; the others stand to the right.
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
    """The file's text, which every reader of JSON takes: a figure that is NaN or infinite is null.

    Args:
        values: What the file holds.
        indent: Spaces a level; None for one line.
    """
    return json.dumps(_plain(values), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(values: Any) -> Any:
    """The values with None for each figure that JSON cannot say."""
    if isinstance(values, float) and not math.isfinite(values):
        return None
    if isinstance(values, Mapping):
        return {key: _plain(value) for key, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, (list, tuple)) else values

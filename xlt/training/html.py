"""Jinja templates of the reports of runs and studies. All text is escaped, because names come from users."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PAGES = Path(__file__).parent / "pages"
"""Folder of the templates and of the style sheet that all reports share."""


def environment(*folders: Path) -> Environment:
    """Return the environment of templates: those of the folders, then the shared ones.

    Args:
        folders: Folders with templates of their own.
    """
    return Environment(
        loader=FileSystemLoader([*folders, PAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def table_of(head: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, Any]:
    """Return a table in the form that the templates expect: head, and rows of (text, is a number).

    Args:
        head: Titles of the columns.
        rows: Cells by row.
    """
    cells = [[(str(cell), is_number(str(cell))) for cell in row] for row in rows]
    return {"head": list(head), "rows": cells}


def is_number(text: str) -> bool:
    """Return True if a cell is a number, which is aligned to the right."""
    return re.match(r"[+\-−]?\d", text) is not None

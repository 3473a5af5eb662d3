"""Extension of griffe: `<org>/<name>` in a docstring is text, not a tag of HTML."""

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """Escape angle brackets in docstrings, outside code."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Escape the docstring of an object that was read."""
        if obj.docstring:
            parts = obj.docstring.value.split("`")
            parts[::2] = [re.sub(r"<(?=\w)", "&lt;", part) for part in parts[::2]]
            obj.docstring.value = "`".join(parts)

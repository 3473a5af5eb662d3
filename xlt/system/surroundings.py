"""The process around xlt: a terminal that lacks characters, and a user without a home.

`import xlt` runs before any library is imported, and some look for the home at their import. So both are set
there, for every command and for every process that a command starts.
"""

import codecs
import io
import os
import sys
import tempfile
from pathlib import Path

PLAIN = "xlt.plain"
"""Name of the error handler that writes what the terminal's encoding has."""

SPELLED = {"–": "-", "…": "...", "×": "x", "−": "-"}
"""Characters that tables are made of, for terminals that lack them."""


def print_anywhere() -> None:
    """Have standard output write an escape for a character that its encoding lacks, not raise."""
    codecs.register_error(PLAIN, _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=PLAIN)


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Spell the first character that cannot be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start]
    escaped = lacking.encode("ascii", "backslashreplace").decode("ascii")
    return SPELLED.get(lacking, escaped), error.start + 1


def have_home() -> None:
    """Set HOME to a folder of the user's own for temporary files where the user has none.

    A library that expands `~` makes a folder of that name in the working directory otherwise.
    """
    if os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117  Path.home raises instead
        return
    home = Path(tempfile.gettempdir(), f"xlt-home-{os.getuid()}")
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        home = Path(tempfile.mkdtemp(prefix="xlt-home-"))
    os.environ["HOME"] = str(home)
    print(f"This user has no home: caches go to {home}. Set HOME to keep them elsewhere.", file=sys.stderr)

"""Fixes for the environment of the process: a terminal that lacks characters, and a user without a home.

`import xlt` applies both before any library is imported, because some libraries look for the home when they
are imported. So both hold for every command and for every process that a command starts.
"""

import codecs
import io
import os
import sys
import tempfile
from pathlib import Path

PLAIN = "xlt.plain"
"""Name of the error handler that replaces characters which the terminal's encoding lacks."""

REPLACEMENTS = {"–": "-", "…": "...", "×": "x", "−": "-"}
"""Character of a table → its replacement on a terminal that lacks the character."""


def print_anywhere() -> None:
    """Make stdout and stderr escape a character that their encoding lacks, instead of raising an error."""
    codecs.register_error(PLAIN, _replacement)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=PLAIN)


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return a replacement for the first character that cannot be encoded, and the position after it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    escaped = character.encode("ascii", "backslashreplace").decode("ascii")
    return REPLACEMENTS.get(character, escaped), error.start + 1


def have_home() -> None:
    """Set HOME to a temporary folder of the user if the user has no home.

    Otherwise a library that expands `~` creates a folder named `~` in the working directory.
    """
    if os.path.isabs(os.path.expanduser("~")):  # noqa: PTH111, PTH117  Path.home raises instead
        return
    home = Path(tempfile.gettempdir(), f"xlt-home-{os.getuid()}")
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        home = Path(tempfile.mkdtemp(prefix="xlt-home-"))
    os.environ["HOME"] = str(home)
    print(f"This user has no home: caches go to {home}. Set HOME to keep them elsewhere.", file=sys.stderr)

"""Copy of a run's console output, log.txt: messages, warnings and printed lines of every start of the run."""

import logging
import re
import shlex
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from xlt.system.signals import STOPPED
from xlt.training.provenance import now

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
"""Control sequences of terminals, and control characters other than tab and line feed."""

OTHER_BAR = re.compile(r"(?!step: ).*\d/(\d+|\?) \|.*\| +\d+:\d+.* left")
"""A progress bar other than that of the steps. Each validation draws one for every task."""

OWN_ERRORS = (ValueError, OSError)
"""Errors that the user can fix, whose message is the whole report."""


class ConsoleLog(logging.Handler):
    """Context manager that appends what the console shows to a file. A progress bar leaves its last state.

    A file that cannot be written ends the copy with one warning, and never the run.

    Args:
        path: The file. It is created, or extended by a run that is resumed.
        command: Words of the command, for the first line of the start.
    """

    def __init__(self, path: Path, command: list[str]) -> None:
        super().__init__()
        self._path, self._command = path, command
        self.warnings: list[str] = []
        """Warnings of this start, each once."""
        self._file: TextIO | None = None
        self._streams: list[_Tee] = []
        self._loggers: list[logging.Logger] = []

    def __enter__(self) -> Self:
        """Start to copy standard output, standard error and the messages of all loggers."""
        try:
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            self._give_up(error)
        self.line(f"--- {now()}  {shlex.join(self._command)}")
        self._streams = [_Tee(sys.stdout, self.line), _Tee(sys.stderr, self._error_line)]
        sys.stdout, sys.stderr = self._streams
        everyone = [logging.root, *logging.root.manager.loggerDict.values()]
        # Lightning's loggers do not propagate to the root logger.
        self._loggers = [
            found
            for found in everyone
            if isinstance(found, logging.Logger) and (found is logging.root or not found.propagate)
        ]
        for logger in self._loggers:
            logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Append the reason of the end, and stop copying."""
        for logger in self._loggers:
            logger.removeHandler(self)
        for name, stream in zip(("stdout", "stderr"), self._streams, strict=True):
            stream.finish()
            # Another part of the process may have replaced the stream in the meantime.
            if getattr(sys, name) is stream:
                setattr(sys, name, stream.target)
        if isinstance(error, SystemExit) and error.code == STOPPED:
            self.line("stopped after a signal; the same command resumes the run")
        elif isinstance(error, OWN_ERRORS):
            self.line(f"error: {error}")
        elif error is not None and not isinstance(error, SystemExit):
            self.line("".join(traceback.format_exception(error)).rstrip())
        if self._file is not None:
            self._file.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Append a message."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            self._remember(text)
        self.line(text)

    def line(self, text: str) -> None:
        """Append lines to the file.

        Args:
            text: The lines, without the last line feed.
        """
        if self._file is None:
            return
        try:
            self._file.write(f"{CONTROL.sub('', text)}\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _error_line(self, text: str) -> None:
        """Append a line of standard error, and keep the text of a Python warning."""
        found = re.match(r".*:\d+: \w*Warning: (.*)", text)
        if found:
            self._remember(found[1])
        self.line(text)

    def _remember(self, text: str) -> None:
        """Keep a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _give_up(self, error: Exception) -> None:
        """Stop writing, and warn on the console."""
        self._file = None
        print(f"{self._path} cannot be written ({error}); the run continues without it", file=sys.__stderr__)


class _Tee:
    """Stream that writes to another stream, and passes each finished line to a function."""

    def __init__(self, target: TextIO, line: Any) -> None:
        self.target, self._line = target, line
        self._rest = ""

    def write(self, text: str) -> int:
        """Write text, and pass on its finished lines. A carriage return starts the line anew."""
        written = self.target.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in map(_last_state, lines):
            if not OTHER_BAR.match(line):
                self._line(line)
        # A progress bar redraws its line for hours.
        self._rest = self._rest if len(self._rest) < 2**16 else _last_state(self._rest)
        return written

    def finish(self) -> None:
        """Pass on an unfinished line."""
        if last := _last_state(self._rest):
            self._line(last)
        self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


def _last_state(line: str) -> str:
    """Return what a terminal would show of a line: the part after the last carriage return with text."""
    parts = [part.rstrip() for part in line.split("\r")]
    return next((part for part in reversed(parts) if CONTROL.sub("", part)), "")

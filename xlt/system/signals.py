"""Hears signals and deaths even while the main thread waits inside C, so that nothing hangs.

A thread reads the signals from a pipe into which Python's own C handler writes them. Before training a signal
ends the process at once, for there is nothing to save; in training it is noted, and the processes agree on
the step after which they save and stop (`xlt.training.checkpoint_files`). Whatever happens then is bounded: a
process that is still there after the time limit, or when Ctrl-C is pressed again, is ended.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""SLURM sends the first before it kills, and the second ahead of the time limit where it is asked to; Ctrl-C
sends the third to every process of the terminal."""

ONE_PRESS = 0.5
"""Seconds within which a second SIGINT is the same Ctrl-C: launchers such as torchrun pass it on besides."""

STOPPED = os.EX_TEMPFAIL
"""Exit code of a run that was told to stop and can be continued: 75, "try again" in sysexits.h."""

INTERRUPTED = "stopped by SIGINT; the same command goes on from what is finished"
"""Message of a command that Ctrl-C ends."""

LAUNCHER = "XLT_LAUNCHER"
"""Names the process that started the others of a node, which end when it is gone."""


class Watch:
    """Listens for signals from `with` to its end; one a process.

    Args:
        grace_seconds: Most seconds from a signal to the end of the process.
    """

    def __init__(self, grace_seconds: float = 120.0) -> None:
        self.grace_seconds = grace_seconds
        self.has_begun = False
        """Whether training has: from then on a signal waits for the end of a step."""
        self.heard = ""
        """Name of the first signal heard since training began; empty before."""
        self._heard_at = 0.0
        self.children: Sequence[subprocess.Popen[bytes]] = ()
        """Processes that this one has started."""
        self._deadline, self._code = float("inf"), STOPPED
        self._launcher = 0
        self._handlers: dict[int, object] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to listen; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._find_launcher()
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._former = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._handlers = {number: signal.signal(number, _note) for number in SIGNALS}
            self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the processes started from here, unless this one failed; listen no more."""
        if kind is None or kind is SystemExit:
            self._wait_for_children()
        if self._thread is None:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._former)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)
        if not self._launcher:
            os.environ.pop(LAUNCHER, None)

    def end_within_limit(self, code: int) -> None:
        """From now on the process has the time limit to end by itself, else it ends with this exit code."""
        self._deadline, self._code = time.monotonic() + self.grace_seconds, code

    def leave(self, code: int, reason: str) -> None:
        """End this process and those it has started, whatever they are doing."""
        for child in self.children:
            child.kill()
        say(f"error: {reason}")
        os._exit(code)

    def _find_launcher(self) -> None:
        """Know the process that started this one, if any did; tell those that this one will start."""
        self._launcher = launcher_of()
        if not self._launcher:
            os.environ[LAUNCHER] = str(os.getpid())

    def _wait_for_children(self) -> None:
        """Let the others end; end those that do not."""
        until = time.monotonic() + self.grace_seconds
        for child in self.children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()

    def _listen(self) -> None:
        """Look at the pipe, the clock and the launcher until told to end."""
        while True:
            ready, _, _ = select.select([self._read], [], [], 1.0)
            numbers = os.read(self._read, 64) if ready else b""
            if 0 in numbers:
                return
            for number in numbers:
                if number in SIGNALS:
                    self._hear(signal.Signals(number).name)
            if time.monotonic() > self._deadline:
                self.leave(
                    self._code, f"still there {self.grace_seconds:g} s after {self.heard or 'its end'}"
                )
            if self._launcher and os.getppid() != self._launcher:
                self.leave(1, "the process that started this one is gone")

    def _hear(self, name: str) -> None:
        """Stop at once before training or at a second Ctrl-C, else note the signal."""
        if not self.has_begun:
            self._leave_with_launcher(name, f"{name} before training: the same command starts it")
        now = time.monotonic()
        if not self.heard:
            self.heard, self._heard_at = name, now
            self.end_within_limit(STOPPED)
            if name == "SIGINT" and not self._launcher:
                say("SIGINT: the run stops after this step; Ctrl-C again ends it at once")
        elif name == "SIGINT" and now - self._heard_at > ONE_PRESS:
            self._leave_with_launcher(
                name, "a second SIGINT: the same command continues from the last checkpoint"
            )

    def _leave_with_launcher(self, name: str, reason: str) -> None:
        """End this process and the one that started it, which alone says why."""
        if self._launcher:
            _pass_on(signal.Signals[name])
            os._exit(STOPPED)
        self.leave(STOPPED, reason)


@contextlib.contextmanager
def bounded_end(patience: float = 30.0) -> Iterator[None]:
    """See that the process ends soon after the block, however that is left.

    Args:
        patience: Most seconds for what Python and its libraries still have to do, such as W&B's farewell.
    """
    code = 1
    try:
        yield
    except SystemExit as stop:
        code = stop.code
        raise
    finally:
        timer = threading.Timer(patience, os._exit, (code,))
        timer.daemon = True
        timer.start()


def leave_at_signals() -> None:
    """Until a `Watch` listens: end with the code that says go on, for there is nothing to save."""
    for number in SIGNALS:
        signal.signal(number, _leave_now)


def _leave_now(number: int, _: object) -> None:
    """End this process, and the one that started it."""
    _pass_on(number)
    if number == signal.SIGINT and not launcher_of():
        say(INTERRUPTED)
    os._exit(STOPPED)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C unwind the block, so that nothing half made stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def outlives_launcher(seconds: float) -> bool:
    """Wait; return True as soon as the process that started this one is gone.

    Args:
        seconds: Longest wait.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if launcher_of() and os.getppid() != launcher_of():
            return True
        time.sleep(0.1)
    return False


def say(line: str) -> None:
    """Write a line to stderr, whatever the other threads are doing."""
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())


def launcher_of() -> int:
    """The process of this node that started this one and the others, if Lightning's launcher did; else 0."""
    found = int(os.environ.get(LAUNCHER, "0")) if int(os.environ.get("LOCAL_RANK", "0")) else 0
    return found if found != os.getpid() else 0


def _pass_on(number: int) -> None:
    """Tell the launcher, before training, what this process was told."""
    if launcher_of():
        with contextlib.suppress(ProcessLookupError):
            os.kill(launcher_of(), number)


def _note(number: int, frame: object) -> None:
    """Nothing: the pipe has the signal's number already."""

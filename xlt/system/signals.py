"""Handling of signals, and of the death of other processes, even while the main thread waits inside C code.

A thread reads signals from a pipe into which Python's C handler writes them. Before training, a signal ends
the process at once, because there is nothing to save. During training the signal is stored, and the ranks
agree on a step after which they save and stop (`xlt.training.checkpoint_callback`). The shutdown is bounded:
a process that is still running after the grace period, or at a second Ctrl-C, is ended.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Handled signals. SLURM sends SIGTERM before it kills, and SIGUSR1 some time before the job's limit if asked
to; Ctrl-C sends SIGINT to every process of the terminal."""

SAME_CTRL_C_SECONDS = 0.5
"""Seconds within which a second SIGINT belongs to the same Ctrl-C: launchers such as torchrun forward it."""

STOPPED = os.EX_TEMPFAIL
"""Exit code of a run that was stopped and can be resumed: 75. Source: EX_TEMPFAIL in sysexits.h."""

ENDED_BY_CTRL_C = 128 + signal.SIGINT
"""Exit code after a second Ctrl-C, and of a command that has nothing to save: 130, as in a shell."""

INTERRUPTED = "stopped by SIGINT; the same command resumes from the work that is finished"
"""Message of a command that Ctrl-C ends."""

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process gets when its parent ends. Source: linux/prctl.h."""

LAUNCHER_VARIABLE = "XLT_LAUNCHER"
"""Environment variable with the process that started the other ranks of the node. They end when it ends."""


def stopping_with_parent() -> Callable[[], None]:
    """Return a function for a new process, by which Linux sends it SIGTERM when this process ends."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)

    return prepare


class SignalWatcher:
    """Context manager that listens for signals. A process has at most one.

    Args:
        grace_seconds: Grace period in seconds, from a signal to the end of the process. Defaults to 120.
    """

    def __init__(self, grace_seconds: float = 120.0) -> None:
        self.grace_seconds = grace_seconds
        self.is_training = False
        """True once training has begun: a signal then waits for the end of a step."""
        self.received = ""
        """Name of the first signal since training began, or an empty text."""
        self._received_at = 0.0
        self.children: Sequence[subprocess.Popen[bytes]] = ()
        """Processes that this process has started."""
        self._deadline, self._exit_code = float("inf"), STOPPED
        self._launcher = 0
        self._handlers: dict[int, object] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start listening. Nothing happens outside the main thread, which alone receives signals."""
        if threading.current_thread() is threading.main_thread():
            self._find_launcher()
            self._read, self._write = os.pipe()
            os.set_blocking(self._write, False)
            self._former = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._handlers = {number: signal.signal(number, _do_nothing) for number in SIGNALS}
            self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the child processes unless this process failed, then stop listening."""
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
            os.environ.pop(LAUNCHER_VARIABLE, None)

    def start_deadline(self, exit_code: int) -> None:
        """Start the grace period. A process that is still running at its end exits with this code."""
        self._deadline, self._exit_code = time.monotonic() + self.grace_seconds, exit_code

    def exit_process(self, exit_code: int, reason: str) -> None:
        """End this process and its children at once, even if they are busy.

        Args:
            exit_code: Exit code of this process.
            reason: Error message.
        """
        for child in self.children:
            child.kill()
        print_line(f"error: {reason}")
        os._exit(exit_code)

    def _find_launcher(self) -> None:
        """Store the process that started this one, or name this process to those that it will start."""
        self._launcher = launcher_pid()
        if not self._launcher:
            os.environ[LAUNCHER_VARIABLE] = str(os.getpid())

    def _wait_for_children(self) -> None:
        """Wait until the children have ended. Kill those that are still running after the grace period."""
        until = time.monotonic() + self.grace_seconds
        for child in self.children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()

    def _listen(self) -> None:
        """Check the pipe, the deadline and the launcher until a zero byte arrives."""
        while True:
            ready, _, _ = select.select([self._read], [], [], 1.0)
            numbers = os.read(self._read, 64) if ready else b""
            if 0 in numbers:
                return
            for number in numbers:
                if number in SIGNALS:
                    self._receive(signal.Signals(number).name)
            if time.monotonic() > self._deadline:
                since = self.received or "the run ended"
                self.exit_process(self._exit_code, f"still running {self.grace_seconds:g} s after {since}")
            if self._launcher and os.getppid() != self._launcher:
                self.exit_process(1, "the process that started this rank is gone")

    def _receive(self, name: str) -> None:
        """Store a signal during training. Exit at once before training, and at a second Ctrl-C."""
        if not self.is_training:
            self._exit_with_launcher(
                name, f"{name} before training: start the run again with the same command"
            )
        now = time.monotonic()
        if not self.received:
            self.received, self._received_at = name, now
            self.start_deadline(STOPPED)
            if name == "SIGINT" and not self._launcher and os.environ.get("RANK", "0") == "0":
                print_line("SIGINT: the run stops after this step; Ctrl-C again ends it at once")
        elif name == "SIGINT" and now - self._received_at > SAME_CTRL_C_SECONDS:
            reason = "a second SIGINT: the same command resumes from the last checkpoint"
            self._exit_with_launcher(name, reason, ENDED_BY_CTRL_C)

    def _exit_with_launcher(self, name: str, reason: str, exit_code: int = STOPPED) -> None:
        """End this process and its launcher. Only the launcher prints the reason."""
        if self._launcher:
            _signal_launcher(signal.Signals[name])
            os._exit(exit_code)
        self.exit_process(exit_code, reason)


@contextlib.contextmanager
def limit_shutdown(timeout: float = 30.0) -> Iterator[None]:
    """Context manager that ends the process a limited time after its block, and keeps the exit code.

    Args:
        timeout: Maximum number of seconds for the shutdown of Python and its libraries. Defaults to 30.
    """
    exit_code = 1
    try:
        yield
    except SystemExit as stop:
        exit_code = stop.code
        raise
    finally:
        timer = threading.Timer(timeout, os._exit, (exit_code,))
        timer.daemon = True
        timer.start()


def exit_on_signals() -> None:
    """Make a signal end the process at once, until a `SignalWatcher` listens.

    The exit code is 130 after Ctrl-C, and 75 after another signal.
    """
    for number in SIGNALS:
        signal.signal(number, _exit_now)


def _exit_now(number: int, _: object) -> None:
    """End this process and its launcher."""
    _signal_launcher(number)
    if number == signal.SIGINT and not launcher_pid():
        print_line(INTERRUPTED)
    os._exit(ENDED_BY_CTRL_C if number == signal.SIGINT else STOPPED)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Context manager in which Ctrl-C raises KeyboardInterrupt, so that unfinished files are cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for_launcher_exit(timeout: float) -> bool:
    """Wait until the launcher has exited. Return False if it is still running after the timeout.

    Args:
        timeout: Maximum number of seconds to wait.
    """
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if launcher_pid() and os.getppid() != launcher_pid():
            return True
        time.sleep(0.1)
    return False


def print_line(line: str) -> None:
    """Write a line to stderr at once, whatever other threads are doing."""
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())


def launcher_pid() -> int:
    """Return the process that started this rank through Lightning's launcher, or 0 if there is none."""
    is_started = int(os.environ.get("LOCAL_RANK", "0")) > 0
    found = int(os.environ.get(LAUNCHER_VARIABLE, "0")) if is_started else 0
    return found if found != os.getpid() else 0


def _signal_launcher(number: int) -> None:
    """Send a signal to the launcher, if this process has one."""
    if launcher_pid():
        with contextlib.suppress(ProcessLookupError):
            os.kill(launcher_pid(), number)


def _do_nothing(number: int, frame: object) -> None:
    """Do nothing: Python has written the signal's number into the pipe already."""

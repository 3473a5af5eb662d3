"""Systems that compute one step at a time in turn, so that their speeds can be compared.

Within minutes, a machine's speed changes by more than systems differ. Here each system is a process that
waits after every step for its next turn. A conductor chooses the next system: in training the system with the
least time so far, in evaluation the system with the fewest tokens so far. If the machine slows down for some
seconds, all systems slow down alike.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol, SupportsInt

import numpy as np

from benchmarks.quiet import quiet

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.compare"])

Phase = Literal["train", "evaluation"]

WARM_UP: dict[Phase, int] = {"train": 1, "evaluation": 1}
"""Number of first steps of a system that do not count, by phase. An evaluation begins with an empty step."""

LEAST = 2
"""Minimum number of training steps of each system that count, even if time is over."""

BLOCKS = 8
"""Maximum number of parts of the timeline from which the standard error of a ratio is estimated."""

System = Callable[..., Any]
"""Module-level function or `functools.partial`. It calls its argument `turn`, a Turn, after each step."""


class Line(Protocol):
    """End of a connection between a system and the conductor."""

    def send(self, obj: Any, /) -> None:
        """Send an object to the other end."""

    def recv(self) -> Any:
        """Wait for an object from the other end, and return it."""


class Step(NamedTuple):
    """Message after a training step or an evaluated batch: phase, real tokens and seconds."""

    phase: Phase
    tokens: int
    seconds: float


class End(NamedTuple):
    """Message after the end of a system, with its result."""

    result: Any


class Failed(NamedTuple):
    """Message after the failure of a system, with the error."""

    message: str


class Turn:
    """System's end of the connection. The system calls it after each step, and waits for its next turn."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._line.recv()
        self._begun = time.perf_counter()

    def __call__(self, phase: Phase, tokens: SupportsInt) -> bool:
        """Report a step with its number of tokens. Return True if training continues."""
        self._line.send(Step(phase, int(tokens), time.perf_counter() - self._begun))
        go_on = self._line.recv()
        self._begun = time.perf_counter()
        return go_on


@dataclass
class _Player:
    """Conductor's end of the connection to a system, with the system's progress."""

    name: str
    line: Line
    share: float
    phase: Phase | None = "train"
    """Phase of the last step; None after the end."""
    steps: Counter[Phase] = field(default_factory=Counter)
    seconds: float = 0.0
    """Seconds of training without warm-up."""
    tokens: int = 0
    """Number of evaluated tokens."""

    def play(self, go_on: bool) -> Step | End:
        """Let the system compute a step, and return its message.

        Args:
            go_on: True if training continues.

        Raises:
            RuntimeError: The system failed, or its process was killed.
        """
        try:
            self.line.send(go_on)
            told = self.line.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"{self.name} ended without a result") from None
        if isinstance(told, Failed):
            raise RuntimeError(f"{self.name} failed: {told.message}")
        if isinstance(told, End):
            self.phase = None
            return told
        self.phase = told.phase
        self.steps[told.phase] += 1
        if told.phase == "evaluation":
            self.tokens += told.tokens
        elif self.counts("train"):
            self.seconds += told.seconds
        return told

    def counts(self, phase: Phase) -> bool:
        """Return True if the last step in the phase was after the warm-up."""
        return self.steps[phase] > WARM_UP[phase]

    @property
    def is_ready(self) -> bool:
        """True if the system has trained for the minimum number of steps."""
        return self.phase != "train" or self.steps["train"] >= WARM_UP["train"] + LEAST


class Timeline:
    """All steps that count, of all systems, in the order of time."""

    def __init__(self) -> None:
        self.steps: dict[Phase, list[tuple[str, Step]]] = {"train": [], "evaluation": []}
        self.results: dict[str, Any] = {}
        """Result of each system, by name."""

    def count(self, system: str, phase: Phase) -> int:
        """Return the number of steps of a system that count."""
        return sum(name == system for name, _ in self.steps[phase])

    def rates(self, phase: Phase) -> dict[str, float]:
        """Return the tokens per second of each system."""
        names = dict.fromkeys(name for name, _ in self.steps[phase])
        return {name: _rate(self.steps[phase], name) for name in names}

    def ratio(self, system: str, other: str, phase: Phase) -> tuple[float, float | None]:
        """Return the rate of `system` divided by that of `other`, and the standard error of this ratio.

        The error is estimated from the ratios in parts of the timeline. It is None if there are too few
        steps.
        """
        both = [step for step in self.steps[phase] if step[0] in (system, other)]
        whole = _ratio(both, system, other)
        number = max(1, min(BLOCKS, self.count(system, phase) // 2, self.count(other, phase) // 2))
        cuts = np.linspace(0, len(both), number + 1).astype(int)
        found = np.array([_ratio(both[a:b], system, other) for a, b in pairwise(cuts)])
        found = found[np.isfinite(found)]
        return whole, float(np.std(found, ddof=1)) / len(found) ** 0.5 if len(found) > 1 else None


def _ratio(steps: Sequence[tuple[str, Step]], system: str, other: str) -> float:
    return _rate(steps, system) / _rate(steps, other)


def _rate(steps: Sequence[tuple[str, Step]], system: str) -> float:
    """Return the tokens per second in the steps of a system; NaN if it has none."""
    own = [step for name, step in steps if name == system]
    return sum(step.tokens for step in own) / sum(step.seconds for step in own) if own else float("nan")


def in_turn(
    systems: Mapping[str, System], until: float, shares: Mapping[str, float] | None = None
) -> Timeline:
    """Let systems train in turn, and then evaluate in turn.

    Args:
        systems: Systems by name.
        until: Time at which training ends (`time.monotonic`). Each system trains for at least LEAST steps
            that count.
        shares: Share of the training time by system, relative to the other systems. Defaults to 1.

    Raises:
        RuntimeError: A system failed.
    """
    with _players(systems, shares or {}) as players:
        return _conduct(players, until)


def _conduct(players: Sequence[_Player], until: float) -> Timeline:
    """Give each turn to a system until all systems have ended, and return the timeline."""
    found = Timeline()

    def play(player: _Player, go_on: bool) -> None:
        told = player.play(go_on)
        if isinstance(told, End):
            found.results[player.name] = told.result
        elif player.counts(told.phase):
            found.steps[told.phase].append((player.name, told))

    while behind := [player for player in players if not player.is_ready]:
        play(min(behind, key=lambda player: player.steps["train"]), True)
    while time.monotonic() < until and (training := [p for p in players if p.phase == "train"]):
        play(min(training, key=lambda player: player.seconds / player.share), True)
    while at_work := [player for player in players if player.phase]:
        play(min(at_work, key=lambda player: player.tokens), False)
    return found


@contextmanager
def _players(systems: Mapping[str, System], shares: Mapping[str, float]) -> Iterator[list[_Player]]:
    """Context manager that starts a waiting process for each system, and ends them after the block."""
    processes, players = [], []
    try:
        for name, system in systems.items():
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_take_part, args=(theirs, system), name=name)
            process.start()
            theirs.close()
            processes.append(process)
            players.append(_Player(name, ours, shares.get(name, 1.0)))
        yield players
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _take_part(line: Line, system: System) -> None:
    """Run a system in its own process, and send its result or its error."""
    quiet()
    try:
        line.send(End(system(turn=Turn(line))))
    except Exception as error:
        line.send(Failed(f"{type(error).__name__}: {error}"))
        raise

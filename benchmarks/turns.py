"""Systems that compute in turn, a step at a time, so that all of them meet the same machine.

A machine's speed drifts by more within minutes than systems differ. Here each system is a process that waits
after every step until it is its turn again, and a conductor hands out the turns: in training to the system
that has had the least time, in evaluation to the one that has the fewest tokens behind it. What slows the
machine down for some seconds slows all of them down.
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
"""First steps of a system that do not count, by phase; evaluation's is its beginning, a step of no tokens."""

LEAST = 2
"""Steps of each system in training that count, however long they take."""

BLOCKS = 8
"""Most parts of the timeline from which a ratio's standard error is estimated."""

System = Callable[..., Any]
"""Of a module, or a partial of such; takes its turns by `turn=`, a Turn."""


class Line(Protocol):
    """One end of a connection between a system and the conductor."""

    def send(self, obj: Any, /) -> None:
        """Tell the other end."""

    def recv(self) -> Any:
        """Wait for what the other end tells."""


class Step(NamedTuple):
    """A step of training, or a batch evaluated."""

    phase: Phase
    tokens: int
    seconds: float


class End(NamedTuple):
    """A system has ended."""

    result: Any


class Failed(NamedTuple):
    """A system has stopped at an error."""

    message: str


class Turn:
    """A system's side: called after every step, it returns when the next may begin."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._line.recv()
        self._begun = time.perf_counter()

    def __call__(self, phase: Phase, tokens: SupportsInt) -> bool:
        """Tell of a step of so many tokens; whether to train on."""
        self._line.send(Step(phase, int(tokens), time.perf_counter() - self._begun))
        go_on = self._line.recv()
        self._begun = time.perf_counter()
        return go_on


@dataclass
class _Player:
    """The conductor's side of a system."""

    name: str
    line: Line
    share: float
    phase: Phase | None = "train"
    """Of the last step; None at the end."""
    steps: Counter[Phase] = field(default_factory=Counter)
    seconds: float = 0.0
    """Of training, warm-up left out."""
    tokens: int = 0
    """Evaluated."""

    def play(self, go_on: bool) -> Step | End:
        """Give it a turn, and wait until it has used it."""
        try:
            self.line.send(go_on)
            told = self.line.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"{self.name} ended without a word") from None
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
        """Whether its last step in the phase is past warming up."""
        return self.steps[phase] > WARM_UP[phase]

    @property
    def is_ready(self) -> bool:
        """Whether it has trained for as many steps as it must."""
        return self.phase != "train" or self.steps["train"] >= WARM_UP["train"] + LEAST


class Timeline:
    """The steps that count, of all systems, in the order in which they were made."""

    def __init__(self) -> None:
        self.steps: dict[Phase, list[tuple[str, Step]]] = {"train": [], "evaluation": []}
        self.results: dict[str, Any] = {}
        """What each system returned."""

    def count(self, system: str, phase: Phase) -> int:
        """Steps of a system."""
        return sum(name == system for name, _ in self.steps[phase])

    def rates(self, phase: Phase) -> dict[str, float]:
        """Tokens a second by system."""
        names = dict.fromkeys(name for name, _ in self.steps[phase])
        return {name: _rate(self.steps[phase], name) for name in names}

    def ratio(self, system: str, other: str, phase: Phase) -> tuple[float, float | None]:
        """One's rate by the other's, with the standard error that its variation over time lets expect.

        The error is None where there are too few steps to tell.
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
    """Tokens a second of a system's steps among these; NaN where there is none."""
    own = [step for name, step in steps if name == system]
    return sum(step.tokens for step in own) / sum(step.seconds for step in own) if own else float("nan")


def in_turn(
    systems: Mapping[str, System], until: float, shares: Mapping[str, float] | None = None
) -> Timeline:
    """Let systems train in turn, and then evaluate in turn all that they have to.

    Args:
        systems: By name.
        until: When training ends (`time.monotonic`), yet after LEAST steps of each that count.
        shares: Of the time of training, relative to the others'; 1 where not given.

    Raises:
        RuntimeError: A system failed.
    """
    with _players(systems, shares or {}) as players:
        return _conduct(players, until)


def _conduct(players: Sequence[_Player], until: float) -> Timeline:
    """Hand out the turns."""
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
    """A process for each system, which waits for its first turn; all are ended at last."""
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
    """A system's process."""
    quiet()
    try:
        line.send(End(system(turn=Turn(line))))
    except Exception as error:
        line.send(Failed(f"{type(error).__name__}: {error}"))
        raise

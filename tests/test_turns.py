"""Systems that take turns: who is next, what counts, and that a machine's drift does not tell."""

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import turns
from benchmarks.measuring import Setting
from benchmarks.turns import LEAST, WARM_UP, End, Step, Timeline, Turn, _conduct, _Player, in_turn
from benchmarks.workload import Size
from benchmarks.xlt_system import xlt_run

FIRST = WARM_UP["train"] + LEAST
"""Steps that each trains at least."""

Speed = Callable[[float], float]


class Machine:
    """A machine with a clock of its own, whose speed changes with it."""

    def __init__(self, speed: Speed = lambda clock: 1.0) -> None:
        self.clock = 0.0
        self._speed = speed

    def player(
        self, name: str, rate: float, tokens: int, evaluated: int = 10, steps: int = 10**6, share: float = 1.0
    ) -> _Player:
        """A system that computes so many tokens a second at speed 1, and takes them at a step."""
        return _Player(name, Simulated(self, rate, tokens, evaluated, steps), share)

    def compute(self, seconds: float) -> float:
        """What seems to take so long at speed 1; how long it takes."""
        took = seconds / self._speed(self.clock)
        self.clock += took
        return took


class Simulated:
    """A connection with a system that computes as soon as it may."""

    def __init__(self, machine: Machine, rate: float, tokens: int, evaluated: int, steps: int) -> None:
        self._machine, self._seconds, self._tokens = machine, tokens / rate, tokens
        self._left = {"train": steps, "evaluation": evaluated}
        self.go_on: list[bool] = []

    def send(self, go_on: bool) -> None:
        self.go_on.append(go_on)
        if not go_on:
            self._left["train"] = 0

    def recv(self) -> Any:
        for phase in ("train", "evaluation"):
            if self._left[phase]:
                self._left[phase] -= 1
                return Step(phase, self._tokens, self._machine.compute(self._seconds))  # type: ignore[arg-type]
        return End("the result")


def die(*, turn: Turn) -> None:
    """End at once."""
    os._exit(3)


def conduct(machine: Machine, players: list[_Player], until: float, monkeypatch: Any) -> Timeline:
    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=lambda: machine.clock))
    return _conduct(players, until)


@pytest.mark.parametrize(
    "speed",
    [
        lambda clock: 1.0,
        lambda clock: 1.0 if clock < 300 else 0.3,
        lambda clock: 1.0 - 0.9 * clock / 1200,
        lambda clock: 1.0 + 0.8 * math.sin(clock / 60),
    ],
)
def test_a_machine_that_drifts_does_not_change_a_ratio(speed: Speed, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(speed)
    players = [machine.player("fast", 2000, 3000), machine.player("slow", 1000, 700)]
    found = conduct(machine, players, 600, monkeypatch)
    ratio, error = found.ratio("fast", "slow", "train")
    assert ratio == pytest.approx(2, rel=0.02)
    assert error is not None
    assert error < 0.04
    assert found.ratio("fast", "slow", "evaluation")[0] > 0


def test_each_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    players = [machine.player("a", 500, 1000, share=2.0), machine.player("b", 1000, 300, share=1.0)]
    found = conduct(machine, players, 600, monkeypatch)
    seconds = {
        name: sum(step.seconds for who, step in found.steps["train"] if who == name) for name in ("a", "b")
    }
    assert seconds["a"] == pytest.approx(2 * seconds["b"], rel=0.02)
    assert sum(seconds.values()) == pytest.approx(600, rel=0.05)


def test_past_the_time_each_still_makes_the_least_steps_and_evaluates_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine()
    players = [machine.player("a", 1, 1000, evaluated=30), machine.player("b", 1, 10, evaluated=3000)]
    found = conduct(machine, players, 0, monkeypatch)
    for player, evaluated in zip(players, (30, 3000), strict=True):
        assert found.count(player.name, "train") == LEAST
        assert player.steps == {"train": FIRST, "evaluation": evaluated}
        assert found.count(player.name, "evaluation") == evaluated - WARM_UP["evaluation"]
        assert player.line.go_on[FIRST:] == [False] * (evaluated + 1)  # type: ignore[attr-defined]
    assert found.results == dict.fromkeys("ab", "the result")


def test_evaluations_keep_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    players = [machine.player("a", 100, 1000, evaluated=30), machine.player("b", 1, 10, evaluated=3000)]
    done = dict.fromkeys("ab", 0)
    for name, step in conduct(machine, players, 0, monkeypatch).steps["evaluation"]:
        done[name] += step.tokens
        assert abs(done["a"] - done["b"]) <= 2 * 1000


def test_who_has_trained_all_its_steps_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    players = [machine.player("short", 10, 10, steps=FIRST + 3), machine.player("long", 10, 10)]
    found = conduct(machine, players, 100, monkeypatch)
    assert found.count("short", "train") == LEAST + 3
    assert found.count("long", "train") > 50
    assert found.rates("train") == {"short": 10, "long": 10}


def test_too_few_steps_have_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    players = [machine.player(name, 10, 10) for name in "ab"]
    assert conduct(machine, players, 0, monkeypatch).ratio("a", "b", "train") == (1, None)


def test_an_error_covers_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda clock: 1.0 + 0.5 * math.sin(7919 * clock))
    players = [machine.player("a", 2000, 3000), machine.player("b", 1000, 3000)]
    ratio, error = conduct(machine, players, 900, monkeypatch).ratio("a", "b", "train")
    assert error is not None
    assert 0 < error < 0.2
    assert abs(ratio - 2) < 3 * error


def test_a_turn_tells_its_own_seconds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = 0.0, []

    def receive() -> bool:
        nonlocal clock
        clock += 100
        return True

    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=lambda: clock))
    turn = Turn(SimpleNamespace(recv=receive, send=told.append))  # type: ignore[arg-type]
    for seconds in (1, 2):
        clock += seconds
        assert turn("train", 7)
    assert told == [Step("train", 7, 1), Step("train", 7, 2)]


def test_a_system_that_fails_says_why(tmp_path: Path) -> None:
    setting = Setting(tmp_path, tmp_path / "nowhere", Size(1, 8, 1), 3, "32-true")
    with pytest.raises(RuntimeError, match=r"broken failed: FileNotFoundError: data root .* is not a folder"):
        in_turn({"broken": partial(xlt_run, setting)}, 0)


def test_a_system_that_dies_is_named() -> None:
    with pytest.raises(RuntimeError, match="doomed ended without a result"):
        in_turn({"doomed": die}, 0)

"""xlt, its padded form and `transformers.Trainer` in turn, round after round, training and evaluating."""

import itertools
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, replace

from benchmarks.systems import Measured, Setting, trainer_run, xlt_run
from xlt.data.features import Features

TRIALS = tuple(itertools.product((8, 16, 32), ("sdpa", "eager")))
"""Rows in a batch, and attention, that are tried for the Trainer at its best."""


@dataclass(frozen=True)
class Plan:
    """Steps of each system in a round; a step of the Trainer is a batch of some rows."""

    rounds: int
    seconds: float
    """No round begins later than this."""
    xlt: int
    padded: int
    best: int
    default: int


@dataclass
class Rates:
    """Medians over the rounds, tokens a second, by system."""

    train: dict[str, float]
    evaluation: dict[str, float]
    rounds: int
    trainer_options: tuple[int, str]
    """The Trainer's fastest batch size and attention."""
    padding_share: float
    """Share of the tokens that xlt's attention computes which are rounded up."""


def compare(
    setting: Setting, train: Features, validation: Features, plan: Plan, options: tuple[int, str]
) -> Rates:
    """Every system in each round, so that all meet the same noise; the options are the Trainer's best."""
    deadline = time.monotonic() + plan.seconds
    runs: dict[str, list[Measured]] = defaultdict(list)
    for seed in range(plan.rounds):
        if seed and time.monotonic() > deadline:
            break
        for system, run in _round(setting, train, validation, plan, options, seed).items():
            runs[system].append(run)
    ours = runs["xlt"]
    slots, tokens = sum(run.slots for run in ours), sum(sum(run.train.tokens) for run in ours)
    return Rates(
        {name: statistics.median(run.train.rate for run in found) for name, found in runs.items()},
        {name: statistics.median(run.evaluation.rate for run in found) for name, found in runs.items()},
        len(ours),
        options,
        1 - tokens / slots,
    )


def _round(
    setting: Setting,
    train: Features,
    validation: Features,
    plan: Plan,
    options: tuple[int, str],
    seed: int,
) -> dict[str, Measured]:
    """Each system once; where the rounds are few, the slow ones in the first alone."""
    seeded, slow_too = [f"--seed_everything={seed}"], not seed or plan.rounds > 2
    found = {"xlt": xlt_run(replace(setting, steps=plan.xlt), options=seeded)}
    best = replace(setting, steps=plan.best)
    found["trainer best"] = trainer_run(best, train, validation, *options, best=True, seed=seed)
    if plan.padded and slow_too:
        found["xlt padded"] = xlt_run(replace(setting, steps=plan.padded), True, options=seeded)
    if slow_too:
        default = replace(setting, steps=plan.default)
        found["trainer default"] = trainer_run(default, train, validation, best=False, seed=seed)
    return found


def best_options(setting: Setting, train: Features, validation: Features, steps: int) -> tuple[int, str]:
    """The Trainer's fastest batch size and attention, by as many rows of each."""
    rates = {}
    for size, attention in TRIALS:
        trial = replace(setting, steps=8 * steps // size, validation_rows=2 * size)
        run = trainer_run(trial, train, validation, size, attention, best=True, seed=99)
        rates[size, attention] = run.train.rate
    return max(rates, key=lambda options: rates[options])


def loss_difference(setting: Setting) -> float:
    """Largest difference of a step's loss, packed and padded, in single precision, nothing dropped."""
    exact = replace(setting, precision="32-true", validation_rows=8)
    options = ["--model.head_dropout=0", "--model.learning_rate=1e-3"]
    packed, padded = (xlt_run(exact, form, options=options).losses for form in (False, True))
    return max(abs(a - b) for a, b in zip(packed, padded, strict=True))

"""xlt, its padded form and `transformers.Trainer` in turn, round after round, training and evaluating."""

import itertools
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.systems import WARM_UP, Measured, Setting, trainer_run, xlt_run
from xlt.data.features import Features

TRIALS = tuple(itertools.product((8, 16, 32, 64), ("sdpa", "eager")))
"""Rows in a batch, and attention, that are tried for the Trainer at its best."""
TRIAL_ROWS = 128
"""Rows that each is tried for, in training and in evaluation; more where they would be too few steps."""
NEAR = 0.85
"""What reaches this share of the fastest rate is tried again, in reverse order: a machine's speed drifts."""


class Options(NamedTuple):
    """The Trainer's fastest rows in a batch and attention."""

    train: tuple[int, str]
    evaluation: tuple[int, str]


@dataclass(frozen=True)
class Plan:
    """Steps of each system in a round, warm-up included; one of the Trainer's default is 8 rows."""

    rounds: int
    minutes: float
    """After the start of all measurements, by which the rounds end, the first excepted."""
    xlt: int
    padded: int
    best_rows: int
    """Rows of the Trainer at its best."""
    most_rows: int
    """Most rows in a batch of the Trainer at its best, so that a step of a large model ends."""
    default: int
    validation_rows: int
    tokens_per_batch: int
    """Most tokens in a micro-batch of xlt's."""


@dataclass
class Rates:
    """Medians over the rounds, tokens a second, by system."""

    train: dict[str, float]
    evaluation: dict[str, float]
    rounds: int
    trainer_options: Options
    padding_share: float
    """Share of the tokens that xlt's attention computes which are rounded up."""


def compare(
    setting: Setting,
    train: Features,
    validation: Features,
    plan: Plan,
    options: Options,
    deadline: float,
) -> Rates:
    """Every system in each round, so that all meet the same noise; the options are the Trainer's best.

    After the first, no round begins that would end past the deadline (`time.monotonic`), were it as long.
    xlt's padded form, the slowest, runs once, after them.
    """
    runs: dict[str, list[Measured]] = defaultdict(list)
    options = Options(*((min(rows, plan.most_rows), attention) for rows, attention in options))
    begin = time.monotonic()
    for seed in range(plan.rounds):
        begun = time.monotonic()
        if seed and begun + (begun - begin) / seed > deadline:
            break
        for system, run in _round(setting, train, validation, plan, options, seed).items():
            runs[system].append(run)
    if plan.padded:
        runs["xlt padded"].append(xlt_run(replace(setting, steps=plan.padded), True))
    ours = runs["xlt"]
    slots, tokens = sum(run.slots for run in ours), sum(sum(map(int, run.train.tokens)) for run in ours)
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
    options: Options,
    seed: int,
) -> dict[str, Measured]:
    """Each system once; where the rounds are few, the Trainer as it comes in the first alone."""
    found = {"xlt": xlt_run(replace(setting, steps=plan.xlt), options=[f"--seed_everything={seed}"])}
    size, attention = options.train
    found["trainer best"] = trainer_run(
        replace(setting, steps=max(WARM_UP + 2, plan.best_rows // size)),
        train,
        validation,
        size,
        attention,
        evaluated_by=options.evaluation,
        best=True,
        seed=seed,
    )
    if not seed or plan.rounds > 2:
        default = replace(setting, steps=plan.default)
        found["trainer default"] = trainer_run(default, train, validation, best=False, seed=seed)
    return found


def best_options(setting: Setting, train: Features, validation: Features, deadline: float) -> Options:
    """The Trainer's fastest rows in a batch and attention.

    What comes near the fastest is tried twice, as far as the deadline (`time.monotonic`) allows.
    """
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    evaluation_rates: dict[tuple[int, str], list[float]] = defaultdict(list)

    def attempt(size: int, attention: str, seed: int) -> None:
        steps = max(WARM_UP + 2, TRIAL_ROWS // size)
        trial = replace(setting, steps=steps, validation_rows=TRIAL_ROWS)
        run = trainer_run(trial, train, validation, size, attention, best=True, seed=seed)
        rates[size, attention].append(run.train.rate)
        evaluation_rates[size, attention].append(run.evaluation.rate)

    for option in TRIALS:
        attempt(*option, seed=98)
    near = _near(rates) | _near(evaluation_rates)
    for option in [option for option in reversed(TRIALS) if option in near]:
        if time.monotonic() > deadline:
            break
        attempt(*option, seed=99)
    return Options(_fastest(rates, near), _fastest(evaluation_rates, near))


def _near(rates: dict[tuple[int, str], list[float]]) -> set[tuple[int, str]]:
    """The options that come near the fastest."""
    fastest = max(map(statistics.mean, rates.values()))
    return {option for option, found in rates.items() if statistics.mean(found) >= NEAR * fastest}


def _fastest(rates: dict[tuple[int, str], list[float]], among: set[tuple[int, str]]) -> tuple[int, str]:
    """The option with the highest mean among these."""
    return max(among, key=lambda option: statistics.mean(rates[option]))


def loss_difference(setting: Setting) -> float:
    """Largest difference of a step's loss, packed and padded, in single precision, nothing dropped."""
    exact = replace(setting, precision="32-true", validation_rows=8)
    options = ["--model.head_dropout=0", "--model.learning_rate=1e-3"]
    packed, padded = (xlt_run(exact, form, options=options).losses for form in (False, True))
    return max(abs(a - b) for a, b in zip(packed, padded, strict=True))

"""xlt, its padded form and `transformers.Trainer` in turn, round after round, training and evaluating."""

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, replace

from benchmarks.systems import Measured, Setting, trainer_run, xlt_run
from xlt.data.features import Features

BATCH_SIZES = (8, 16, 32)
"""Rows in a batch that are tried for the Trainer at its best."""


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
    best_batch_size: int
    padding_share: float
    """Share of the tokens that xlt's attention computes which are rounded up."""


def compare(setting: Setting, train: Features, validation: Features, plan: Plan) -> Rates:
    """Every system in each round, so that all meet the same noise."""
    deadline = time.monotonic() + plan.seconds
    batch_size = _best_batch_size(setting, train, validation, plan.best)
    runs: dict[str, list[Measured]] = defaultdict(list)
    for seed in range(plan.rounds):
        if seed and time.monotonic() > deadline:
            break
        options = [f"--seed_everything={seed}"]
        runs["xlt"].append(xlt_run(replace(setting, steps=plan.xlt), options=options))
        best = replace(setting, steps=plan.best)
        runs["trainer best"].append(trainer_run(best, train, validation, batch_size, True, seed))
        if plan.padded and not (seed and plan.rounds < 3):
            runs["xlt padded"].append(xlt_run(replace(setting, steps=plan.padded), True, options=options))
        if plan.default and not (seed and plan.rounds < 3):
            default = replace(setting, steps=plan.default)
            runs["trainer default"].append(trainer_run(default, train, validation, 8, False, seed))
    ours = runs["xlt"]
    slots, tokens = sum(run.slots for run in ours), sum(sum(run.train.tokens) for run in ours)
    return Rates(
        {name: statistics.median(run.train.rate for run in found) for name, found in runs.items()},
        {name: statistics.median(run.evaluation.rate for run in found) for name, found in runs.items()},
        len(ours),
        batch_size,
        1 - tokens / slots,
    )


def _best_batch_size(setting: Setting, train: Features, validation: Features, steps: int) -> int:
    """The Trainer's fastest batch size by a short trial of each."""
    rates = {
        size: trainer_run(
            replace(setting, steps=max(4, steps * BATCH_SIZES[0] // size // 2), validation_rows=4 * size),
            train,
            validation,
            size,
            True,
            seed=99,
        ).train.rate
        for size in BATCH_SIZES
    }
    return max(rates, key=lambda size: rates[size])


def loss_difference(setting: Setting) -> float:
    """Largest difference of a step's loss, packed and padded, in single precision, nothing dropped."""
    exact = replace(setting, precision="32-true", validation_rows=8)
    options = ["--model.head_dropout=0", "--model.learning_rate=1e-3"]
    packed, padded = (xlt_run(exact, form, options=options).losses for form in (False, True))
    return max(abs(a - b) for a, b in zip(packed, padded, strict=True))

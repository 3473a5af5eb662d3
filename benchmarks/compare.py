"""Compare xlt, its padded form and `transformers.Trainer`, which train and evaluate in turn."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from benchmarks import ceiling
from benchmarks.measuring import Setting
from benchmarks.trainer_system import trainer_run
from benchmarks.turns import in_turn
from benchmarks.xlt_system import xlt_run

TRIALS = tuple(itertools.product((8, 16, 32, 64), ("sdpa", "eager")))
"""Pairs of a batch size in rows and an attention function. The Trainer's fastest pair is chosen."""
TRIAL_ROWS = 128
"""Number of rows that each trial evaluates."""
WIDE = 1024
"""Hidden width of XLM-R Large, whose matrix products reach the machine's highest rate."""
PRODUCTS = ("products", "wide products")
"""Systems that compute matrix products in the shapes of the encoder, and in those of XLM-R Large."""
SHARES = {"xlt": 2.0, "trainer best": 2.0, "trainer default": 1.0, "xlt padded": 0.5} | dict.fromkeys(
    PRODUCTS, 0.25
)
"""Share of the training time by system, relative to the other systems. Important ratios get more time."""


class Options(NamedTuple):
    """Trainer's fastest batch size in rows and attention function, in each phase."""

    train: tuple[int, str]
    evaluation: tuple[int, str]


@dataclass(frozen=True)
class Plan:
    """Settings of the measurement of one size of encoder."""

    until: float
    """Minutes from the start of all measurements to the end of training."""
    most_rows: int
    """Maximum batch size of the Trainer in rows. A large model needs a limit, because its steps take long."""
    padded: bool
    """True to measure xlt with padded batches too."""
    validation_rows: int
    """Number of rows that each system evaluates."""
    tokens_per_micro_batch: int
    """Maximum number of tokens in a micro-batch of xlt."""


@dataclass
class Rates:
    """Rates of the systems, which compute their steps in turn."""

    train: dict[str, float]
    """Tokens per second in training, by system."""
    evaluation: dict[str, float]
    """Tokens per second in evaluation, by system."""
    ratios: dict[str, tuple[float, float | None]]
    """xlt's rate divided by another system's rate, with the standard error (None if unknown), by name."""
    steps: dict[str, int]
    """Number of training steps by system."""
    trainer_options: Options
    padding_share: float
    """Share of the tokens in xlt's attention that rounding adds, from 0 to 1."""
    products_per_second: float
    """Floating-point operations per second of the encoder's fastest matrix product."""
    wide_products_per_second: float
    """Floating-point operations per second of XLM-R Large's fastest matrix product."""


def compare(setting: Setting, plan: Plan, options: Options, until: float) -> Rates:
    """Measure all systems and the machine's products in turn.

    Args:
        setting: Settings that all systems share.
        plan: Settings of the measurement.
        options: The Trainer's options at its best. Their batch sizes are limited to `plan.most_rows`.
        until: Time at which training ends (`time.monotonic`).
    """
    options = Options(*((min(rows, plan.most_rows), attention) for rows, attention in options))
    size, attention = options.train
    best = partial(trainer_run, setting, size, attention, evaluated_by=options.evaluation, best=True, seed=0)
    systems: dict[str, Callable[..., Any]] = {
        "xlt": partial(xlt_run, setting),
        "trainer best": best,
        "trainer default": partial(trainer_run, setting, best=False, seed=0),
    }
    for name, width in zip(PRODUCTS, (setting.size.width, WIDE), strict=True):
        systems[name] = partial(ceiling.rate_in_turn, width, ceiling.PRECISIONS[setting.precision])
    if plan.padded:
        systems["xlt padded"] = partial(xlt_run, setting, True)
    found = in_turn(systems, until, SHARES)
    ours, train = found.results["xlt"], found.rates("train")
    train = {name: rate for name, rate in train.items() if name not in PRODUCTS}
    return Rates(
        train,
        found.rates("evaluation"),
        {
            "train_vs_trainer_best": found.ratio("xlt", "trainer best", "train"),
            "train_vs_trainer_default": found.ratio("xlt", "trainer default", "train"),
            "eval_vs_trainer_best": found.ratio("xlt", "trainer best", "evaluation"),
        },
        {name: found.count(name, "train") for name in train},
        options,
        1 - sum(map(int, ours.train.tokens)) / ours.slots,
        *(found.results[name] for name in PRODUCTS),
    )


def best_options(setting: Setting, until: float) -> Options:
    """Return the Trainer's fastest options. The options of TRIALS are measured in turn.

    Args:
        setting: Settings that all systems share.
        until: Time at which training ends (`time.monotonic`).
    """
    trial = replace(setting, validation_rows=TRIAL_ROWS)
    options = {f"{size} rows, {attention}": (size, attention) for size, attention in TRIALS}
    systems = {
        name: partial(trainer_run, trial, *option, best=True, seed=98) for name, option in options.items()
    }
    found = in_turn(systems, until)
    train, evaluation = found.rates("train"), found.rates("evaluation")
    return Options(
        options[max(train, key=train.__getitem__)], options[max(evaluation, key=evaluation.__getitem__)]
    )


def loss_difference(setting: Setting) -> float:
    """Return the largest difference of a step's loss between packed and padded batches.

    Args:
        setting: Settings, with an encoder without dropout.
    """
    exact = replace(setting, precision="32-true", validation_rows=8)
    options = ["--model.head_dropout=0", "--model.learning_rate=1e-3"]
    packed, padded = (xlt_run(exact, form, options=options).losses for form in (False, True))
    return max(abs(a - b) for a, b in zip(packed, padded, strict=True))

"""xlt, its padded form and `transformers.Trainer`, training and evaluating in turn."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from benchmarks import ceiling
from benchmarks.systems import Setting, trainer_run, xlt_run
from benchmarks.turns import in_turn

TRIALS = tuple(itertools.product((8, 16, 32, 64), ("sdpa", "eager")))
"""Rows in a batch, and attention, that are tried for the Trainer at its best."""
TRIAL_ROWS = 128
"""Rows that each of them evaluates."""
WIDE = 1024
"""Hidden width of XLM-R Large, whose products are as fast as any."""
PRODUCTS = ("products", "wide products")
"""Systems that compute the machine's products: the encoder's own, and those of the wide encoder."""
SHARES = {"xlt": 2.0, "trainer best": 2.0, "trainer default": 1.0, "xlt padded": 0.5} | dict.fromkeys(
    PRODUCTS, 0.25
)
"""Of the time of training, by system: more for those whose ratio matters most."""


class Options(NamedTuple):
    """The Trainer's fastest rows in a batch and attention."""

    train: tuple[int, str]
    evaluation: tuple[int, str]


@dataclass(frozen=True)
class Plan:
    """How the systems at one size are measured."""

    until: float
    """Minutes after the start of all measurements, when training ends."""
    most_rows: int
    """Most rows in a batch of the Trainer at its best, so that a step of a large model ends."""
    padded: bool
    """Whether xlt's padded form takes part."""
    validation_rows: int
    tokens_per_micro_batch: int
    """Most tokens in a micro-batch of xlt's."""


@dataclass
class Rates:
    """Tokens a second by system, from steps made in turn."""

    train: dict[str, float]
    evaluation: dict[str, float]
    ratios: dict[str, tuple[float, float | None]]
    """Xlt's rate by another's, and its standard error where there are steps enough, by figure."""
    steps: dict[str, int]
    """Of training, by system."""
    trainer_options: Options
    padding_share: float
    """Share of the tokens that xlt's attention computes which are rounded up."""
    products_per_second: float
    """Floating-point operations of the fastest of the encoder's products."""
    wide_products_per_second: float
    """The same of XLM-R Large's products."""


def compare(setting: Setting, plan: Plan, options: Options, until: float) -> Rates:
    """Every system in turn, and the machine's own products, until then (`time.monotonic`)."""
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
    """The Trainer's fastest rows in a batch and attention, tried in turn until then (`time.monotonic`)."""
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
    """Largest difference of a step's loss, packed and padded, in single precision, nothing dropped."""
    exact = replace(setting, precision="32-true", validation_rows=8)
    options = ["--model.head_dropout=0", "--model.learning_rate=1e-3"]
    packed, padded = (xlt_run(exact, form, options=options).losses for form in (False, True))
    return max(abs(a - b) for a, b in zip(packed, padded, strict=True))

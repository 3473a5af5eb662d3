"""The effect of intermediate training by recipe: its sign, its range, and where its variance comes from.

A recipe is an encoder with a learning rate and a number of steps of fine-tuning. R recipes, S seeds.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false, reportReturnType=false, reportCallIssue=false

import math
from collections.abc import Collection, Iterator
from inspect import signature
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import integrate, stats

from xlt.module import TransferModule
from xlt.studies.analysis.collect import scores_of
from xlt.studies.analysis.contrasts import block_error
from xlt.studies.analysis.interval import student_interval
from xlt.studies.analysis.points import average_target_seeds, drop_incomplete, reduce_over
from xlt.studies.analysis.robustness import averaged, clean, effects
from xlt.studies.design.nodes import Node
from xlt.studies.design.plan import Study

FACTORS = ["encoder", "learning_rate", "steps"]
"""Columns that describe a recipe."""

ALL = "all"
"""Stands for the mean over all targets, and for the recipes of all encoders."""

POINT = ["target", "intermediate", "volume"]
"""Columns of an effect that recipes are compared by."""

DEFAULT_RATE = signature(TransferModule).parameters["learning_rate"].default
"""Learning rate of a run whose config sets none."""

SOURCES = {
    "encoder": "encoder", "learning_rate": "learning rate", "steps": "steps", "recipe": "combination",
    "seed": "seed",
}  # fmt: skip
"""Sources of the variance of an effect, by the column that holds their values."""

SHARES = ["source", "df", "squares", "share"]
"""Columns of the table of shares."""

TINY = 1e-9
"""Sum of squares, in squared points, below which effects count as equal."""


def recipe_scores(study: Study) -> pd.DataFrame:
    """Return the scores of all recipes on unperturbed rows, with the columns `recipe` and `FACTORS` in front.

    Targets without fine-tuning are left out. Without recipes the table has no lines.

    Args:
        study: The study.
    """
    parts = [_scores(name, variant) for name, variant in study.variants.items() if study.recipes]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _scores(recipe: str, study: Study) -> pd.DataFrame:
    """Return the scores of one recipe, described by the config of the run that each evaluation tests."""
    runs = {node.name: study.nodes[node.parents[0]] for node in study.node_uses if _tests_a_run(study, node)}
    scores = clean(scores_of(study))
    scores = scores[scores["run"].isin(list(runs))].reset_index(drop=True)
    facts = pd.DataFrame(
        [[recipe, study.encoder, *_rate_and_steps(runs[name])] for name in scores["run"]],
        columns=pd.Index(["recipe", *FACTORS]),
    )
    return pd.concat([facts, scores], axis=1)


def _tests_a_run(study: Study, node: Node) -> bool:
    """Return True for the evaluation of a fine-tuning run."""
    return node.phase == "evaluate" and bool(node.parents) and study.nodes[node.parents[0]].phase == "target"


def _rate_and_steps(run: Node) -> tuple[float, int]:
    """Return the peak learning rate and the optimizer steps of a run."""
    model = run.settings.get("model") or {}
    return float(model.get("learning_rate", DEFAULT_RATE)), int(run.settings["trainer"]["max_steps"])


class Recipes(NamedTuple):
    """The effects of a study by recipe.

    Args:
        by_seed: Effect of each recipe and seed, in points: the mean over languages; `target` is "all" for the
            mean over targets.
        points: Mean over seeds with its 95 % interval, and the smallest and the largest seed.
        ranges: For each encoder, and "all" for all encoders: number of recipes, of positive means, of
            intervals above and below zero, the smallest and the largest mean, their difference (`range`), and
            the difference that seeds alone would give (`by_chance`).
        shares: Share of the variance of the effect by source, in percent; see `sources_of_variance`.
    """

    by_seed: pd.DataFrame
    points: pd.DataFrame
    ranges: pd.DataFrame
    shares: pd.DataFrame


def analyse(scores: pd.DataFrame, without_english: Collection[str] = ()) -> Recipes:
    """Return the effects of intermediate training by recipe.

    Args:
        scores: The table that `recipe_scores` returns.
        without_english: Targets whose means over languages leave English out. Defaults to none.
    """
    parts = [_effects(part, without_english) for _, part in scores.groupby("recipe", sort=False)]
    by_seed = pd.concat(parts, ignore_index=True)
    points = _points(by_seed)
    return Recipes(by_seed, points, _ranges(by_seed, points), _shares(by_seed))


def _effects(scores: pd.DataFrame, without_english: Collection[str]) -> pd.DataFrame:
    """Return the effects of one recipe by target and seed."""
    own = averaged(effects(scores), without_english)
    by_target = average_target_seeds(reduce_over(own, "language", ["target"], "effect"), ["target"], "effect")
    facts = {target: _facts(part) for target, part in scores.groupby("target")}
    if by_target["target"].nunique() > 1:
        pooled = reduce_over(by_target, "target", (), "effect").assign(target=ALL)
        by_target, facts[ALL] = pd.concat([pooled, by_target], ignore_index=True), _facts(scores)
    columns = ["recipe", *FACTORS]
    described = pd.DataFrame([facts[target] for target in by_target["target"]], columns=pd.Index(columns))
    return pd.concat([described, by_target[[*POINT, "seed", "effect"]]], axis=1)


def _facts(scores: pd.DataFrame) -> list[str]:
    """Return a recipe's name, encoder, learning rate and steps as text."""
    rates = [np.format_float_scientific(rate, trim="-", exp_digits=1) for rate in scores["learning_rate"]]
    columns = scores["recipe"], scores["encoder"].map(lambda name: Path(name).name), rates, scores["steps"]
    return [" or ".join(dict.fromkeys(map(str, column))) for column in columns]


def _points(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each recipe over seeds."""
    keys = ["recipe", *FACTORS, *POINT]
    lines = []
    for key, part in by_seed.groupby(keys, sort=False):
        values = part["effect"].tolist()
        lines.append([*key, *student_interval(values), min(values), max(values), len(values)])
    columns = [*keys, "mean", "low", "high", "smallest", "largest", "seeds"]
    return pd.DataFrame(lines, columns=pd.Index(columns))


def _ranges(by_seed: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Return the signs and the range of the means, for each encoder and for all encoders."""
    lines = []
    for key, part in points.groupby(POINT, sort=False):
        for encoder, own in _by_encoder(part):
            of = by_seed.merge(own[["recipe", *POINT]], on=["recipe", *POINT])
            positive, above, below = (own["mean"] > 0).sum(), (own["low"] > 0).sum(), (own["high"] < 0).sum()
            low, high = own["mean"].min(), own["mean"].max()
            counts = [len(own), int(positive), int(above), int(below)]
            lines.append([encoder, *key, *counts, low, high, high - low, range_by_chance(of)])
    counts = ["recipes", "positive", "above", "below"]
    columns = ["encoder", *POINT, *counts, "smallest", "largest", "range", "by_chance"]
    return pd.DataFrame(lines, columns=pd.Index(columns))


def _by_encoder(points: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield all recipes, and if there are several encoders, the recipes of each."""
    yield ALL, points
    if points["encoder"].nunique() > 1:
        for encoder, own in points.groupby("encoder", sort=False):
            yield str(encoder), own


def range_by_chance(by_seed: pd.DataFrame) -> float:
    """Return the expected range of the recipes' means if all recipes had the same true effect.

    The error of a mean is that of recipes by seeds, because a seed's effect on all recipes moves no range.

    Args:
        by_seed: Effect of each recipe and seed, of one target, arm and volume.

    Returns:
        The range in points; NaN with fewer than two recipes or seeds.

    Source: Tippett (1925), Biometrika 17 (expected range of normal values); error: see `block_error`.
    """
    wide = drop_incomplete(by_seed.pivot_table(index="seed", columns="recipe", values="effect"))
    error = block_error(wide.to_numpy(float), 1, 1)
    return math.nan if error is None else expected_range(wide.shape[1]) * math.sqrt(error[0] / 2)


def expected_range(count: int) -> float:
    """Return the expected range of independent standard normal values.

    Args:
        count: Number of values.

    Source: Tippett (1925), Biometrika 17(3/4), 364–387.
    """

    def integrand(x: float) -> float:
        return 1 - float(stats.norm.cdf(x)) ** count - float(stats.norm.sf(x)) ** count

    return float(integrate.quad(integrand, -math.inf, math.inf)[0])


def _shares(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the variance of the effect by source, for each target, arm and volume."""
    parts = [
        sources_of_variance(part).assign(**dict(zip(POINT, key, strict=True)))
        for key, part in by_seed.groupby(POINT, sort=False)
    ]
    return pd.concat(parts, ignore_index=True)[[*POINT, *SHARES]]


def sources_of_variance(by_seed: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the variance of the effect by encoder, learning rate, steps, combination and seed.

    The sources enter in this order, so a learning rate that only one encoder has counts for the encoder. The
    last source is the rest: seeds within a recipe, without the effect of a seed on all recipes.

    Args:
        by_seed: Effect of each recipe and seed, of one target, arm and volume.

    Returns:
        `source`, `df` (degrees of freedom), `squares` (sum of squares), and `share` in percent, corrected for
        the degrees of freedom. Without lines if there is one seed or no variance.

    Source: epsilon squared of Kelley (1935), PNAS 21(9), 554-559, with sequential sums of squares.
    """
    effect = by_seed["effect"].to_numpy(float)
    total = float(((effect - effect.mean()) ** 2).sum())
    design = np.ones((len(effect), 1))
    rank, rest, found = 1, total, []
    for column, source in SOURCES.items():
        levels = pd.get_dummies(by_seed[column].astype(str), dtype=float).to_numpy()
        design = np.concatenate([design, levels], axis=1)
        solution, _, new_rank, _ = np.linalg.lstsq(design, effect)
        new_rest = float(((effect - design @ solution) ** 2).sum())
        found.append((source, int(new_rank) - rank, rest - new_rest))
        rank, rest = int(new_rank), new_rest
    free = len(effect) - rank
    if free < 1 or total < TINY:
        return pd.DataFrame(columns=pd.Index(SHARES))
    shares = [100 * max(squares - df * rest / free, 0.0) / total for _, df, squares in found]
    lines = [(*line, share) for line, share in zip(found, shares, strict=True) if line[1]]
    lines.append(("seed within recipe", free, rest, 100 - sum(shares)))
    return pd.DataFrame(lines, columns=pd.Index(SHARES))

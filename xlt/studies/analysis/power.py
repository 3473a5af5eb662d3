"""The power of a study: the smallest difference that its seeds can detect, and the SD over seeds."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize

from xlt.studies.analysis.names import sort_arms, sort_targets
from xlt.studies.analysis.robustness import clean, effects
from xlt.studies.analysis.statistics import has_unequal_variances, paired_power, seeds_needed
from xlt.system.tables import counted


def smallest_difference(seeds: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest difference in points that a paired t-test detects; the inverse of `seeds_needed`.

    Args:
        seeds: Number of seeds, at least 2.
        sd: SD over seeds of the paired differences, in points.
        alpha: Significance level of both sides together. Defaults to 0.05.
        power: Probability to find the difference. Defaults to 0.8.

    Raises:
        ValueError: There are fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}: a paired t-test needs at least 2")

    def missing_power(size: float) -> float:
        """Return the wanted power minus the power for a difference of this size in SDs."""
        return power - paired_power(size, seeds, alpha)

    size = 1e-3
    while missing_power(2 * size) > 0:
        size *= 2
    return sd * float(np.asarray(optimize.brentq(missing_power, size, 2 * size)))


def paired_sds(scores: pd.DataFrame) -> dict[str, float]:
    """Return the SD over seeds of the effect on each target, in points, pooled over arms.

    Effects are means over languages. Targets without an arm that has two seeds are left out.

    Args:
        scores: The table of scores.

    Source: pooled variance, as in Cohen (1988), section 2.2.
    """
    return _pooled_sds(_complete_runs(scores), "target", ["intermediate", "volume"])


def arm_sds(scores: pd.DataFrame) -> dict[str, float]:
    """Return the SD over seeds of each arm's mean effect over targets, in points, pooled over volumes.

    Only seeds that have all targets of the arm and volume count. Arms without two such seeds are left out.

    Args:
        scores: The table of scores.

    Source: pooled variance, as in Cohen (1988), section 2.2.
    """
    runs = _complete_runs(scores)
    by_seed = runs.groupby(["intermediate", "volume", "seed"])["mean"].agg(["mean", "size"]).reset_index()
    largest = by_seed.groupby(["intermediate", "volume"])["size"].transform("max")
    return _pooled_sds(by_seed[by_seed["size"] == largest], "intermediate", ["volume"])


def target_spreads(scores: pd.DataFrame) -> dict[str, tuple[float, int]]:
    """Return the SD over targets of each arm's effect, in points, pooled over volumes, and their number.

    Args:
        scores: The table of scores. The SD holds the noise of the seeds too.
    """
    runs = _complete_runs(scores)
    means = runs.groupby(["intermediate", "volume", "target"])["mean"].mean().reset_index()
    counts = means.groupby("intermediate")["target"].nunique()
    found = _pooled_sds(means, "intermediate", ["volume"])
    return {arm: (sd, int(counts[arm])) for arm, sd in found.items()}


def _complete_runs(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean effect over languages of each seed, of those that have all languages of the target."""
    unperturbed = clean(effects(scores))
    by_run = unperturbed.groupby(["target", "intermediate", "volume", "seed"])
    runs = by_run["effect"].agg(["mean", "size"]).reset_index()
    return runs[runs["size"] == runs.groupby("target")["size"].transform("max")]


def _pooled_sds(runs: pd.DataFrame, name: str, within: list[str]) -> dict[str, float]:
    """Return the SD of the column `mean` by name, pooled over the groups within each name."""
    spreads = runs.groupby([name, *within])["mean"].agg(["var", "size"]).dropna()
    freedom = spreads["size"] - 1
    pooled = (spreads["var"] * freedom).groupby(name).sum() / freedom.groupby(name).sum()
    return {str(key): math.sqrt(value) for key, value in pooled.items()}


def _unequal_sds(scores: pd.DataFrame, target: str) -> dict[str, float]:
    """Return the SD over seeds of each arm on a target, in points; empty if the arms vary alike."""
    runs = _complete_runs(scores[scores["target"] == target])
    samples = [group.to_numpy(float) for _, group in runs.groupby(["intermediate", "volume"])["mean"]]
    samples = [sample for sample in samples if len(sample) > 1]
    is_unequal = len(samples) > 1 and has_unequal_variances(samples)
    return _pooled_sds(runs, "intermediate", ["volume"]) if is_unequal else {}


LANGUAGES = "mean over languages"
"""The mean that an effect on a target is."""


class Question(NamedTuple):
    """A question of the report, with the spread that its test depends on.

    Args:
        name: Name of a target, of an arm, or "udpos after mnli".
        of: The mean that the question is about, such as "mean over languages".
        sd: SD over seeds of the paired differences, in points.
    """

    name: str
    of: str
    sd: float


def questions_of(scores: pd.DataFrame) -> list[Question]:
    """Return the questions of the report: the effect on each target, and each arm's mean over targets.

    Where the seeds scatter one arm more than another, by Bartlett's test, a target has one question for each
    arm, so that an arm with a destroyed run does not hide the power of the others.

    Args:
        scores: The table of scores.
    """
    targets, arms, found = paired_sds(scores), arm_sds(scores), []
    for name in sort_targets(targets):
        alone = _unequal_sds(scores, name)
        own = {f"{name} after {arm}": alone[arm] for arm in sort_arms(alone)} or {name: targets[name]}
        found += [Question(key, LANGUAGES, sd) for key, sd in own.items()]
    if clean(scores)["target"].nunique() > 1:
        found += [Question(name, "mean over targets", arms[name]) for name in sort_arms(arms)]
    return found


def power_lines(scores: pd.DataFrame, difference: float) -> list[str]:
    """Return the power of a study's seeds in words, one line for each question of the report.

    Args:
        scores: The table of scores of the study, or of its pilot.
        difference: Difference in points that the study must detect with 80 % power.
    """
    seeds = scores["seed"].nunique()
    if seeds < 2:
        return ["power: the study has one seed. A pilot needs at least 2 seeds to show how much seeds vary"]
    lines = []
    for name, of, sd in questions_of(scores):
        needed = counted(seeds_needed(difference, sd), "seed") if sd > 0 else "an unknown number of seeds"
        line = f"{name}: SD of differences over seeds {sd:.2f}; {needed} to detect {difference} points"
        told = f"; {seeds} seeds detect {smallest_difference(seeds, sd):.1f} points" if sd > 0 else ""
        lines.append(f"{line}{told} ({of})")
    for name, (sd, targets) in target_spreads(scores).items():
        told = f"{smallest_difference(targets, sd):.1f} points" if targets > 1 and sd > 0 else ""
        if told:
            lines.append(
                f"{name}: SD over {targets} targets {sd:.2f}; for other targets {told} can be detected, with "
                "any number of seeds"
            )
    return lines or ["power: no arm has two seeds to compare with no intermediate training"]

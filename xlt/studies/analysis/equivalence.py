"""Verdicts on effects: a gain, a loss, no effect larger than a margin, or undecided.

A difference that is not significant does not show that both sides are alike. Two one-sided tests can show
that the difference lies inside a margin around zero.
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xlt.studies.analysis.contrasts import Contrast, compare
from xlt.studies.analysis.robustness import clean
from xlt.studies.analysis.statistics import Estimate, holm
from xlt.studies.design.limits import MARGIN
from xlt.studies.design.nodes import NONE

ALPHA = 0.05
"""Significance level of a family of tests: the probability of one wrong verdict or more."""

EQUIVALENT, UNDECIDED = "equivalent", "undecided"

COLUMNS = [
    *("target", "intermediate", "volume", "effect", "low", "high", "level_90_low", "level_90_high"),
    *("drawn", "p", "p_equivalent", "verdict", "margin", "counts"),
]
"""Columns of the table of verdicts."""

VOLUME_COLUMNS = [*COLUMNS[:2], "smallest", *COLUMNS[2:]]
"""Columns of the table of verdicts on more examples; `volume` is the largest volume."""


def equivalence_p(estimate: Estimate, margin: float) -> float:
    """Return the p-value of two one-sided tests that the true value lies inside the margin; NaN if unknown.

    The value is below 5 % if the 90 % interval lies inside the margin.

    Args:
        estimate: The estimated effect.
        margin: Largest absolute effect, in points, that counts as none.

    Source: Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15(6), 657–680.
    """
    return float(np.maximum(estimate.p_above(-margin), estimate.p_below(margin)))


def two_sided_p(estimate: Estimate) -> float:
    """Return the two-sided p-value for a true value other than zero; NaN if unknown."""
    return float(np.minimum(1.0, 2 * np.minimum(estimate.p_above(), estimate.p_below())))


def in_words(verdict: str, margin: float) -> str:
    """Return a verdict in words: `no effect larger than 2 points` for `equivalent`."""
    return f"no effect larger than {margin:g} points" if verdict == EQUIVALENT else verdict


class Tested(NamedTuple):
    """The comparison of an arm with no intermediate training, in a target or in all (an empty name).

    `is_largest` tells the arm's largest volume from smaller ones.
    """

    target: str
    arm: str
    contrast: Contrast
    is_largest: bool = True


def effect_verdicts(scores: pd.DataFrame, margin: float = MARGIN, alpha: float = ALPHA) -> pd.DataFrame:
    """Judge the effect of each arm at each volume: on all targets, and on each target.

    An effect is a gain or a loss if it differs significantly from 0. Otherwise it is equivalent to none if
    two one-sided tests place it inside the margin. Otherwise it is undecided. The p-values are adjusted by
    Holm's method in eight families: differences and equivalences, each on all targets and on single targets,
    and each at the largest volumes and at smaller ones. So further volumes do not weaken the main verdicts.

    Args:
        scores: The table of scores. Perturbed rows are left out.
        margin: Largest absolute effect, in points, that counts as none. Defaults to 2.
        alpha: Significance level of each family. Defaults to 0.05.

    Returns:
        One line for each comparison, with the columns `COLUMNS`; `target` is "all" for all targets. `low` and
        `high` limit the 95 % interval over what `drawn` names. The p-values are adjusted; NaN with one seed.

    Source: Schuirmann (1987); Holm (1979), Scandinavian Journal of Statistics 6(2), 65–70.
    """
    unperturbed = clean(scores)
    lines = []
    for targets in _families(unperturbed):
        compared = _compared(unperturbed, targets)
        for is_largest in (True, False):
            lines += _judged([one for one in compared if one.is_largest is is_largest], margin, alpha)
    return _sorted(pd.DataFrame(lines, columns=pd.Index(COLUMNS)))


def volume_verdicts(scores: pd.DataFrame, margin: float = MARGIN, alpha: float = ALPHA) -> pd.DataFrame:
    """Judge whether more examples help: each arm at its largest volume against its smallest.

    The verdicts, and the families of Holm's method, are those of `effect_verdicts`.

    Args:
        scores: The table of scores. Perturbed rows are left out.
        margin: Largest absolute difference, in points, that counts as none. Defaults to 2.
        alpha: Significance level of each family. Defaults to 0.05.

    Returns:
        One line for each arm with several volumes, on all targets and on each target, with the columns
        `VOLUME_COLUMNS`.
    """
    unperturbed = clean(scores)
    trained = unperturbed[unperturbed["intermediate"] != NONE]
    spans = trained.groupby("intermediate")["volume"].agg(["min", "max"]).astype(int)
    spans = spans[spans["min"] < spans["max"]]
    families = []
    for targets in _families(unperturbed):
        pairs = [(target, arm) for target in targets for arm in spans.index]
        compared = [(target, arm, _more_against_fewer(trained, arm, target)) for target, arm in pairs]
        families.append([Tested(target, arm, contrast) for target, arm, contrast in compared if contrast])
    lines = [line for family in families for line in _judged(family, margin, alpha)]
    table = pd.DataFrame(lines, columns=pd.Index(COLUMNS))
    return _sorted(table.assign(smallest=table["intermediate"].map(spans["min"])))[VOLUME_COLUMNS]


def _more_against_fewer(scores: pd.DataFrame, arm: str, target: str) -> Contrast | None:
    """Return an arm's scores at its largest volume minus those at its smallest; None if no seed has both."""
    own = scores[scores["intermediate"] == arm]
    fewest, most = int(own["volume"].min()), int(own["volume"].max())
    sides = {volume: f"{arm} with {volume:,} examples" for volume in (fewest, most)}
    own = own[own["volume"].isin(sides)]
    renamed = own.assign(intermediate=own["volume"].map(sides), volume=most)
    return compare(renamed, [sides[most]], [sides[fewest]], most, target)


def _families(scores: pd.DataFrame) -> list[list[str]]:
    """Return the families of targets: all together (an empty name) if there are several, and each one."""
    targets = sorted(set(scores["target"]))
    return [[""], targets] if len(targets) > 1 else [targets]


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of verdicts: all targets first, then by target, arm and volume."""
    order = table.assign(single=table["target"] != "all")
    order = order.sort_values(["single", "target", "intermediate", "volume"])
    return table.loc[order.index].reset_index(drop=True)


def _compared(scores: pd.DataFrame, targets: Sequence[str]) -> list[Tested]:
    """Return the comparisons of every arm and volume in some targets."""
    trained = scores[scores["intermediate"] != NONE]
    pairs = trained[["intermediate", "volume"]].drop_duplicates().sort_values(["intermediate", "volume"])
    largest = dict(pairs.itertuples(index=False))  # sorted by volume, so the last of an arm stays
    found = []
    for target in targets:
        for arm, volume in pairs.itertuples(index=False):
            contrast = compare(scores, [arm], [NONE], int(volume), target)
            if contrast:
                found.append(Tested(target, arm, contrast, volume == largest[arm]))
    return found


def _judged(family: Sequence[Tested], margin: float, alpha: float) -> list[list[object]]:
    """Return the lines of a family of comparisons."""
    estimates = {number: one.contrast.estimate for number, one in enumerate(family)}
    different = holm_of_known({key: two_sided_p(estimate) for key, estimate in estimates.items()})
    alike = holm_of_known({key: equivalence_p(estimate, margin) for key, estimate in estimates.items()})
    lines = []
    for number, (target, arm, contrast, _) in enumerate(family):
        estimate, p, p_equivalent = contrast.estimate, different[number], alike[number]
        verdict = EQUIVALENT if p_equivalent < alpha else UNDECIDED
        if p < alpha:
            verdict = "gain" if estimate.value > 0 else "loss"
        key: list[object] = [target or "all", arm, contrast.volume]
        intervals = [*estimate.interval(), *estimate.interval(0.90)[1:]]
        lines.append([*key, *intervals, contrast.drawn, p, p_equivalent, verdict, margin, contrast.counts])
    return lines


def holm_of_known(p_values: dict[int, float]) -> dict[int, float]:
    """Adjust the p-values that are known by Holm's method; unknown ones stay NaN and count as no test."""
    known = {key: value for key, value in p_values.items() if not math.isnan(value)}
    return p_values | holm(known)

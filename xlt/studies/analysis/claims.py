"""The claims of Phang et al. (2020), each judged by a study's own scores.

Source: Phang et al. (2020), "English Intermediate-Task Training Improves Zero-Shot Cross-Lingual Transfer
Too", https://arxiv.org/abs/2005.13013: abstract and section 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from xlt.studies.analysis.contrasts import Contrast, compare
from xlt.studies.analysis.equivalence import ALPHA, equivalence_p, in_words
from xlt.studies.analysis.interval import Interval
from xlt.studies.analysis.points import common_volume
from xlt.studies.analysis.results import KEY
from xlt.studies.analysis.robustness import clean, require_single
from xlt.studies.analysis.statistics import Estimate, holm
from xlt.studies.design.limits import MARGIN
from xlt.studies.design.nodes import NONE

Verdict = Literal["supported", "contradicted", "equivalent", "undecided", "not run"]

NEGLIGIBLE = 1.0
"""Largest gain in points that counts as no gain: the margin for "does not gain"."""

MIXTURE = "mixture"
ALL_OTHERS = "*"
"""Marks every other intermediate task with English data only, each alone or together."""

VARIANTS = {"_mlm": "additional continued MLM", "_translated": "additional machine-translated data"}
"""Suffixes of arms that add data to the task whose name comes before the suffix."""


class Claim(NamedTuple):
    """A claim of the paper.

    Args:
        name: Short name.
        text: The claim in a sentence.
        paper: The paper's result.
        arm: The intermediate task, "*" for the mean of all, or the suffix of the variants' names.
        rival: Compared arm: "none", "*" for each other task, or "" for the variant's own task.
        target: Target of the claim. Empty for all targets.
        gains: True if the paper claims that the arm is better, False if it claims that it is not.
    """

    name: str
    text: str
    paper: str
    arm: str
    rival: str = NONE
    target: str = ""
    gains: bool = True


CLAIMS = (
    Claim("squad", "SQuAD v1.1 helps on average", "8.2 points over XLM-R, development sets", "squad_v1"),
    Claim("mnli", "MNLI helps on average", "7.5 points", "mnli"),
    Claim("hellaswag", "HellaSwag helps on average", "7.0 points", "hellaswag"),
    Claim("mixture", "All tasks together help on average", "8.7 points", MIXTURE),
    Claim("best", "All tasks together beat any single task", "8.7 against 8.2", MIXTURE, ALL_OTHERS),
    Claim("xnli", "XNLI does not gain", "no gain from intermediate tasks", ALL_OTHERS, NONE, "xnli", False),
    Claim(
        "mlm", "Continued MLM added to a task is not better than the task alone",
        "no consistent gain", "_mlm", "", "", False,
    ),
    Claim(
        "translated", "Machine-translated data added to a task is not better than the task alone",
        "no consistent gain", "_translated", "", "", False,
    ),
)  # fmt: skip
"""The claims in the order of the report."""

PAPER = {"squad": 8.2, "mnli": 7.5, "hellaswag": 7.0, "mixture": 8.7, "best": 8.7 - 8.2}
"""Mean gains over XLM-R Large in points, by claim. Source: Phang et al. (2020), section 4."""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Args:
        claim: The claim.
        estimate: Difference in points with its 95 % interval over seeds and targets (with one target, over
            seeds and languages). With several rivals, the difference from the closest rival. None if not run.
        verdict: Verdict by the p-values of all claims, adjusted by Holm's method. "equivalent" means that no
            effect is larger than the margin.
        words: The verdict with its figures, or the missing arms.
        p: Adjusted p-value for or against the claim; NaN if there is none.
        seeds_only: Interval over seeds alone, which does not extend to other targets or languages.
        volume: Number of examples of intermediate training; 0 if not run.
    """

    claim: Claim
    estimate: Interval | None
    verdict: Verdict
    words: str
    p: float = math.nan
    seeds_only: Interval | None = None
    volume: int = 0
    p_equivalent: float = math.nan
    """Adjusted p-value for an effect inside the margin; NaN if there is none."""
    margin: float = MARGIN
    """Margin of equivalence in points."""

    @property
    def verdict_in_words(self) -> str:
        """The verdict for the reader."""
        return in_words(self.verdict, self.margin)


class Compared(NamedTuple):
    """A claim's comparison, before its p-values are adjusted."""

    claim: Claim
    contrast: Contrast
    p_for: float
    """Two-sided p-value in favour of the claim."""
    p_against: float
    """Two-sided p-value against the claim."""
    p_equivalent: float
    """p-value for an effect inside the margin."""


def judge(scores: pd.DataFrame, alpha: float = ALPHA, margin: float = MARGIN) -> list[Judged]:
    """Judge every claim by a study's scores, at the largest volume that all its tasks have.

    The claim that an arm is better is supported if the difference is significantly above 0, and contradicted
    if it is significantly below 0. The claim that an arm is not better is supported if the gain is
    significantly below 1 point, and contradicted if it is significantly above 0. If neither holds, two
    one-sided tests may show that the difference lies inside the margin. Significant means p below alpha after
    Holm's adjustment over the claims that were run, separately for differences and for equivalences.

    Args:
        scores: The table of scores. Perturbed rows are left out.
        alpha: Probability of one wrong verdict among all claims, for differences and for equivalences.
            Defaults to 0.05.
        margin: Margin of equivalence in points. Defaults to 2.

    Raises:
        ValueError: A score appears twice.

    Source: Holm (1979); Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15(6) (margin for
    no difference); Berger (1982), Technometrics 24(4) (best of all: the weakest comparison counts).
    """
    unperturbed = clean(scores)
    require_single(unperturbed, KEY[:-1])
    found = [_compare_arms(claim, unperturbed, margin) for claim in CLAIMS]
    compared = [
        one for one in found if isinstance(one, Compared) and not math.isnan(one.p_for + one.p_against)
    ]
    adjusted = holm({one.claim.name: min(one.p_for, one.p_against) for one in compared})
    alike = holm({one.claim.name: one.p_equivalent for one in compared})
    return [
        _decide(one, adjusted, alike, alpha, margin) if isinstance(one, Compared) else one for one in found
    ]


def _compare_arms(claim: Claim, scores: pd.DataFrame, margin: float) -> Compared | Judged:
    """Return the comparison of a claim, with several rivals the closest one; or the verdict "not run"."""
    everywhere = common_volume(scores)
    contrasts = []
    for plus, minus in _pairs(claim, sorted(set(scores["intermediate"]))):
        volume = everywhere or common_volume(scores, plus + minus)
        contrast = compare(scores, plus, minus, volume, claim.target)
        if contrast:
            contrasts.append(contrast)
    if not contrasts:
        return Judged(claim, None, "not run", f"Not run: {_missing_arms(claim, scores)}.")
    if claim.rival == ALL_OTHERS:
        return _compare_rivals(claim, contrasts, margin)
    estimate = contrasts[0].estimate
    return Compared(claim, contrasts[0], *_both_sides(claim, estimate), equivalence_p(estimate, margin))


def _both_sides(claim: Claim, estimate: Estimate) -> tuple[float, float]:
    """Return the p-values for and against a claim, doubled for two sides; NaN with one seed."""
    if claim.gains:
        sides = estimate.p_above(0.0), estimate.p_below(0.0)
    else:
        sides = estimate.p_below(NEGLIGIBLE), estimate.p_above(0.0)
    return float(np.minimum(1.0, 2 * sides[0])), float(np.minimum(1.0, 2 * sides[1]))


def _compare_rivals(claim: Claim, contrasts: Sequence[Contrast], margin: float) -> Compared:
    """Combine several rivals: the weakest comparison counts for the claim, the strongest against it.

    The difference from the best rival lies inside the margin if no difference is below the margin, and at
    least one difference is not above the margin.
    """
    sides = [_both_sides(claim, contrast.estimate) for contrast in contrasts]
    closest = min(contrasts, key=lambda contrast: contrast.estimate.value)
    against = np.minimum(1.0, len(sides) * np.min([side[1] for side in sides]))
    above = np.max([contrast.estimate.p_above(-margin) for contrast in contrasts])
    below = len(sides) * np.min([contrast.estimate.p_below(margin) for contrast in contrasts])
    alike = float(np.minimum(1.0, np.maximum(above, below)))
    return Compared(claim, closest, float(np.max([side[0] for side in sides])), float(against), alike)


def _pairs(claim: Claim, arms: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Return the pairs of compared sides; a side with several arms is their mean."""
    single = [arm for arm in arms if arm not in (NONE, MIXTURE) and not arm.endswith(tuple(VARIANTS))]
    if claim.arm in VARIANTS:
        tasks = [arm.removesuffix(claim.arm) for arm in arms if arm.endswith(claim.arm)]
        tasks = [task for task in tasks if task in arms]
        return [([task + claim.arm for task in tasks], tasks)] if tasks else []
    if claim.rival == ALL_OTHERS:
        return [([claim.arm], [other]) for other in single] if claim.arm in arms else []
    plus = [*single, *([MIXTURE] if MIXTURE in arms else [])] if claim.arm == ALL_OTHERS else [claim.arm]
    return [(plus, [claim.rival])] if {*plus, claim.rival} <= set(arms) and plus else []


def _missing_arms(claim: Claim, scores: pd.DataFrame) -> str:
    """Return the arms or targets that the study lacks to judge the claim, in words."""
    if not _pairs(claim, sorted(set(scores["intermediate"]))):
        arm = {ALL_OTHERS: "an intermediate task"}.get(claim.arm, claim.arm)
        rival = {ALL_OTHERS: "a single task", "": "its task alone"}.get(claim.rival, claim.rival)
        if claim.arm in VARIANTS:
            arm = f"a task with {VARIANTS[claim.arm]} (named TASK{claim.arm})"
        return f"the study needs {arm} and {rival}"
    if claim.target and claim.target not in set(scores["target"]):
        return f"the study has no target {claim.target}"
    return "no seed has all compared arms at the same volume yet"


def _decide(
    compared: Compared, adjusted: dict[str, float], alike: dict[str, float], alpha: float, margin: float
) -> Judged:
    """Return the verdict from the adjusted p-values of all claims."""
    claim, contrast, p = compared.claim, compared.contrast, adjusted.get(compared.claim.name, math.nan)
    p_equivalent = alike.get(claim.name, math.nan)
    verdict: Verdict = "equivalent" if p_equivalent < alpha else "undecided"
    if p < alpha:
        # A small significant gain contradicts "no gain", even if it is also below the margin.
        smallest = min(compared.p_for, compared.p_against)
        factor = p / smallest if smallest > 0 else 1.0
        verdict = "contradicted" if compared.p_against * factor < alpha else "supported"
    estimate, seeds_only = contrast.estimate.interval(), contrast.seeds_only.interval()
    judged = Judged(claim, estimate, verdict, "", p, seeds_only, contrast.volume, p_equivalent, margin)
    return replace(judged, words=_describe(judged, contrast))


def _describe(judged: Judged, contrast: Contrast) -> str:
    """Return the verdict in words."""
    interval = judged.estimate
    if interval is None or math.isnan(interval.low):
        figures = f"{contrast.estimate.value:+.1f} points; one seed gives no interval"
    else:
        figures = f"{interval.estimate:+.1f} points (95 %: {interval.low:+.1f} to {interval.high:+.1f}"
        figures += f" over {contrast.drawn}"
        if judged.seeds_only is not None and contrast.drawn != "seeds":
            figures += f"; {judged.seeds_only.low:+.1f} to {judged.seeds_only.high:+.1f} over seeds alone"
        figures += f"), p {judged.p:.3f} after Holm"
        if judged.verdict in ("equivalent", "undecided"):
            inside = in_words("equivalent", judged.margin)
            figures += f", and p {judged.p_equivalent:.3f} after Holm for {inside}"
    against = f"{contrast.plus} against {contrast.minus} at {contrast.volume:,} examples"
    return f"{judged.verdict_in_words.capitalize()}: {figures}; {against}, {contrast.counts}."

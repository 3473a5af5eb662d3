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
from xlt.studies.analysis.interval import Interval
from xlt.studies.analysis.points import common_volume
from xlt.studies.analysis.robustness import clean, require_single
from xlt.studies.analysis.statistics import Estimate, holm
from xlt.studies.design.targets import NONE

Verdict = Literal["supported", "contradicted", "undecided", "not run"]

ALPHA = 0.05
"""Chance of one wrong verdict in all of a study's claims."""

NEGLIGIBLE = 1.0
"""Points below which a gain is none worth the name: what "does not gain" is held against."""

MIXTURE = "mixture"
ALL_OTHERS = "*"
"""In a claim: every other intermediate task of English data alone, one after the other or together."""

VARIANTS = {"_mlm": "continued MLM beside it", "_translated": "machine-translated data beside it"}
"""Ends of the names of arms that add to the task whose name goes before."""


class Claim(NamedTuple):
    """A claim of the paper.

    Args:
        name: A short name.
        text: The claim in a sentence.
        paper: What the paper reports.
        arm: The intermediate task, "*" for the mean of all, or the end of the variants' names.
        rival: What it is held against: "none", "*" for each other task, or "" for the variant's own task.
        target: The target that it is about; all where empty.
        gains: Whether the claim is that the arm is better, or that it is not better.
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
    Claim("best", "All tasks together are better than any one", "8.7 against 8.2", MIXTURE, ALL_OTHERS),
    Claim("xnli", "XNLI does not gain", "no gain from intermediate tasks", ALL_OTHERS, NONE, "xnli", False),
    Claim(
        "mlm", "Continued MLM beside a task is not better than the task alone",
        "no consistent gain", "_mlm", "", "", False,
    ),
    Claim(
        "translated", "Machine-translated data beside a task's are not better than English alone",
        "no consistent gain", "_translated", "", "", False,
    ),
)  # fmt: skip
"""In the order in which a report shows them."""


@dataclass(frozen=True)
class Judged:
    """A claim and what a study says of it.

    Args:
        claim: The claim.
        estimate: The difference in points with an interval of 95 % over seeds and targets (over seeds and
            languages where there is one target); of the closest rival where there are several; None if not
            run.
        verdict: By the p-values of all claims, raised by Holm's method.
        words: The verdict with its figures, and what it lacks.
        p: The raised p-value; NaN where there is none.
        here: The interval over seeds alone, which says nothing of other targets or languages.
        volume: Examples of intermediate training; 0 if not run.
    """

    claim: Claim
    estimate: Interval | None
    verdict: Verdict
    words: str
    p: float = math.nan
    here: Interval | None = None
    volume: int = 0


class Weighed(NamedTuple):
    """A claim's comparison, before the others are known."""

    claim: Claim
    contrast: Contrast
    p_for: float
    """Both sides together, that the claim holds."""
    p_against: float


def judge(scores: pd.DataFrame, alpha: float = ALPHA) -> list[Judged]:
    """Every claim against a study's scores (rows as they are), at the largest volume that all its tasks have.

    A claim that an arm is better is supported where the difference is surely above 0 and contradicted where
    it is surely below. That it is not better is supported where the gain is surely below 1 point, and
    contradicted where it is surely above 0. Surely: p below alpha, raised by Holm's method over the claims
    that were run.

    Raises:
        ValueError: A score stands twice.

    Source: Holm (1979); Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15(6) (a margin
    for
    what is no difference); Berger (1982), Technometrics 24(4) (best of all: the weakest comparison counts).
    """
    kept = clean(scores)
    require_single(kept, ["intermediate", "volume", "seed", "target_seed", "target", "language"])
    found = [_weigh(claim, kept) for claim in CLAIMS]
    weighed = [one for one in found if isinstance(one, Weighed) and not math.isnan(one.p_for + one.p_against)]
    raised = holm({one.claim.name: min(one.p_for, one.p_against) for one in weighed})
    return [_judged(one, raised, alpha) if isinstance(one, Weighed) else one for one in found]


def _weigh(claim: Claim, scores: pd.DataFrame) -> Weighed | Judged:
    """The claim's comparison, the closest of several; or that it was not run."""
    everywhere = common_volume(scores)
    contrasts = []
    for plus, minus in _pairs(claim, sorted(set(scores["intermediate"]))):
        volume = everywhere or common_volume(scores, plus + minus)
        contrast = compare(scores, plus, minus, volume, claim.target)
        if contrast:
            contrasts.append(contrast)
    if not contrasts:
        return Judged(claim, None, "not run", f"Not run: {_lacking(claim, scores)}.")
    if claim.rival == ALL_OTHERS:
        return _weakest(claim, contrasts)
    return Weighed(claim, contrasts[0], *_both_sides(claim, contrasts[0].estimate))


def _both_sides(claim: Claim, estimate: Estimate) -> tuple[float, float]:
    """p-values for and against a claim, doubled for the side not looked at; NaN where one seed tells none."""
    if claim.gains:
        sides = estimate.p_above(0.0), estimate.p_below(0.0)
    else:
        sides = estimate.p_below(NEGLIGIBLE), estimate.p_above(0.0)
    return float(np.minimum(1.0, 2 * sides[0])), float(np.minimum(1.0, 2 * sides[1]))


def _weakest(claim: Claim, contrasts: Sequence[Contrast]) -> Weighed:
    """Best of all: for it the weakest comparison counts; against it the strongest, times the rivals."""
    sides = [_both_sides(claim, contrast.estimate) for contrast in contrasts]
    closest = min(contrasts, key=lambda contrast: contrast.estimate.value)
    against = np.minimum(1.0, len(sides) * np.min([side[1] for side in sides]))
    return Weighed(claim, closest, float(np.max([side[0] for side in sides])), float(against))


def _pairs(claim: Claim, arms: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Which arms are held against which: means of several on either side."""
    single = [arm for arm in arms if arm not in (NONE, MIXTURE) and not arm.endswith(tuple(VARIANTS))]
    if claim.arm in VARIANTS:
        tasks = [arm.removesuffix(claim.arm) for arm in arms if arm.endswith(claim.arm)]
        tasks = [task for task in tasks if task in arms]
        return [([task + claim.arm for task in tasks], tasks)] if tasks else []
    if claim.rival == ALL_OTHERS:
        return [([claim.arm], [other]) for other in single] if claim.arm in arms else []
    plus = [*single, *([MIXTURE] if MIXTURE in arms else [])] if claim.arm == ALL_OTHERS else [claim.arm]
    return [(plus, [claim.rival])] if {*plus, claim.rival} <= set(arms) and plus else []


def _lacking(claim: Claim, scores: pd.DataFrame) -> str:
    """What the study would need to judge the claim."""
    if not _pairs(claim, sorted(set(scores["intermediate"]))):
        arm = {ALL_OTHERS: "an intermediate task"}.get(claim.arm, claim.arm)
        rival = {ALL_OTHERS: "a single task", "": "its task alone"}.get(claim.rival, claim.rival)
        if claim.arm in VARIANTS:
            arm = f"a task with {VARIANTS[claim.arm]} (named TASK{claim.arm})"
        return f"the study needs {arm} and {rival}"
    if claim.target and claim.target not in set(scores["target"]):
        return f"the study has no target {claim.target}"
    return "no seed has all of the arms that it compares at one volume yet"


def _judged(weighed: Weighed, raised: dict[str, float], alpha: float) -> Judged:
    """The verdict, when the p-values of all claims are known."""
    claim, contrast, p = weighed.claim, weighed.contrast, raised.get(weighed.claim.name, math.nan)
    verdict: Verdict = "undecided"
    if p < alpha:
        # A small sure gain is a gain, though it is also surely below what is worth the name.
        factor = p / max(min(weighed.p_for, weighed.p_against), 1e-300)
        verdict = "contradicted" if weighed.p_against * factor < alpha else "supported"
    estimate, here = contrast.estimate.interval(), contrast.here.interval()
    judged = Judged(claim, estimate, verdict, "", p, here, contrast.volume)
    return replace(judged, words=_words(judged, contrast))


def _words(judged: Judged, contrast: Contrast) -> str:
    """The verdict in words."""
    interval = judged.estimate
    if interval is None or math.isnan(interval.low):
        figures = f"{contrast.estimate.value:+.1f} points; one seed gives no interval"
    else:
        figures = f"{interval.estimate:+.1f} points (95 %: {interval.low:+.1f} to {interval.high:+.1f}"
        figures += f" over {contrast.drawn}"
        if judged.here is not None and contrast.drawn != "seeds":
            figures += f"; {judged.here.low:+.1f} to {judged.here.high:+.1f} over seeds alone"
        figures += f"), p {judged.p:.3f} after Holm"
    against = f"{contrast.plus} against {contrast.minus} at {contrast.volume:,} examples"
    return f"{judged.verdict.capitalize()}: {figures}; {against}, {contrast.counts}."

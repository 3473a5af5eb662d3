"""A linear model with crossed random intercepts, in a form that statsmodels fits fast.

statsmodels takes crossed intercepts as one group, in time that grows at least with the square of the lines:
minutes for 4,000 lines. An orthogonal rotation of the lines does not change the likelihood. After a rotation
that moves all fixed and random columns into the first r coordinates, the other n − r coordinates are pure
noise and form groups of their own. N lines, r rank of all columns.
"""

# pandas declares its return types too broadly.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import orth
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

from xlt.studies.design.nodes import NONE

GROUP_SIZE = 300
"""Maximum number of noise lines in a group: larger groups take more time than they save."""

AT_ZERO = 1e-3
"""A component is set to 0 if its variance is below this share of the residual variance."""

NEAR_ZERO = 1e-2
"""The same limit if the fit failed: near 0 the likelihood is too flat for the optimizer."""


OPTIMIZERS = (["lbfgs", "bfgs"], ["powell"], ["nm"])
"""Optimizers in the order in which they are tried: the last two need no gradient."""


def fixed_terms(lines: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the columns of the fixed terms, and each line's log2(volume) minus its mean (0 for "none").

    Raises:
        ValueError: There are fewer lines than terms.
    """
    logs = np.log2(lines["volume"].where(lines["volume"] > 0))
    doublings = (logs - logs.mean()).fillna(0.0).to_numpy()
    has_plain = bool((lines["intermediate"] == NONE).any())
    terms = {NONE: np.ones(len(lines))} if has_plain else {}
    for task in sorted(set(lines["intermediate"]) - {NONE}):
        is_task = (lines["intermediate"] == task).to_numpy(float)
        terms[task] = is_task
        if lines.loc[is_task > 0, "volume"].nunique() > 1:
            terms[f"{task} x log2(volume)"] = is_task * doublings
    if len(lines) <= len(terms):
        raise ValueError(
            f"{len(lines)} scores are too few for {len(terms)} terms: finish more of the study's runs"
        )
    return pd.DataFrame(terms), doublings


def random_terms(lines: pd.DataFrame, doublings: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of each random component with several levels, but fewer levels than lines."""
    arm = lines["intermediate"] + " on " + lines["target"]
    run = arm + lines[["volume", "seed", "target_seed"]].astype(str).agg(" ".join, axis=1)
    labels = {"language": lines["language"], "target": lines["target"], "seed": lines["seed"]}
    several = lines["target"].nunique() > 1
    labels |= {"task by target": arm, "slope by target": arm} if several else {}
    found = {}
    for name, values in (labels | {"run": run}).items():
        if 1 < values.nunique() < len(lines):
            columns = pd.get_dummies(values, dtype=float).to_numpy()
            found[name] = columns * doublings[:, None] if name == "slope by target" else columns
    if not doublings.any():
        found.pop("slope by target", None)
    return found


def containment(lines: pd.DataFrame, terms: int) -> float:
    """Return the degrees of freedom of a task's effect over targets; with one target, over runs."""
    tasks, targets = len(set(lines["intermediate"]) - {NONE}), lines["target"].nunique()
    runs = len(lines.drop_duplicates(["intermediate", "volume", "seed", "target_seed"]))
    return float(max(tasks * (targets - 1) if targets > 1 else runs - terms, 1))


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Args:
        estimates: Estimates of the fixed terms.
        errors: Standard errors of the fixed terms.
        variances: Variances of the random components, with components set to 0; the residual variance is
            named "residual".
        converged: True if the fit ended at a maximum.
        words: Remarks on the fit; may be empty.
    """

    estimates: pd.Series
    errors: pd.Series
    variances: dict[str, float]
    converged: bool
    words: str


def fit_components(scores: np.ndarray, fixed: pd.DataFrame, random: Mapping[str, np.ndarray]) -> Fitted:
    """Fit by restricted maximum likelihood; components whose variance goes to 0 are left out and named.

    Args:
        scores: Shape (N,).
        fixed: Columns of the fixed terms.
        random: Columns of each random component, shape (N, levels).

    Raises:
        LinAlgError: The model cannot be fitted, nor can it with one component less.

    Source: Laird and Ware (1982), Biometrics 38(4); Baayen, Davidson and Bates (2008), Journal of Memory and
    Language 59(4) (crossed random effects); rotation: the likelihood of a normal vector is invariant to it.
    """
    left = dict(random)
    while left:
        try:
            result, scales, messages = _fit(scores, fixed, left)
        except np.linalg.LinAlgError:
            del left[_least_missed(scores, fixed, left)]
            continue
        variances = dict(zip(left, result.vcomp * scales, strict=True))
        smallest = min(variances, key=lambda name: variances[name])
        limit = NEAR_ZERO if messages else AT_ZERO
        if variances[smallest] >= limit * result.scale:
            break
        del left[smallest]
    else:
        return _least_squares(scores, fixed, list(random))
    zero = [name for name in random if name not in left]
    errors = _standard_errors(result)
    converged = bool(result.converged) and not messages and bool(np.isfinite(errors).all())
    remarks = [f"variance taken as 0: {', '.join(zero)}"] if zero else []
    remarks += ["; ".join(["the fit did not converge", *messages])] if not converged else []
    terms = fixed.columns
    return Fitted(
        pd.Series(np.asarray(result.fe_params), terms),
        pd.Series(errors, terms),
        {name: float(variances.get(name, 0.0)) for name in random} | {"residual": float(result.scale)},
        converged,
        "; ".join(remarks),
    )


def _standard_errors(result: Any) -> np.ndarray:
    """Return the standard errors of the fixed terms, shape (terms,); NaN for a negative variance.

    A fit that ends beside a maximum can have a Hessian that is not positive definite.
    """
    variances = np.diag(result.cov_params())[: len(result.fe_params)]
    return np.sqrt(np.where(variances < 0, np.nan, variances))


def _least_missed(scores: np.ndarray, fixed: pd.DataFrame, random: Mapping[str, np.ndarray]) -> str:
    """Return the component whose removal leaves the highest likelihood.

    statsmodels meets a singular matrix when the variance of a component reaches 0, and does not name it.
    """
    if len(random) == 1:
        return next(iter(random))
    likelihoods: dict[str, float] = {}
    for name in random:
        with suppress(np.linalg.LinAlgError):
            rest = {other: part for other, part in random.items() if other != name}
            likelihoods[name] = float(_fit(scores, fixed, rest)[0].llf)
    if not likelihoods:
        raise np.linalg.LinAlgError("Singular matrix")
    return max(likelihoods, key=lambda name: likelihoods[name])


def _least_squares(scores: np.ndarray, fixed: pd.DataFrame, zero: list[str]) -> Fitted:
    """Fit without random components: all of them are taken as 0."""
    columns, terms = fixed.to_numpy(float), fixed.columns
    estimates = np.linalg.lstsq(columns, scores)[0]
    scale = float(((scores - columns @ estimates) ** 2).sum()) / (len(scores) - columns.shape[1])
    errors = np.sqrt(scale * np.diag(np.linalg.inv(columns.T @ columns)))
    words = f"variance taken as 0: {', '.join(zero)}" if zero else ""
    variances = dict.fromkeys(zero, 0.0) | {"residual": scale}
    return Fitted(pd.Series(estimates, terms), pd.Series(errors, terms), variances, True, words)


def _fit(
    scores: np.ndarray, fixed: pd.DataFrame, random: Mapping[str, np.ndarray]
) -> tuple[Any, np.ndarray, list[str]]:
    """Fit once; return the result, the factors to multiply its variances by, and its warnings."""
    scales = _scales(scores, fixed.to_numpy(float), random)
    columns = [part * math.sqrt(scale) for part, scale in zip(random.values(), scales, strict=True)]
    turn = orth(np.concatenate([fixed.to_numpy(float), *columns], axis=1))
    noise = _noise(scores - turn @ (turn.T @ scores), len(scores) - turn.shape[1])
    values = np.concatenate([turn.T @ scores, noise])
    terms = np.concatenate([turn.T @ fixed.to_numpy(float), np.zeros((len(noise), fixed.shape[1]))])
    groups = np.concatenate([np.zeros(turn.shape[1], int), 1 + np.arange(len(noise)) // GROUP_SIZE])
    spec = _components(list(random), [turn.T @ part for part in columns], np.bincount(groups)[1:])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = _optimized(MixedLM(values, terms, groups, exog_re=None, exog_vc=spec))
    remarks = [str(warning.message) for warning in caught]
    return result, scales, [] if result.converged and not any("positive" in m for m in remarks) else remarks


def _optimized(model: MixedLM) -> Any:
    """Return the fitted model; a singular matrix on an optimizer's way makes the next optimizer try.

    Raises:
        LinAlgError: Every optimizer met a singular matrix.
    """
    for methods in OPTIMIZERS[:-1]:
        with suppress(np.linalg.LinAlgError):
            return model.fit(reml=True, method=methods)
    return model.fit(reml=True, method=OPTIMIZERS[-1])


def _scales(scores: np.ndarray, fixed: np.ndarray, random: Mapping[str, np.ndarray]) -> np.ndarray:
    """Guess each component's variance, in residual variances, so that the optimizer sees it as 1."""
    rest = scores - fixed @ np.linalg.lstsq(fixed, scores)[0]
    guesses = []
    for part in random.values():
        means = (part.T @ rest) / np.maximum((part**2).sum(0), 1e-12)
        rest = rest - part @ means
        guesses.append(float(np.var(means)))
    return np.maximum(np.array(guesses) / max(float(np.var(rest)), 1e-12), 1e-2)


def _noise(residual: np.ndarray, count: int) -> np.ndarray:
    """Return equal values, one for each coordinate of pure noise, with the noise's sum of squares."""
    return np.full(count, math.sqrt(float(residual @ residual) / count)) if count else np.zeros(0)


def _components(names: list[str], turned: list[np.ndarray], sizes: np.ndarray) -> VCSpec:
    """Return the random columns of each group: those of the first group, and zeros for the noise."""
    matrices = [[part, *[np.zeros((size, 1)) for size in sizes]] for part in turned]
    labels = [[[str(number) for number in range(part.shape[1])] for part in parts] for parts in matrices]
    return VCSpec(names, labels, matrices)

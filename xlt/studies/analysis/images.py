"""Measures of targets with images: image gain, corruption drop, and the score without or with other images.

A table of scores has the scores of runs that were trained and tested without images as the perturbation
`blind`. See `robustness` for the other columns.
"""

# pandas declares its return types too broadly.
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false

import pandas as pd

from xlt.evaluation.robustness import is_corruption
from xlt.studies.analysis.robustness import CELL, with_clean
from xlt.studies.design.images import BLIND


def image_gain(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the score minus the score of a run that was trained and tested without images.

    Both runs have the same intermediate training and seeds.

    Args:
        scores: The table of scores.

    Returns:
        The columns of `CELL`, `clean`, `blind`, and `gain` in points (NaN if the
        score with images is missing).
    """
    found = with_clean(scores, scores["perturbation"] == BLIND).rename(columns={"score": BLIND})
    return found.assign(gain=found["clean"] - found[BLIND])[[*CELL, "clean", BLIND, "gain"]]


def corruption_drop(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the clean score that is lost on corrupted images.

    Args:
        scores: The table of scores.

    Returns:
        The columns of `CELL`, `clean`, `corrupted` (mean over the kinds and
        severities), `drop` in percent of the clean score (NaN if that is missing or 0), and `is_complete`
        (False if another cell of the target has more corruptions).

    Source: Hendrycks and Dietterich (2019), https://arxiv.org/abs/1903.12261 (mean over kinds and
        severities), here relative to the clean score.
    """
    of_images = scores["perturbation"].fillna("").astype(str).map(is_corruption)
    mean = with_clean(scores, of_images).groupby([*CELL, "split"], sort=True)
    found = mean.agg(
        clean=("clean", "first"), corrupted=("score", "mean"), count=("score", "size")
    ).reset_index()
    drop = 100 * (found["clean"] - found["corrupted"]) / found["clean"].where(found["clean"] != 0)
    most = found.groupby("target")["count"].transform("max")
    found = found.assign(drop=drop, is_complete=found["count"] == most)
    return found[[*CELL, "clean", "corrupted", "drop", "is_complete"]]


def image_ratio(scores: pd.DataFrame, perturbation: str) -> pd.DataFrame:
    """Return the ratio of each score on perturbed images to the score on the images themselves.

    Args:
        scores: The table of scores.
        perturbation: `no-image` or `other-image`.

    Returns:
        The columns of `CELL`, `clean`, and `ratio` in percent (NaN if the clean score
        is missing or 0).
    """
    found = with_clean(scores, scores["perturbation"] == perturbation)
    ratio = 100 * found["score"] / found["clean"].where(found["clean"] != 0)
    return found.assign(ratio=ratio)[[*CELL, "clean", "ratio"]]

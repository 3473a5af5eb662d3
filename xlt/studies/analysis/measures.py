"""Measures of robustness against the volume: in each target, and the mean over targets."""

# pandas says what it returns too widely.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from xlt.studies.analysis import robustness
from xlt.studies.analysis.points import Reduce, mean_of, over, over_seeds, over_targets

LEVEL = {"noise": 10, "mix": 30}
"""Percent of characters or spans at which a measure is shown, where there is that level; else the highest."""


class Words(NamedTuple):
    """What a reader is told of a measure: its title, the title of its axis with the unit, and what it is."""

    title: str
    axis: str
    says: str


GAP = Words("Transfer gap", "Gap, points", "English less the mean of the other languages: lower is better.")
QUARTER = Words(
    "Worst quarter of languages",
    "Score, %",
    "The mean score of the lowest quarter of each target's languages: higher is better.",
)
HURT = Words(
    "Languages hurt",
    "Share, %",
    "The share of languages whose mean effect over seeds is below zero: lower is better. Where a task does "
    "nothing, chance alone hurts half of them.",
)
SELECTION = Words(
    "Selection gap",
    "Gap, points",
    "Test score of the checkpoint that is best by the language's own development rows, less that of the one "
    "that is best by English ones: lower is better.",
)
PERTURBED = {
    "noise": Words("Noise", "Of the clean score, %", "{level} % of characters changed"),
    "mix": Words(
        "Code-mixing",
        "Of the clean score, %",
        "{level} % of spans in other languages, the worst of the mixes",
    ),
}
LEFT = "The score with {text}, in percent of the clean score: higher is better, but chance alone is kept too."


@dataclass(frozen=True)
class Measure:
    """A measure of robustness against the volume.

    Args:
        name: Its name.
        words: The same for a reader.
        by_target: A line a target, arm and volume, as `over_seeds` returns.
        pooled: A line an arm and volume: the mean over targets.
    """

    name: str
    words: Words
    by_target: pd.DataFrame
    pooled: pd.DataFrame


def measures_of(
    scores: pd.DataFrame, checkpoints: pd.DataFrame, effects: pd.DataFrame, seeds: int
) -> list[Measure]:
    """The measures that there are numbers for.

    Args:
        scores: The study's table.
        checkpoints: Scores of other checkpoints on both splits; may be empty.
        effects: The effect in each language.
        seeds: How many there are where nothing is missing.
    """
    clean = robustness.clean(scores)
    found = [
        _reduced("transfer_gap", GAP, clean, "score", robustness.gap_by_language, seeds),
        _reduced("worst_quarter", QUARTER, clean, "score", robustness.worst_quarter, seeds),
        _hurt(effects, seeds),
        *_selection(checkpoints, seeds),
        *_perturbed(scores, seeds),
    ]
    return [measure for measure in found if len(measure.pooled)]


def _reduced(name: str, words: Words, frame: pd.DataFrame, value: str, reduce: Reduce, seeds: int) -> Measure:
    """A measure of each replicate's values by language."""
    own = over(frame, "language", ["target"], value, reduce)
    return Measure(name, words, over_seeds(own, ["target"], value, seeds), over_targets(own, value))


def _hurt(effects: pd.DataFrame, seeds: int) -> Measure:
    """The share of languages that an arm hurts: of their means over seeds, so that it has no interval."""
    table = robustness.share_hurt(effects)
    table = table[table["languages"] > 0]
    of = table["languages"] + table["incomplete"]
    table = table.assign(mean=100 * table["share"], common=table["languages"], of=of, seed=0)
    pooled = over(table, "target", (), "mean")
    return Measure("share_hurt", HURT, _without_interval(table, seeds), _without_interval(pooled, seeds))


def _without_interval(table: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Figures that are of all seeds at once, as `over_seeds` returns its own."""
    own = table.assign(low=float("nan"), high=float("nan"), seeds=seeds, complete=True)
    keys = [name for name in ("target", "intermediate", "volume") if name in own]
    rest = ["mean", "low", "high", "seeds", "common", "of", "complete"]
    return own[[*keys, *rest]].sort_values(keys, ignore_index=True)


def _selection(checkpoints: pd.DataFrame, seeds: int) -> Iterator[Measure]:
    """What choosing checkpoints in English costs, in the languages that both splits have rows of."""
    if len(checkpoints):
        gaps = robustness.selection_gap(checkpoints).dropna(subset="gap")
        yield _reduced("selection_gap", SELECTION, gaps, "gap", mean_of, seeds)


def _perturbed(scores: pd.DataFrame, seeds: int) -> Iterator[Measure]:
    """Those of noisy and of code-mixed text, in percent of the clean score."""
    for kind, left in (("noise", robustness.noise_ratio), ("mix", _worst_left)):
        if scores["perturbation"].str.startswith(f"{kind}-").any():
            frame = left(scores)
            level = LEVEL[kind] if (frame["level"] == LEVEL[kind]).any() else int(frame["level"].max())
            own = frame[frame["level"] == level].dropna(subset="ratio")
            title, axis, text = PERTURBED[kind]
            words = Words(f"{title}, {level} %", axis, LEFT.format(text=text.format(level=level)))
            own = own.assign(ratio=100 * own["ratio"])
            yield _reduced(f"{kind}_{level}", words, own, "ratio", mean_of, seeds)


def _worst_left(scores: pd.DataFrame) -> pd.DataFrame:
    """The share of a score that is left on the worst mix, where no mix of a level is lacking."""
    mix = robustness.worst_mix(scores)
    return mix[mix["is_complete"]].assign(ratio=mix["worst"] / mix["clean"].where(mix["clean"] != 0))

"""Measures of robustness against the volume: in each target, and averaged over targets."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from xlt.evaluation.perturbations.images import NO_IMAGE, OTHER_IMAGE
from xlt.metrics.transfer_gap import transfer_gap
from xlt.studies.analysis import images, robustness
from xlt.studies.analysis.collapsed import count_collapsed
from xlt.studies.analysis.points import Reduce, average_over_seeds, average_over_targets, mean_of, reduce_over
from xlt.studies.analysis.results import StudyResults

SHOWN_LEVEL = {"noise": 10, "mix": 30}
"""Percent of characters or spans at which a measure is shown; without that level, the highest."""


class Labels(NamedTuple):
    """Texts about a measure for the reader: title, axis title with unit, and explanation."""

    title: str
    axis: str
    explanation: str


GAP = Labels(
    "Transfer gap", "Gap, points", "English score minus the mean of the other languages: lower is better."
)
QUARTER = Labels(
    "Worst quarter of languages",
    "Score, %",
    "Mean score of the lowest quarter of each target's languages: higher is better.",
)
HURT = Labels(
    "Languages hurt",
    "Share, %",
    "Share of languages whose mean effect over seeds is below zero: lower is better. If a task has no "
    "effect, chance alone hurts half of them.",
)
SELECTION = Labels(
    "Selection gap",
    "Gap, points",
    "Test score of the checkpoint chosen on the language's own development rows, minus that of the "
    "checkpoint chosen on English ones: lower is better.",
)
PERTURBED = {
    "noise": Labels("Noise", "Of the clean score, %", "{level} % of characters changed"),
    "mix": Labels(
        "Code-mixing",
        "Of the clean score, %",
        "{level} % of spans in other languages (worst mix)",
    ),
}
PERTURBED_EXPLANATION = (
    "Score with {text}, in percent of the clean score: higher is better. A score at chance level does not "
    "fall either."
)


GAIN = Labels(
    "Image gain",
    "Gain, points",
    "Score minus the score of a run that was trained and tested without images: higher is better. A gain "
    "near zero means that the images do not help.",
)
DROP = Labels(
    "Corruption drop",
    "Of the clean score, %",
    "Share of the clean score that is lost on corrupted images, averaged over kinds and severities: lower "
    "is better. A score at chance level does not fall either.",
)
OF_IMAGES = {
    NO_IMAGE: Labels(
        "Without images",
        "Of the clean score, %",
        "Score of the run with images when it is tested without them, in percent of the clean score.",
    ),
    OTHER_IMAGE: Labels(
        "With other images",
        "Of the clean score, %",
        "Score with the image of another row, in percent of the clean score: a run that reads its images "
        "loses much.",
    ),
}
CONSISTENCY = Labels(
    "Consistency with English",
    "Share, %",
    "Share of the test examples that are answered as in English, right or wrong: higher is better.",
)


class ByLanguage(NamedTuple):
    """A measure by language: its name, its texts, a line for each value, and the column of the values."""

    name: str
    labels: Labels
    frame: pd.DataFrame
    value: str


@dataclass(frozen=True)
class Measure:
    """A measure of robustness against the volume.

    Args:
        name: Name of the measure.
        labels: Texts about the measure for the reader.
        by_target: One line for each target, arm and volume, as `average_over_seeds` returns.
        pooled: One line for each arm and volume: the mean over targets.
        is_paired: True if the measure compares with the arm without intermediate training.
    """

    name: str
    labels: Labels
    by_target: pd.DataFrame
    pooled: pd.DataFrame
    is_paired: bool = False

    def with_collapsed(self, runs: pd.DataFrame) -> "Measure":
        """Return the measure with the number of collapsed runs behind each point."""
        tables = [count_collapsed(table, runs, self.is_paired) for table in (self.by_target, self.pooled)]
        return replace(self, by_target=tables[0], pooled=tables[1])


def measures_of(study: StudyResults, effects: pd.DataFrame, seeds: int) -> list[Measure]:
    """Return the measures that the scores allow.

    Every measure but the transfer gap is averaged over the languages that the target's mean covers.

    Args:
        study: Results of the study.
        effects: The effect in each language.
        seeds: Number of seeds of a complete point.
    """

    def averaged(frame: pd.DataFrame) -> pd.DataFrame:
        return robustness.averaged(frame, study.without_english)

    clean, scores = robustness.clean(study.scores), study.scores
    found = [
        _reduced("transfer_gap", GAP, clean, "score", transfer_gap, seeds),
        _reduced("worst_quarter", QUARTER, averaged(clean), "score", robustness.worst_quarter, seeds),
        _hurt(averaged(effects), seeds),
        *(_reduced("selection_gap", SELECTION, averaged(gaps), "gap", mean_of, seeds)
          for gaps in _selection(study.checkpoints)),
        *(_reduced(name, labels, averaged(own), value, mean_of, seeds)
          for name, labels, own, value in (*_perturbed(scores), *_of_images(scores), *_consistency(study))),
    ]  # fmt: skip
    return [measure for measure in found if len(measure.pooled)]


def _reduced(
    name: str, labels: Labels, frame: pd.DataFrame, value: str, reduce: Reduce, seeds: int
) -> Measure:
    """Return a measure that reduces each replicate's values by language."""
    by_target = reduce_over(frame, "language", ["target"], value, reduce)
    return Measure(
        name,
        labels,
        average_over_seeds(by_target, ["target"], value, seeds),
        average_over_targets(by_target, value),
    )


def _hurt(effects: pd.DataFrame, seeds: int) -> Measure:
    """Return the share of languages that an arm hurts; it uses means over seeds, so it has no interval."""
    table = robustness.share_hurt(effects)
    table = table[table["languages"] > 0]
    total = table["languages"] + table["incomplete"]
    table = table.assign(mean=100 * table["share"], common=table["languages"], of=total, seed=0)
    pooled = reduce_over(table, "target", (), "mean")
    shown = _without_interval(table, seeds), _without_interval(pooled, seeds)
    return Measure("share_hurt", HURT, *shown, is_paired=True)


def _without_interval(table: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Return figures over all seeds in the form of `average_over_seeds`, without intervals."""
    own = table.assign(low=float("nan"), high=float("nan"), seeds=seeds, complete=True)
    keys = [name for name in ("target", "intermediate", "volume") if name in own]
    rest = ["mean", "low", "high", "seeds", "common", "of", "complete"]
    return own[[*keys, *rest]].sort_values(keys, ignore_index=True)


def _selection(checkpoints: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the selection gap in the languages that have rows of both splits."""
    if len(checkpoints):
        yield robustness.selection_gap(checkpoints).dropna(subset="gap")


def _perturbed(scores: pd.DataFrame) -> Iterator[ByLanguage]:
    """Yield the measures of noisy and of code-mixed text, in percent of the clean score."""
    for kind, ratios in (("noise", robustness.noise_ratio), ("mix", _worst_mix_ratio)):
        if scores["perturbation"].str.startswith(f"{kind}-").any():
            frame = ratios(scores)
            level = (
                SHOWN_LEVEL[kind]
                if (frame["level"] == SHOWN_LEVEL[kind]).any()
                else int(frame["level"].max())
            )
            own = frame[frame["level"] == level].dropna(subset="ratio")
            title, axis, text = PERTURBED[kind]
            labels = Labels(
                f"{title}, {level} %", axis, PERTURBED_EXPLANATION.format(text=text.format(level=level))
            )
            yield ByLanguage(f"{kind}_{level}", labels, own.assign(ratio=100 * own["ratio"]), "ratio")


def _of_images(scores: pd.DataFrame) -> Iterator[ByLanguage]:
    """Yield the measures of targets with images that the scores allow."""
    gains = images.image_gain(scores).dropna(subset="gain")
    if len(gains):
        yield ByLanguage("image_gain", GAIN, gains, "gain")
    drops = images.corruption_drop(scores).dropna(subset="drop")
    if len(drops):
        yield ByLanguage("corruption_drop", DROP, drops[drops["is_complete"]], "drop")
    for perturbation, labels in OF_IMAGES.items():
        ratios = images.image_ratio(scores, perturbation).dropna(subset="ratio")
        if len(ratios):
            yield ByLanguage(perturbation.replace("-", "_"), labels, ratios, "ratio")


def _consistency(study: StudyResults) -> Iterator[ByLanguage]:
    """Yield the consistency with English, if evaluations have it."""
    if len(study.consistency):
        yield ByLanguage("consistency", CONSISTENCY, study.consistency, "percent")


def _worst_mix_ratio(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio of the worst mix to the clean score, for levels without a missing mix."""
    mix = robustness.worst_mix(scores)
    return mix[mix["is_complete"]].assign(ratio=mix["worst"] / mix["clean"].where(mix["clean"] != 0))

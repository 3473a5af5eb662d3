"""What a study found, worked out once for its figures, its tables and its page."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from xlt.studies import names, robustness
from xlt.studies.claims import Judged, judge
from xlt.studies.points import Reduce, at_common_volume, mean_of, over, over_seeds, over_targets
from xlt.studies.results import NONE, StudyResults
from xlt.studies.volumes import curves

LEVEL = {"noise": 10, "mix": 30}
"""Percent of characters or spans at which the page shows a measure, where there is that level."""


@dataclass(frozen=True)
class Measure:
    """A measure of robustness against the volume.

    Args:
        name: Its name.
        title: The same for a reader.
        axis: Title of its axis, with the unit.
        says: What it is, in a sentence.
        by_target: A line a target, arm and volume, as `over_seeds` returns.
        pooled: A line an arm and volume: the mean over targets.
    """

    name: str
    title: str
    axis: str
    says: str
    by_target: pd.DataFrame
    pooled: pd.DataFrame


class Findings:
    """The numbers of a study.

    Args:
        study: The study.
    """

    def __init__(self, study: StudyResults) -> None:
        self.study = study
        self.clean = study.scores[study.scores["perturbation"] == ""]
        self.arms = names.arms(self.clean["intermediate"])
        self.targets = names.targets(self.clean["target"])
        self.seeds = sorted(set(self.clean["seed"]))
        self.volumes = sorted(set(self.clean.loc[self.clean["intermediate"] != NONE, "volume"]))

    @cached_property
    def replicates(self) -> pd.DataFrame:
        """The score of each replicate in each target: the mean over languages."""
        return over(self.clean, "language", ["target"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The same over seeds."""
        return over_seeds(self.replicates, ["target"], seeds=len(self.seeds))

    @cached_property
    def by_language(self) -> pd.DataFrame:
        """The effect in each language: the score less that of the same seeds without intermediate training."""
        found = robustness.effects(self.clean)
        return found[found["intermediate"] != NONE]

    @cached_property
    def replicate_effects(self) -> pd.DataFrame:
        """The effect in each replicate and target: the mean over languages."""
        return over(self.by_language, "language", ["target"], "effect")

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The same over seeds."""
        return over_seeds(self.replicate_effects, ["target"], "effect", len(self.seeds))

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """The mean effect over targets."""
        return over_targets(self.replicate_effects, "effect")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The effect in each language over seeds, at the largest volume that the arms share."""
        own = self.by_language.assign(common=1, of=1)
        return at_common_volume(over_seeds(own, ["target", "language"], "effect", len(self.seeds)))

    @cached_property
    def measures(self) -> list[Measure]:
        """The measures of robustness that there are numbers for."""
        found = [*self._of_languages(), self._hurt(), *self._perturbed()]
        return [measure for measure in found if len(measure.pooled)]

    def _of_languages(self) -> list[Measure]:
        """Those of the clean scores by language."""
        gap = self._measure(
            "transfer_gap", "Transfer gap", "Gap, points",
            "English less the mean of the other languages: lower is better.",
            self.clean, "score", robustness.transfer_gap,
        )  # fmt: skip
        quarter = self._measure(
            "worst_quarter", "Worst quarter of languages", "Score, %",
            "The mean score of the lowest quarter of each target's languages: higher is better.",
            self.clean, "score", robustness.worst_quarter,
        )  # fmt: skip
        return [gap, quarter]

    def _measure(
        self, name: str, title: str, axis: str, says: str, frame: pd.DataFrame, value: str, reduce: Reduce
    ) -> Measure:
        """A measure of each replicate's values by language."""
        own = over(frame, "language", ["target"], value, reduce)
        by_target = over_seeds(own, ["target"], value, len(self.seeds))
        return Measure(name, title, axis, says, by_target, over_targets(own, value))

    def _hurt(self) -> Measure:
        """The share of languages that an arm hurts: of their means over seeds, so that it has no interval."""
        table = robustness.share_hurt(self.by_language)
        table = table[table["languages"] > 0]
        of = table["languages"] + table["incomplete"]
        table = table.assign(mean=100 * table["share"], common=table["languages"], of=of, seed=0)
        pooled = over(table, "target", (), "mean")
        return Measure(
            "share_hurt", "Languages hurt", "Share, %",
            "The share of languages whose mean effect over seeds is below zero: lower is better. Where a task "
            "does nothing, chance alone hurts half of them.",
            _without_interval(table, len(self.seeds)), _without_interval(pooled, len(self.seeds)),
        )  # fmt: skip

    def _perturbed(self) -> Iterator[Measure]:
        """Those of noisy and of code-mixed text, in percent of the clean score."""
        noise, mix = robustness.noise_ratio(self.study.scores), robustness.worst_mix(self.study.scores)
        mix = mix[mix["is_complete"]].assign(ratio=mix["worst"] / mix["clean"].where(mix["clean"] != 0))
        for kind, frame, title, says in (
            ("noise", noise, "Noise", "{level} % of characters changed"),
            ("mix", mix, "Code-mixing", "{level} % of spans in other languages, the worst of the mixes"),
        ):
            if len(frame):
                level = LEVEL[kind] if (frame["level"] == LEVEL[kind]).any() else int(frame["level"].max())
                own = frame[frame["level"] == level].dropna(subset="ratio")
                own = own.assign(ratio=100 * own["ratio"])
                about = f"The score with {says.format(level=level)}, in percent of the clean score: higher is better."
                yield self._measure(
                    f"{kind}_{level}", f"{title}, {level} %", "Of the clean score, %", about, own, "ratio", mean_of
                )

    @cached_property
    def judged(self) -> list[Judged]:
        """The paper's claims, each with what this study says of it."""
        return list(judge(self.study.scores))

    @cached_property
    def fits(self) -> pd.DataFrame:
        """The curves of each arm: by target over its languages, and over all targets (an empty target)."""
        return curves(self.clean, by_language=False)


def _without_interval(table: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Figures that are of all seeds at once, as `over_seeds` returns its own."""
    own = table.assign(low=float("nan"), high=float("nan"), seeds=seeds)
    own = own.assign(complete=own["common"] == own["of"])
    keys = [name for name in ("target", "intermediate", "volume") if name in own]
    rest = ["mean", "low", "high", "seeds", "common", "of", "complete"]
    return own[[*keys, *rest]].sort_values(keys, ignore_index=True)

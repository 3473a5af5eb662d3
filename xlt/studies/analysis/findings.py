"""The findings of a study, computed once for its figures, tables and page."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd

from xlt.studies.analysis import names, robustness
from xlt.studies.analysis.bootstrap import bootstrap_effects
from xlt.studies.analysis.claims import Judged, judge
from xlt.studies.analysis.collapsed import collapsed_runs, count_collapsed
from xlt.studies.analysis.covariates import covariate_effects
from xlt.studies.analysis.equivalence import effect_verdicts, volume_verdicts
from xlt.studies.analysis.measures import Measure, measures_of
from xlt.studies.analysis.points import (
    at_common_volume,
    average_over_seeds,
    average_over_targets,
    reduce_over,
)
from xlt.studies.analysis.power import Question, questions_of
from xlt.studies.analysis.recipes import Recipes, analyse
from xlt.studies.analysis.results import StudyResults
from xlt.studies.analysis.statistics import mixed_model
from xlt.studies.analysis.volumes import curves
from xlt.studies.design.nodes import NONE


class Findings:
    """The numbers of a study, computed when first used.

    Args:
        study: Results of the study.
    """

    def __init__(self, study: StudyResults) -> None:
        self.study = study
        self.clean = robustness.clean(study.scores)
        self.averaged = robustness.averaged(self.clean, study.without_english)
        """The lines of `clean` that means over languages cover."""
        self.arms = names.sort_arms(self.clean["intermediate"])
        self.targets = names.sort_targets(self.clean["target"])
        self.seeds = sorted(set(self.clean["seed"]))
        self.volumes = sorted(set(self.clean.loc[self.clean["intermediate"] != NONE, "volume"]))

    @cached_property
    def collapsed(self) -> pd.DataFrame:
        """The collapsed runs, one line for each. Column `collapsed` of the means below is their number."""
        return collapsed_runs(self.clean)

    @cached_property
    def replicates(self) -> pd.DataFrame:
        """Score of each replicate in each target: the mean over languages."""
        return reduce_over(self.averaged, "language", ["target"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Mean and interval over seeds of `replicates`."""
        points = average_over_seeds(self.replicates, ["target"], seeds=len(self.seeds))
        return count_collapsed(points, self.collapsed)

    @cached_property
    def by_language(self) -> pd.DataFrame:
        """Effect in each language, paired by seed with the arm without intermediate training."""
        return robustness.effects(self.clean)

    @cached_property
    def replicate_effects(self) -> pd.DataFrame:
        """Effect of each replicate in each target: the mean over languages."""
        own = robustness.averaged(self.by_language, self.study.without_english)
        return reduce_over(own, "language", ["target"], "effect")

    @cached_property
    def effects(self) -> pd.DataFrame:
        """Mean and interval of `replicate_effects`; `of_rows` marks intervals over test rows too."""
        points = average_over_seeds(self.replicate_effects, ["target"], "effect", len(self.seeds))
        points = count_collapsed(points, self.collapsed, is_paired=True)
        if self.study.folder is None or not (self.clean["example_scores"] != "").any():
            return points.assign(of_rows=False)
        return _add_row_intervals(points, self.averaged, self.study.folder)

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """Mean effect over targets."""
        points = average_over_targets(self.replicate_effects, "effect")
        return count_collapsed(points, self.collapsed, is_paired=True)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Effect in each language over seeds, at the largest volume that all arms have."""
        own = self.by_language.assign(common=1, of=1)
        points = average_over_seeds(own, ["target", "language"], "effect", len(self.seeds))
        return at_common_volume(count_collapsed(points, self.collapsed, is_paired=True))

    @cached_property
    def covariates(self) -> pd.DataFrame:
        """Models of the effects in `cells` on facts about the languages; no line without effects."""
        return covariate_effects(self.cells)

    @cached_property
    def measures(self) -> list[Measure]:
        """Measures of robustness that the scores allow."""
        found = measures_of(self.study, self.by_language, len(self.seeds))
        return [measure.with_collapsed(self.collapsed) for measure in found]

    @cached_property
    def judged(self) -> list[Judged]:
        """The paper's claims with their verdicts, on text targets; none if all targets have images."""
        own = self.averaged[~self.averaged["target"].isin(list(self.study.with_images))]
        return judge(own, margin=self.study.margin) if len(own) else []

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The effect of each arm at each volume with its verdict, on all targets and on each target."""
        return effect_verdicts(self.averaged, self.study.margin)

    @cached_property
    def volume_verdicts(self) -> pd.DataFrame:
        """Each arm with several volumes: the largest against the smallest, with a verdict."""
        return volume_verdicts(self.averaged, self.study.margin)

    @cached_property
    def recipes(self) -> Recipes | None:
        """The effects by recipe; None if the study has one recipe."""
        scores = self.study.recipes
        return analyse(scores, self.study.without_english) if len(scores) else None

    @cached_property
    def fits(self) -> pd.DataFrame:
        """Curves of each arm: by target over its languages, and over all targets (an empty target)."""
        table = curves(self.averaged)
        if table.empty:
            return table
        is_pooled = table["target"] == ""
        parts = [table[is_pooled].drop(columns="target"), table[~is_pooled]]
        counts = [count_collapsed(part, self.collapsed, is_paired=True)["collapsed"] for part in parts]
        return table.assign(collapsed=pd.concat(counts))

    @cached_property
    def model(self) -> pd.DataFrame:
        """The mixed model of all scores; without terms if there are too few scores."""
        try:
            return mixed_model(self.averaged)
        except ValueError:
            return pd.DataFrame(
                columns=pd.Index(["term", "estimate", "low", "high", "p", "converged", "words"])
            )

    @cached_property
    def questions(self) -> list[Question]:
        """Questions of the report with the SD over seeds that their tests depend on."""
        return questions_of(self.averaged)


def load_example_scores(folder: Path, path: str) -> np.ndarray:
    """Return the scores of the examples of a cell.

    Args:
        folder: The study's folder.
        path: Path of the file in it.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return np.load(folder / path)
    except (OSError, ValueError, EOFError) as error:
        node = (folder / path).parents[1]
        raise ValueError(
            f"{folder / path} is damaged ({error}): delete the folder {node}, and run the study again"
        ) from error


def _add_row_intervals(points: pd.DataFrame, scores: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Extend the intervals to test rows where all scores of a point have example scores."""
    keys = ["target", "intermediate", "volume"]
    drawn = bootstrap_effects(scores, partial(load_example_scores, folder))
    drawn = drawn.rename(columns={"low": "rows_low", "high": "rows_high", "seeds": "rows_seeds"})
    drawn = drawn[[*keys, "rows_low", "rows_high", "rows_seeds", "languages"]]
    merged = points.merge(drawn, on=keys, how="left")
    of_rows = (merged["rows_seeds"] == merged["seeds"]) & (merged["languages"] == merged["common"])
    low, high = (
        merged["low"].mask(of_rows, merged["rows_low"]),
        merged["high"].mask(of_rows, merged["rows_high"]),
    )
    return points.assign(low=low, high=high, of_rows=of_rows)

"""Measures of robustness: consistency with English, image gain, and the drop under corrupted images.

Each measure has one value per task and language. Means leave English out, as IGLUE's do (Bugliarello et al.
2022, https://arxiv.org/abs/2201.11732). E and F examples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from xlt.data.multilingual import ENGLISH
from xlt.evaluation.perturbations.images import CORRUPT
from xlt.evaluation.scores import CellScore
from xlt.system.tables import aligned

NONE = "–"

CellKey = tuple[str, str]
"""A task and a language."""

Figures = dict[str, dict[str, float]]
"""Figures by language, by task. Tasks without figures are left out."""

Answers = Mapping[CellKey, Int[np.ndarray, "E 2"]]
"""The number of each example's English translation, -1 if it is unknown, and its predicted class, by cell."""


class Consistency(NamedTuple):
    """Share of the examples that are answered as in English, in percent, and the number of examples."""

    percent: float
    examples: int


def consistency(answers: Int[np.ndarray, "E 2"], english: Int[np.ndarray, "F 2"]) -> Consistency | None:
    """Return the share of the examples with the class that their English translation gets.

    Args:
        answers: English number and class of each example in another language.
        english: The same of the examples in English.

    Returns:
        None if no example has a translation.
    """
    classes = dict(english.tolist())
    pairs = [(answer, classes[number]) for number, answer in answers.tolist() if number in classes]
    if not pairs:
        return None
    return Consistency(100 * sum(one == other for one, other in pairs) / len(pairs), len(pairs))


def _consistencies(answers: Answers) -> dict[str, dict[str, Consistency]]:
    """Return the consistency of every language but English, by task."""
    found: dict[str, dict[str, Consistency]] = {}
    for (task, language), own in answers.items():
        english = answers.get((task, ENGLISH))
        value = None if language == ENGLISH or english is None else consistency(own, english)
        if value is not None:
            found.setdefault(task, {})[language] = value
    return found


def image_gains(scores: Sequence[CellScore], blind: Mapping[CellKey, CellScore]) -> Figures:
    """Return the score minus the score without images, in points.

    Args:
        scores: The scores.
        blind: Scores of a model that was trained and tested without images.
    """
    found: Figures = {}
    for cell in scores:
        other = blind.get((cell.task, cell.language))
        if other is not None and not cell.perturbation:
            found.setdefault(cell.task, {})[cell.language] = cell.mean - other.mean
    return found


def corruption_drops(scores: Sequence[CellScore]) -> Figures:
    """Return the share of the clean score that is lost on corrupted images, in percent.

    The value is (clean - corrupted) / clean, averaged over the kinds and severities. Languages with a clean
    score of 0 are left out.

    Args:
        scores: The scores.

    Source: Hendrycks and Dietterich (2019), https://arxiv.org/abs/1903.12261, whose mean corruption error is
        a mean over kinds and severities too, but relative to the errors of AlexNet.
    """
    clean = {(cell.task, cell.language): cell.mean for cell in scores if not cell.perturbation}
    drops: dict[CellKey, list[float]] = {}
    for cell in scores:
        before = clean.get((cell.task, cell.language), 0.0)
        if is_corruption(cell.perturbation) and before > 0:
            drops.setdefault((cell.task, cell.language), []).append(100 * (before - cell.mean) / before)
    found: Figures = {}
    for (task, language), values in drops.items():
        found.setdefault(task, {})[language] = float(np.mean(values))
    return found


def is_corruption(perturbation: str) -> bool:
    """Return True for the name of a corruption of images, such as `corrupt-fog-3`."""
    return perturbation.startswith(f"{CORRUPT}-")


def mean_of(figures: Mapping[str, float]) -> float | None:
    """Return the mean over all languages but English; None if there are none."""
    values = [value for language, value in figures.items() if language != ENGLISH]
    return float(np.mean(values)) if values else None


def _with_means(figures: Figures) -> dict[str, dict[str, Any]]:
    """Return the figures of each task with their mean, for JSON."""
    return {task: {"mean": mean_of(found), "languages": found} for task, found in figures.items()}


def language_table(found: Mapping[str, Mapping[str, float]], sign: str = "") -> str:
    """Return a table of languages by tasks, with the means over all languages but English.

    Args:
        found: Figures by language, by task.
        sign: `+` to show the sign of positive figures. Defaults to none.
    """
    languages = {language for values in found.values() for language in values}
    in_order = sorted(languages, key=lambda language: (language != ENGLISH, language))
    lines = [["", *found]]
    for language in in_order:
        lines.append([language, *(_text(values.get(language), sign) for values in found.values())])
    lines.append([f"mean without {ENGLISH}", *(_text(mean_of(values), sign) for values in found.values())])
    return aligned(lines, rule_before=len(lines) - 1)


def _text(value: float | None, sign: str) -> str:
    """Return a figure with one decimal."""
    return NONE if value is None else f"{value:{sign}.1f}"


class Robustness:
    """Measures of robustness of an evaluation.

    Args:
        scores: All scores.
        answers: Predicted classes of examples that are translations, by cell. Defaults to none.
        blind: Scores without images, by cell. Defaults to none.
    """

    def __init__(
        self,
        scores: Sequence[CellScore],
        answers: Answers | None = None,
        blind: Mapping[CellKey, CellScore] | None = None,
    ) -> None:
        self._blind, self._answered = blind or {}, _consistencies(answers or {})
        self.consistency: Figures = {
            task: {language: found.percent for language, found in by_language.items()}
            for task, by_language in self._answered.items()
        }
        """Percentage of the examples that are answered as in English."""
        self.image_gain = image_gains(scores, self._blind)
        """Score minus the score without images, in points."""
        self.corruption_drop = corruption_drops(scores)
        """Percentage of the clean score that is lost on corrupted images."""

    def drop_line(self, tasks: Sequence[str]) -> list[list[str]]:
        """Return a line of a table of tasks with the mean corruption drops; no line if there are no drops."""
        drops = [mean_of(self.corruption_drop.get(task, {})) for task in tasks]
        texts = [NONE if drop is None else f"{drop:.1f} %" for drop in drops]
        return [["corruption drop", *texts]] if self.corruption_drop else []

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return each measure by task, with its mean over the languages, for JSON."""
        return {
            "consistency": {
                task: {
                    "mean": mean_of(self.consistency[task]),
                    "languages": {language: found._asdict() for language, found in by_language.items()},
                }
                for task, by_language in self._answered.items()
            },
            "image_gain": _with_means(self.image_gain),
            "corruption_drop": _with_means(self.corruption_drop),
        }

    def compared(self, cell: CellScore, metric: str) -> list[str]:
        """Return a cell's consistency and blind score for a CSV; empty texts if they are unknown.

        Args:
            cell: The cell.
            metric: The metric whose blind score is wanted.
        """
        if cell.perturbation:
            return ["", ""]
        percent = self.consistency.get(cell.task, {}).get(cell.language)
        blind = self._blind.get((cell.task, cell.language))
        score = None if blind is None else blind.metrics.get(metric)
        return ["" if value is None else f"{value:.6f}" for value in (percent, score)]

    def tables(self) -> list[str]:
        """Return a table with a heading for consistency, and for image gain, if there are figures."""
        found = []
        if self.consistency:
            found.append(f"examples answered as in English, in percent\n\n{language_table(self.consistency)}")
        if self.image_gain:
            gains = language_table(self.image_gain, "+")
            found.append(f"image gain: points above the score without images\n\n{gains}")
        return found

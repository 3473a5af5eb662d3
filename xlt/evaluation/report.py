"""Report of an evaluation: averages, transfer gaps and worst languages, as table, CSV, JSON and picture.

Missing cells are listed. An average over fewer languages or tasks than XTREME has carries its count. As in
XTREME, a group's average is the mean of its tasks' averages. Collapsed cells are marked, and named beside
every average that they are part of, see `xlt.metrics.collapse`.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from xlt.data.languages import name_of
from xlt.data.multilingual import ENGLISH
from xlt.evaluation.groups import GROUPS
from xlt.evaluation.heat_map import heat_map
from xlt.evaluation.robustness import NONE, Robustness
from xlt.evaluation.scores import CellScore
from xlt.kinds.task import Task
from xlt.metrics.collapse import collapse_note, verdict_of
from xlt.metrics.transfer_gap import transfer_gap
from xlt.system.tables import aligned

MARK = "*"
"""Mark of a score whose predictions have collapsed."""

ALL_TASKS = "all tasks"

Results = dict[str, dict[str, dict[str, Any]]]
"""Figures by name, by language, by task."""


class Average(NamedTuple):
    """A mean, the number of averaged values, and the number of a complete average."""

    value: float | None
    found: int
    wanted: int

    def __str__(self) -> str:
        """Return `41.2`, or `41.2 (12/15)` if values are missing."""
        if self.value is None:
            return NONE
        return f"{self.value:.1f}" + ("" if self.found == self.wanted else f" ({self.found}/{self.wanted})")


class Summary(NamedTuple):
    """Scores of a task over its languages.

    Args:
        mean: Mean over the languages.
        gap: Transfer gap; None if English or all other languages are missing.
        worst: The language with the lowest score.
        lowest: The lowest score.
        with_english: Mean over the languages with English, for a task whose mean leaves English out. None for
            other tasks.
    """

    mean: Average
    gap: float | None
    worst: str | None
    lowest: float | None
    with_english: Average | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON. A mean with English is part of them only if the task has one."""
        means = {
            name: value._asdict() for name, value in self._asdict().items() if isinstance(value, Average)
        }
        found = {**self._asdict(), **means}
        return found if self.with_english else {k: v for k, v in found.items() if k != "with_english"}


_GROUPS = {**GROUPS, ALL_TASKS: tuple(name for names in GROUPS.values() for name in names)}
"""The tasks of each group, and all of them."""


def label_of(group: str, mean: Average) -> str:
    """Return a group's name for tables. A mean over some tasks is not called a mean over all."""
    return "tasks averaged" if group == ALL_TASKS and mean.found < mean.wanted else group


def _counted(mean: Average, languages: int, wanted: int) -> str:
    """Return a group's mean with its counts, if incomplete: `24.4 (1/2 tasks, 2/33 languages)`."""
    if mean.value is None:
        return NONE
    counts = {"tasks": (mean.found, mean.wanted), "languages": (languages, wanted)}
    lacking = [f"{found}/{of} {what}" for what, (found, of) in counts.items() if found < of]
    return f"{mean.value:.1f}" + (f" ({', '.join(lacking)})" if lacking else "")


def summarise(task: Task[Any], scores: Mapping[str, float]) -> Summary:
    """Return a task's average, transfer gap and worst language.

    Args:
        task: The task. A complete average is over all its languages, or over all but English.
        scores: Scores by language, in percent.

    Source: Hu et al. (2020), averages of evaluate.py; https://github.com/e-bug/iglue/issues/1 for means
        without English.
    """
    means = [_mean_over(scores, task.languages)]
    if task.mean_without_english:
        means.insert(0, _mean_over(scores, [code for code in task.languages if code != ENGLISH]))
    if not scores:
        return Summary(means[0], None, None, None, *means[1:])
    worst = min(scores, key=lambda language: scores[language])
    return Summary(means[0], transfer_gap(scores, ENGLISH), worst, scores[worst], *means[1:])


def _mean_over(scores: Mapping[str, float], languages: Sequence[str]) -> Average:
    """Return the mean over the languages that have a score."""
    found = [score for language, score in scores.items() if language in languages]
    return Average(float(np.mean(found)) if found else None, len(found), len(languages))


class Report:
    """All scores of an evaluation, in several forms.

    Args:
        tasks: The tasks of the evaluation.
        scores: Scores of the finished cells.
        robustness: Measures of robustness. Defaults to those of the scores alone.
    """

    def __init__(
        self, tasks: Sequence[Task[Any]], scores: Sequence[CellScore], robustness: Robustness | None = None
    ) -> None:
        self.tasks, self.scores = tasks, scores
        self.robustness = robustness or Robustness(scores)
        clean = [cell for cell in scores if not cell.perturbation]
        self.by_task = {
            task.name: {cell.language: cell.mean for cell in clean if cell.task == task.name}
            for task in tasks
        }
        self.summaries = {task.name: summarise(task, self.by_task[task.name]) for task in tasks}
        self.collapsed = {
            task.name: [cell.language for cell in clean if cell.task == task.name and cell.is_collapsed]
            for task in tasks
        }
        """Languages in which a task's predictions have collapsed, by task."""

    @property
    def languages(self) -> list[str]:
        """English, then all other languages with a score, sorted."""
        found = {language for scores in self.by_task.values() for language in scores}
        return sorted(found, key=lambda language: (language != ENGLISH, language))

    def results(self, perturbation: str = "") -> Results:
        """Return metrics, chance and rows by task and language, for one perturbation or none."""
        found: Results = {}
        for cell in self.scores:
            if cell.perturbation == perturbation:
                main = next(iter(cell.metrics))
                figures = {**cell.metrics, **cell.details, "chance": cell.chance[main], "rows": cell.rows}
                found.setdefault(cell.task, {})[cell.language] = {**figures, "split": cell.split}
        return found

    def perturbed(self) -> dict[str, Results]:
        """Return the results by perturbation."""
        names = dict.fromkeys(cell.perturbation for cell in self.scores if cell.perturbation)
        return {name: self.results(name) for name in names}

    def groups(self) -> dict[str, Average]:
        """Return XTREME's group averages and the total, which are means of the tasks' averages."""
        return {group: self._mean(names) for group, names in _GROUPS.items()}

    def _means(self, names: Sequence[str]) -> list[Average]:
        """Return the averages of the tasks that have one."""
        means = [self.summaries[name].mean for name in names if name in self.summaries]
        return [mean for mean in means if mean.value is not None]

    def _mean(self, names: Sequence[str]) -> Average:
        """Return the mean of the averages of the tasks that have one."""
        known = [mean.value for mean in self._means(names) if mean.value is not None]
        return Average(float(np.mean(known)) if known else None, len(known), len(names))

    def group_languages(self) -> dict[str, tuple[int, int]]:
        """Return, by group, the number of scored languages of its averaged tasks, and XTREME's number."""
        means = {group: self._means(names) for group, names in _GROUPS.items()}
        return {g: (sum(m.found for m in found), sum(m.wanted for m in found)) for g, found in means.items()}

    def averages(self) -> list[str]:
        """Return a line for each group with a task of the evaluation."""
        groups, languages = self.groups(), self.group_languages()
        asked = [group for group in groups if set(_GROUPS[group]) & set(self.by_task)]
        counted = {group: _counted(groups[group], *languages[group]) for group in asked}
        return [f"{label_of(g, groups[g]):<20}{counted[g]}{self._collapse_part(_GROUPS[g])}" for g in asked]

    def _collapse_part(self, tasks: Sequence[str]) -> str:
        """Return the collapsed cells of the tasks as the end of a line: `, 1 collapsed: xnli sw`."""
        note = collapse_note(f"{name} {code}" for name in tasks for code in self.collapsed.get(name, ()))
        return f", {note}" if note else ""

    def summary(self) -> dict[str, Any]:
        """Return averages, gaps and worst languages, as JSON."""
        tasks = {name: summary.as_json() for name, summary in self.summaries.items()}
        counts = {
            g: dict(zip(("found", "wanted"), c, strict=True)) for g, c in self.group_languages().items()
        }
        groups = {g: {**mean._asdict(), "languages": counts[g]} for g, mean in self.groups().items()}
        collapsed = {name: codes for name, codes in self.collapsed.items() if codes}
        return {"tasks": tasks, "groups": groups, "collapsed": collapsed, **self.robustness.summary()}

    def csv(self) -> str:
        """Return a line for each task, language, metric and perturbation."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        titles = ["task", "language", "metric", "score", "chance", "rows", "split", "model", "perturbation"]
        lines.writerow([*titles, "consistency", "blind_score", "collapsed"])
        for cell in self.scores:
            for name, value in cell.metrics.items():
                figures = [f"{value:.6f}", f"{cell.chance[name]:.6f}", cell.rows]
                tested = [cell.split, cell.model, cell.perturbation, *self.robustness.compared(cell, name)]
                lines.writerow([cell.task, cell.language, name, *figures, *tested, verdict_of(cell.details)])
        return text.getvalue()

    def table(self) -> str:
        """Return a table of languages by tasks, with mean, gap and worst language of each task.

        A star marks a collapsed cell.
        """
        names = list(self.by_task)
        lines = [["", *names]]
        for language in self.languages:
            lines.append([language, *(self._cell_text(name, language) for name in names)])
        sums = [self.summaries[name] for name in names]
        lines.append(["mean", *(str(s.mean) for s in sums)])
        with_english = [NONE if s.with_english is None else str(s.with_english) for s in sums]
        if any(s.with_english for s in sums):
            lines.append(["with English", *with_english])
        lines.append(["gap", *(NONE if s.gap is None else f"{s.gap:.1f}" for s in sums)])
        lines.append(["worst", *(NONE if s.worst is None else f"{s.worst} {s.lowest:.1f}" for s in sums)])
        return aligned(lines, rule_before=1 + len(self.languages))

    def _cell_text(self, task: str, language: str) -> str:
        """Return a cell's score, with a star if its predictions have collapsed."""
        score = self.by_task[task].get(language)
        star = MARK if language in self.collapsed[task] else ""
        return NONE if score is None else f"{score:.1f}{star}"

    def perturbed_table(self) -> str:
        """Return a table of perturbations by tasks, with means over the languages.

        A mean that covers collapsed cells carries their number. Corruptions of images are followed by the
        share of the clean score that they cost.
        """
        names = [name for name in self.by_task if self.by_task[name]]
        lines = [["", *names]]
        for perturbation in ("", *self.perturbed()):
            found = [
                [c.mean for c in self._averaged(name) if c.perturbation == perturbation] for name in names
            ]
            wanted = [sum(not c.perturbation for c in self._averaged(name)) for name in names]
            means = [
                Average(float(np.mean(f)) if f else None, len(f), w)
                for f, w in zip(found, wanted, strict=True)
            ]
            texts = [
                f"{mean}{self._collapsed_count(name, perturbation)}"
                for name, mean in zip(names, means, strict=True)
            ]
            lines.append([perturbation or "clean", *texts])
        lines += self.robustness.drop_line(names)
        return aligned(lines, rule_before=2)

    def _averaged(self, name: str) -> list[CellScore]:
        """Return the cells that a task's mean is over. IGLUE's means leave English out."""
        skipped = {task.name: ENGLISH for task in self.tasks if task.mean_without_english}
        return [c for c in self.scores if c.task == name and c.language != skipped.get(name)]

    def _collapsed_count(self, task: str, perturbation: str) -> str:
        """Return ` (2 collapsed)` for the cells of a task with a perturbation; an empty text without any."""
        cells = [c for c in self.scores if (c.task, c.perturbation) == (task, perturbation)]
        count = sum(cell.is_collapsed for cell in cells)
        return f" ({count} collapsed)" if count else ""

    def figure(self) -> Figure:
        """Return a heat map of tasks by languages. Missing cells stay white, collapsed cells have a star."""
        names, languages = list(self.by_task), self.languages
        values = np.array(
            [[self.by_task[name].get(language, np.nan) for language in languages] for name in names]
        )
        stars = np.array([[language in self.collapsed[name] for language in languages] for name in names])
        label = "score, in percent" + (f" ({MARK} collapsed)" if stars.any() else "")
        models = ", ".join(dict.fromkeys(cell.model for cell in self.scores))
        title = f"Zero-shot scores of {models}"
        return heat_map(values, names, list(map(name_of, languages)), label, title, stars)

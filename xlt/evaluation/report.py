"""What an evaluation shows: averages, the transfer gap, the worst language; as table, CSV, JSON and picture.

An average over fewer languages or tasks than XTREME has says how many it is of. A group's average is the mean
of its tasks' averages, as XTREME takes it, so its count of languages sums those of the tasks in it.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from xlt.data.multilingual import ENGLISH
from xlt.evaluation.groups import GROUPS
from xlt.evaluation.scores import Scored
from xlt.kinds.task import Task
from xlt.system.tables import aligned

NONE = "–"

ALL_TASKS = "all tasks"

Results = dict[str, dict[str, dict[str, Any]]]
"""Task to language to figures by name."""


class Average(NamedTuple):
    """A mean, and of how many of how many."""

    value: float | None
    found: int
    wanted: int

    def __str__(self) -> str:
        """`41.2`, or `41.2 (12/15)` where some are missing."""
        if self.value is None:
            return NONE
        return f"{self.value:.1f}" + ("" if self.found == self.wanted else f" ({self.found}/{self.wanted})")


class Summary(NamedTuple):
    """A task over its languages."""

    mean: Average
    gap: float | None
    """English less the mean of the other languages; None where either is missing."""
    worst: str | None
    """The language with the lowest score."""
    lowest: float | None


_GROUPS = {**GROUPS, ALL_TASKS: tuple(name for names in GROUPS.values() for name in names)}
"""The tasks of each group, and all of them."""


def label_of(group: str, mean: Average) -> str:
    """A group's name for people, who shall not read the mean of some tasks as one of all."""
    return "tasks averaged" if group == ALL_TASKS and mean.found < mean.wanted else group


def _counted(mean: Average, languages: int, wanted: int) -> str:
    """A group's mean with the counts of what is incomplete: `24.4 (1/2 tasks, 2/33 languages)`."""
    if mean.value is None:
        return NONE
    counts = {"tasks": (mean.found, mean.wanted), "languages": (languages, wanted)}
    lacking = [f"{found}/{of} {what}" for what, (found, of) in counts.items() if found < of]
    return f"{mean.value:.1f}" + (f" ({', '.join(lacking)})" if lacking else "")


def summarise(task: Task[Any], scores: Mapping[str, float]) -> Summary:
    """A task's average, transfer gap and worst language.

    Args:
        task: The task, whose languages are all wanted.
        scores: By language.

    Source: Hu et al. (2020), section 4 (cross-lingual transfer gap) and the averages of its evaluate.py.
    """
    if not scores:
        return Summary(Average(None, 0, len(task.languages)), None, None, None)
    others = [score for language, score in scores.items() if language != ENGLISH]
    gap = scores[ENGLISH] - float(np.mean(others)) if ENGLISH in scores and others else None
    worst = min(scores, key=lambda language: scores[language])
    mean = Average(float(np.mean(list(scores.values()))), len(scores), len(task.languages))
    return Summary(mean, gap, worst, scores[worst])


class Report:
    """All of an evaluation.

    Args:
        tasks: The tasks that were asked for.
        scored: The finished cells.
    """

    def __init__(self, tasks: Sequence[Task[Any]], scored: Sequence[Scored]) -> None:
        self.tasks, self.scored = tasks, scored
        clean = [cell for cell in scored if not cell.perturbation]
        self.by_task = {
            task.name: {cell.language: cell.mean for cell in clean if cell.task == task.name}
            for task in tasks
        }
        self.summaries = {task.name: summarise(task, self.by_task[task.name]) for task in tasks}

    @property
    def languages(self) -> list[str]:
        """English, then every language that a task was tested in."""
        found = {language for scores in self.by_task.values() for language in scores}
        return sorted(found, key=lambda language: (language != ENGLISH, language))

    def results(self, perturbation: str = "") -> Results:
        """Task to language to metrics, chance and rows, of the rows as they are or with a perturbation."""
        found: Results = {}
        for cell in self.scored:
            if cell.perturbation == perturbation:
                main = next(iter(cell.metrics))
                figures = {**cell.metrics, **cell.details, "chance": cell.chance[main], "rows": cell.rows}
                found.setdefault(cell.task, {})[cell.language] = {**figures, "split": cell.split}
        return found

    def perturbed(self) -> dict[str, Results]:
        """Perturbation to the results with it."""
        names = dict.fromkeys(cell.perturbation for cell in self.scored if cell.perturbation)
        return {name: self.results(name) for name in names}

    def groups(self) -> dict[str, Average]:
        """XTREME's group averages and the total: means of the tasks' averages, of how many of the tasks."""
        return {group: self._mean(names) for group, names in _GROUPS.items()}

    def _means(self, names: Sequence[str]) -> list[Average]:
        """The averages of those of the tasks that have one."""
        means = [self.summaries[name].mean for name in names if name in self.summaries]
        return [mean for mean in means if mean.value is not None]

    def _mean(self, names: Sequence[str]) -> Average:
        """The mean of the averages of those of the tasks that have one."""
        known = [mean.value for mean in self._means(names) if mean.value is not None]
        return Average(float(np.mean(known)) if known else None, len(known), len(names))

    def group_languages(self) -> dict[str, tuple[int, int]]:
        """Languages that the averaged tasks of each group have scores in, and those that XTREME has."""
        means = {group: self._means(names) for group, names in _GROUPS.items()}
        return {g: (sum(m.found for m in found), sum(m.wanted for m in found)) for g, found in means.items()}

    def averages(self) -> list[str]:
        """A line for each group that was asked for: `tagging   24.4 (1/2 tasks, 2/33 languages)`."""
        groups, languages = self.groups(), self.group_languages()
        asked = [group for group in groups if set(_GROUPS[group]) & set(self.by_task)]
        return [f"{label_of(g, groups[g]):<20}{_counted(groups[g], *languages[g])}" for g in asked]

    def summary(self) -> dict[str, Any]:
        """Averages, gaps and worst languages, as JSON."""
        tasks = {name: {**s._asdict(), "mean": s.mean._asdict()} for name, s in self.summaries.items()}
        counts = {
            g: dict(zip(("found", "wanted"), c, strict=True)) for g, c in self.group_languages().items()
        }
        groups = {g: {**mean._asdict(), "languages": counts[g]} for g, mean in self.groups().items()}
        return {"tasks": tasks, "groups": groups}

    def csv(self) -> str:
        """A line a task, language, metric and perturbation."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        titles = ["task", "language", "metric", "score", "chance", "rows", "split", "model", "perturbation"]
        lines.writerow(titles)
        for cell in self.scored:
            for name, value in cell.metrics.items():
                figures = [f"{value:.6f}", f"{cell.chance[name]:.6f}", cell.rows]
                tested = [cell.split, cell.model, cell.perturbation]
                lines.writerow([cell.task, cell.language, name, *figures, *tested])
        return text.getvalue()

    def table(self) -> str:
        """Languages by tasks, then what sums them up."""
        names = list(self.by_task)
        lines = [["", *names]]
        for language in self.languages:
            scores = [self.by_task[name].get(language) for name in names]
            lines.append([language, *(NONE if s is None else f"{s:.1f}" for s in scores)])
        sums = [self.summaries[name] for name in names]
        lines.append(["mean", *(str(s.mean) for s in sums)])
        lines.append(["gap", *(NONE if s.gap is None else f"{s.gap:.1f}" for s in sums)])
        lines.append(["worst", *(NONE if s.worst is None else f"{s.worst} {s.lowest:.1f}" for s in sums)])
        return aligned(lines, rule_before=len(lines) - 3)

    def perturbed_table(self) -> str:
        """Perturbations by tasks: means over the languages, with their number where it is not all."""
        names = [name for name in self.by_task if self.by_task[name]]
        lines = [["", *names]]
        for perturbation in ("", *self.perturbed()):
            found = [
                [c.mean for c in self.scored if (c.task, c.perturbation) == (name, perturbation)]
                for name in names
            ]
            wanted = [len(self.by_task[name]) for name in names]
            means = [
                Average(float(np.mean(f)) if f else None, len(f), w)
                for f, w in zip(found, wanted, strict=True)
            ]
            lines.append([perturbation or "clean", *map(str, means)])
        return aligned(lines, rule_before=2)

    def figure(self) -> Figure:
        """A heat map, tasks by languages; what is missing is left white."""
        names, languages = list(self.by_task), self.languages
        values = np.array(
            [[self.by_task[name].get(language, np.nan) for language in languages] for name in names]
        )
        return heat_map(values, names, languages, "score, in percent", "viridis", (0, 100))


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    colours: str,
    limits: tuple[float, float],
) -> Figure:
    """A picture of values, shape (rows, columns), each written into its cell; NaN is left white."""
    figure = Figure(figsize=(2.2 + 0.42 * len(columns), 1.4 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in zip(*np.nonzero(~np.isnan(values)), strict=True):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        axes.text(
            column, row, f"{values[row, column]:.0f}", ha="center", va="center", fontsize=7,
            color="white" if dark else "black",
        )  # fmt: skip
    figure.colorbar(image, ax=axes, label=label, shrink=0.9, pad=0.01)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture."""
    with mpl.rc_context({"savefig.dpi": 160}):
        figure.savefig(path)

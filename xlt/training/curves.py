"""Picture of a run's learning curves: loss, learning rate, and the validation scores of each task."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xlt.kinds.task import group_of

Chance = Mapping[str, Mapping[str, float]]
"""Metric → score of a model that knows nothing, in percent, by task."""

MAX_POINTS = 2000
"""Maximum number of steps that are drawn as dots."""

MAX_TASKS = 10
"""Maximum number of tasks, or of languages of a task, with a line of their own."""

MAX_PANELS = 30
NUM_COLUMNS = 3


def curves(events: Sequence[Mapping[str, Any]], chance: Chance) -> Figure:
    """Return the picture.

    Args:
        events: Events of metrics.jsonl.
        chance: Chance of each metric of each task. A task without chance values has no panel.
    """
    steps = [event for event in events if event.get("train/loss") is not None]
    checked = [event for event in events if event.get("val/score") is not None]
    groups: dict[str, list[str]] = {}
    for task in chance:
        groups.setdefault(group_of(task), []).append(task)
    shown = list(groups.items())[: MAX_PANELS - NUM_COLUMNS] if checked else []
    num_rows = 1 + -(-len(shown) // NUM_COLUMNS)
    figure = Figure(figsize=(4.2 * NUM_COLUMNS, 2.7 * num_rows))
    panels = figure.subplots(num_rows, NUM_COLUMNS, squeeze=False).ravel()
    # Fixed margins, in inches: a layout fitted to the labels takes as long as the drawing itself.
    top, bottom, gap, height = 0.35, 0.5, 0.85, 2.7 * num_rows
    figure.subplots_adjust(0.045, bottom / height, 0.99, 1 - top / height, 0.2, gap / (2.7 - gap))
    _draw_loss(panels[0], steps)
    _draw_line(panels[1], steps, "train/learning_rate")
    panels[1].set_title("Learning rate", loc="left")
    panels[1].yaxis.set_major_formatter("{x:.2g}")
    _draw_line(panels[2], checked, "val/score", marker="o")
    panels[2].set_title("Mean dev score, %", loc="left")
    for axes, (group, tasks) in zip(panels[NUM_COLUMNS:], shown, strict=False):
        _draw_scores(axes, checked, group, tasks, chance)
    for axes in panels:
        axes.set_visible(bool(axes.get_title(loc="left")))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dfe3e8", linewidth=0.6)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.02)
    return figure


def _draw_loss(axes: Axes, steps: Sequence[Mapping[str, Any]]) -> None:
    """Draw the loss of each step as a dot, and a smooth line for each task."""
    axes.set_title("Training loss", loc="left")
    if not steps:
        return
    thinned = steps[:: -(-len(steps) // MAX_POINTS)]
    axes.plot(*_points(thinned, "train/loss"), ".", color="#9aa3ad", markersize=2.5, alpha=0.6)
    tasks = sorted({group_of(str(step["train/task"])) for step in steps})
    for task in tasks if len(tasks) <= MAX_TASKS else [""]:
        own = [step for step in steps if not task or group_of(str(step["train/task"])) == task]
        axes.plot(*_smooth(own), linewidth=1.4, label=task or "all tasks")
    axes.legend(fontsize=6, frameon=False, ncols=2)


def _draw_line(axes: Axes, events: Iterable[Mapping[str, Any]], key: str, **style: Any) -> None:
    """Draw a figure over the steps."""
    axes.plot(*_points(events, key), color="#0072b2", markersize=3.5, **style)


def _draw_scores(
    axes: Axes, checked: Sequence[Mapping[str, Any]], group: str, tasks: Sequence[str], chance: Chance
) -> None:
    """Draw the metrics of a task, or the first metric in each of its languages, with dashed chance lines."""
    single = len(tasks) == 1
    keys = [(task, metric) for task in tasks for metric in list(chance[task])[: None if single else 1]]
    for number, (task, metric) in enumerate(keys[:MAX_TASKS]):
        colour = f"C{number}"
        label = metric.replace("_", " ") if single else task.partition("/")[2] or "en"
        axes.plot(
            *_points(checked, f"val/{task}/{metric}"), marker="o", markersize=3.5, color=colour, label=label
        )
        axes.axhline(chance[task][metric], color=colour, linestyle="--", linewidth=1)
    more = f", {MAX_TASKS} of {len(keys)} languages" if len(keys) > MAX_TASKS else ""
    metric = f"{keys[0][1].replace('_', ' ')}, %{more}" if len(keys) == 1 or not single else "%"
    axes.set_title(f"{group}: {metric} (dashed: chance)", loc="left", fontsize=10)
    if len(keys) > 1:
        axes.legend(fontsize=7, frameon=False, ncols=2)


def _points(events: Iterable[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Return steps and values of the events that have a key."""
    found = [(event["step"], event[key]) for event in events if event.get(key) is not None]
    return [step for step, _ in found], [value for _, value in found]


def _smooth(steps: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the means of steps and losses in up to 40 blocks of neighbouring steps."""
    blocks = np.array_split(np.array([[step["step"], step["train/loss"]] for step in steps]), 40)
    means = [block.mean(0) for block in blocks if len(block)]
    return [float(step) for step, _ in means], [float(loss) for _, loss in means]

"""List the tasks with their languages, sizes, licences and sources.

xlt tasks

xlt tasks xnli mylab.scitail

Without names, a table of all tasks that come with xlt. With names, all facts of these tasks, among them
labels, metric and language codes. A task of your own is named by its module.
"""

import csv
import importlib
import inspect
import io
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

if __name__ == "__main__":
    from xlt.config.help import start

    start("tasks")

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.data.image_sources import place_of
from xlt.data.sources import Source
from xlt.data.texts import Texts
from xlt.kinds.task import Task
from xlt.system.tables import aligned, as_json
from xlt.tasks import known, load

COLUMNS = ("task", "kind", "phase", "languages", "train", "dev", "test", "licence", "source")
"""Facts that the table shows; the other facts are shown of single tasks."""

MAX_CELL = 34
"""Maximum number of characters of a cell of the table."""

PHASES = ("pretraining", "intermediate", "target")
"""Phases in the order of training."""

UNKNOWN = "see source"
"""Size of a split that the task's file does not tell."""

SIZE = re.compile(r"((?:up to )?[\d,]+(?: to [\d,]+)?) (train|dev and test|dev|test)\b")
"""A size in the line `Sizes:` of a task's docstring, such as `2,490 dev` or `500 to 1,148 dev`."""


def make_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(prog="xlt tasks")
    parser.add_argument(
        "names", nargs="*", type=str, help="Tasks to show in full, such as xnli or mylab.scitail."
    )
    parser.add_argument(
        "--format",
        type=Literal["text", "json", "csv"],
        default="text",
        help="Form of the output. json and csv hold all facts.",
    )
    return parser


def facts_of(name: str) -> dict[str, Any]:
    """Return the facts of a task by name. A fact that does not apply is an empty text or list.

    Args:
        name: Name of the task, as `xlt.tasks.load` takes it.

    Raises:
        ValueError: There is no such task, or its module cannot be imported.
    """
    task = load(name)
    about = inspect.getdoc(importlib.import_module(task.module)) or ""
    return {
        "task": name,
        "about": about.partition("\n\n")[0],
        "kind": type(task).__name__,
        "scored": (inspect.getdoc(type(task)) or "").partition("\n\n")[0],
        "phase": phase_of(task),
        "languages": list(task.languages) or ([] if task.is_plain_text else ["en"]),
        **sizes_of(task, about),
        "labels": list(task.labels),
        "head": task.head_key,
        "trains_on": task.trains_on,
        "licence": task.licence,
        "citation": task.citation,
        "source": "; ".join(map(_place, task.sources)),
    }


def phase_of(task: Task[Any]) -> str:
    """Return the phase that trains on a task or tests it: pretraining, intermediate or target."""
    if task.languages:
        return "target"
    return "pretraining" if task.is_plain_text else "intermediate"


def sizes_of(task: Task[Any], about: str) -> dict[str, str]:
    """Return the number of examples of each split as text, from the line `Sizes:` of a docstring.

    Args:
        task: The task.
        about: Docstring of the task's module.
    """
    line = re.search(r"^Sizes: (.*?)(?=\n\n|\Z)", about, re.DOTALL | re.MULTILINE)
    found = {split: size for size, split in SIZE.findall(" ".join(line[1].split()))} if line else {}
    both = found.get("dev and test", UNKNOWN)
    sizes = {
        "train": found.get("train", UNKNOWN),
        "dev": found.get("dev", both),
        "test": found.get("test", both),
    }
    if task.trains_on:
        sizes["train"] = f"of {task.trains_on}"
    elif not task.needs_training:
        sizes["train"] = "-"
    if not task.languages:  # xlt tests the languages of a target only
        sizes["test"] = "-"
    return sizes


def _place(source: Source) -> str:
    """Return the repository of the hub and its configuration, or the folder or file of a data root."""
    if isinstance(source, Texts) and source.hub:
        return f"data root: {source.folder}, or {place_of(source.hub)}"
    return place_of(source)


def table(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of tasks by phase, one a line. Languages are counted, and long texts are cut."""
    ordered = sorted(tasks, key=lambda task: PHASES.index(task["phase"]))
    lines = [[_cell(task[key]) for key in COLUMNS] for task in ordered]
    return aligned([list(COLUMNS), *lines], num_left=len(COLUMNS))


def _cell(value: str | list[str]) -> str:
    """Return a fact as the table shows it."""
    if isinstance(value, list):
        return str(len(value) or "any")
    return value if len(value) <= MAX_CELL else f"{value[: MAX_CELL - 1]}…"


def as_csv(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return all facts of tasks as CSV. Languages and labels are separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(tasks[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: " ".join(v) if isinstance(v, list) else v for k, v in t.items()} for t in tasks)
    return text.getvalue()


def full(task: Mapping[str, Any]) -> str:
    """Return all facts of a task, one a line."""
    rows = [(key, ", ".join(value) if isinstance(value, list) else value) for key, value in task.items()]
    width = max(map(len, task))
    return "\n".join(f"{key:<{width}}  {value or '-'}" for key, value in rows)


def list_tasks(args: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: Command-line arguments.
    """
    options = make_parser().parse_args(list(args))
    tasks = [facts_of(name) for name in options.names or known()]
    if options.format == "json":
        print(as_json(tasks), end="")
    elif options.format == "csv":
        print(as_csv(tasks), end="")
    elif options.names:
        print("\n\n".join(map(full, tasks)))
    else:
        print(table(tasks))
        print(
            "\nxlt tasks NAME shows a task in full. Sizes count examples, in a target those of one language."
        )


if __name__ == "__main__":
    sys.exit(run_command(list_tasks, sys.argv[1:]))

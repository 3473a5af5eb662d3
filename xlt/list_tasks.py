"""List the tasks with their languages, sizes, licences and sources.

xlt tasks

xlt tasks xnli mylab.scitail

Without names, the command prints a table of all tasks that come with xlt. With names, it prints all facts of
these tasks, among them labels, metric and language codes. A task of your own is named by its module.
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

COLUMNS = {
    "task": 15,
    "kind": 14,
    "languages": 9,
    "train": 11,
    "dev": 10,
    "test": 12,
    "licence": 12,
    "source": 11,
}
"""Facts that the table shows, and the maximum numbers of characters of their cells: 110 columns in all. The
name of a task of your own may be longer."""

LEGEND = """\
Sizes are numbers of examples. Sizes of a target are those of one language. ? marks an unknown size.
`xlt tasks NAME` shows all facts of a task, and `xlt tasks --format json` (or csv) all facts of all tasks."""
"""Lines below the table."""

PHASES = ("pretraining", "intermediate", "target")
"""Phases in the order of training."""

UNKNOWN = "see source"
"""Size of a split that the task's file does not name."""

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
    if task.validates_on and sizes["dev"] == UNKNOWN:
        sizes["dev"] = f"of {task.validates_on}"
    if not task.languages:  # xlt tests the languages of a target only
        sizes["test"] = "-"
    return sizes


def _place(source: Source) -> str:
    """Return the repository of the hub and its configuration, or the folder or file of a data root."""
    if isinstance(source, Texts) and source.hub:
        return f"data root: {source.folder}, or {place_of(source.hub)}"
    return place_of(source)


def table(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of tasks by phase. Languages are counted, and long texts are cut."""
    lines = [list(COLUMNS)]
    for phase in PHASES:
        own = [task for task in tasks if task["phase"] == phase]
        lines += [[f"{phase}:", *[""] * (len(COLUMNS) - 1)]] if own else []
        lines += [["  " + task["task"], *(_cell(task[key], key) for key in [*COLUMNS][1:])] for task in own]
    return aligned(lines, num_left=len(COLUMNS))


def _cell(value: str | list[str], key: str) -> str:
    """Return a fact as the table shows it."""
    if isinstance(value, list):
        return str(len(value) or "any")
    if key in ("train", "dev", "test"):
        value = "?" if value == UNKNOWN else value.replace(" to ", "–").replace("up–", "≤ ")
    value = value.removeprefix("Xtreme").replace("data root: ", "root: ")
    return value if len(value) <= COLUMNS[key] else f"{value[: COLUMNS[key] - 1]}…"


def as_csv(tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return all facts of tasks as CSV. Languages and labels are separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(tasks[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: " ".join(v) if isinstance(v, list) else v for k, v in t.items()} for t in tasks)
    return text.getvalue()


def full(task: Mapping[str, Any]) -> str:
    """Return all facts of a task, one per line."""
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
        print(f"\n{LEGEND}")


if __name__ == "__main__":
    sys.exit(run_command(list_tasks, sys.argv[1:]))

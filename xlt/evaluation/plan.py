"""The plan of an evaluation: the cells to test, each a task in a language, and the missing cells.

All errors of the user are found here, before any work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xlt.data.sources import RawSplit, Split
from xlt.evaluation.models import Models
from xlt.evaluation.perturbations.perturbations import Inapplicable, Perturbations
from xlt.evaluation.task_values import Choice
from xlt.kinds.task import Task
from xlt.models.saving import load_heads
from xlt.splits.splits import Splits
from xlt.system.checks import require
from xlt.system.tables import counted

MAX_REASONS = 3
"""Maximum number of reasons in the message that nothing can be evaluated."""


@dataclass(frozen=True)
class Cell:
    """One task in one language, to test with one model.

    Args:
        task: The task in the language, with the classes of the model's head.
        language: ISO 639-1 code.
        split: The split to test on.
        model: Name of the encoder, or folder of the run.
        raw_splits: The rows.
        perturbation: Name of the perturbation of the rows. Empty for rows as they are.
    """

    task: Task[Any]
    language: str
    split: Split
    model: str
    raw_splits: tuple[RawSplit, ...]
    perturbation: str = ""

    @property
    def name(self) -> str:
        """Task, language and perturbation, if any: `xnli-sw-noise-5`."""
        return "-".join(filter(None, (self.task.group, self.language, self.perturbation)))


class Missing(NamedTuple):
    """A task, a task in a language, or a perturbation that cannot be tested, with the reason."""

    task: str
    language: str
    reason: str
    perturbation: str = ""


def in_words(missing: Sequence[Missing]) -> list[str]:
    """Return a line for each task and reason: `xnli ar noise-5: <reason>`."""
    where: dict[tuple[str, str], list[str]] = {}
    for task, language, reason, perturbation in missing:
        where.setdefault((task, reason), []).extend(filter(None, (language, perturbation)))
    return [f"{' '.join([task, *dict.fromkeys(names)])}: {reason}" for (task, reason), names in where.items()]


def brief(missing: Sequence[Missing], details: str) -> list[str]:
    """Return a line for each task: what is missing, and the reason if there is only one.

    Args:
        missing: What is missing.
        details: File that holds every reason.
    """
    lines = []
    for task in dict.fromkeys(entry.task for entry in missing):
        own = [entry for entry in missing if entry.task == task]
        if len({entry.reason for entry in own}) == 1:
            lines += in_words(own)
            continue
        names = dict.fromkeys(
            filter(None, (part for entry in own for part in (entry.language, entry.perturbation)))
        )
        languages = counted(len({entry.language for entry in own}), "language")
        lines.append(f"{task} {' '.join(names)}: {languages}; the reasons are in {details}")
    return lines


class Plan(NamedTuple):
    """The cells to test, and the missing cells."""

    cells: list[Cell]
    missing: list[Missing]


def make_plan(
    tasks: Sequence[Task[Any]],
    languages: Sequence[str] | None,
    models: Models,
    splits: Splits,
    chosen: Mapping[str, Choice],
    all_tasks: bool = False,
    perturbations: Perturbations | None = None,
) -> Plan:
    """Return the cells of every task in every language that has rows. Perturbations follow their cell.

    Args:
        tasks: The tasks.
        languages: Languages to test in, each of which must have rows. Defaults to each task's own that have
            rows.
        models: The models, checked.
        splits: Opens the rows.
        chosen: The split of each task.
        all_tasks: True to raise an error for a task without a model, False to list the task as missing.
        perturbations: Perturbations to test too. Defaults to none.

    Raises:
        FileNotFoundError: A model or a language in `languages` does not exist.
        ValueError: A task has no model, or several.
    """
    _check_languages(tasks, languages)
    plan = Plan([], [])
    for task in tasks:
        model = models.of(task)
        if model is None:
            absent = models.why_absent(task)
            if all_tasks and not absent:
                raise ValueError(f"task {task.name} cannot be tested: {_why_no_model(task)}")
            plan.missing.append(Missing(task.name, "", absent or _why_no_model(task)))
            continue
        task = with_classes(task, model)
        for language in task.languages:
            if languages is None or language in languages:
                cell = _add(plan, task, language, model, splits, chosen[task.name], languages is not None)
                if cell is not None and perturbations is not None:
                    _perturb(plan, cell, perturbations)
    if not plan.cells:
        reasons = list(dict.fromkeys(missing.reason for missing in plan.missing))
        more = (
            f"; and {counted(len(reasons) - MAX_REASONS, 'more reason')}"
            if len(reasons) > MAX_REASONS
            else ""
        )
        raise FileNotFoundError(f"nothing can be evaluated: {'; '.join(reasons[:MAX_REASONS])}{more}")
    return plan


def _add(
    plan: Plan, task: Task[Any], language: str, model: str, splits: Splits, choice: Choice, required: bool
) -> Cell | None:
    """Add a task in a language to the cells, or to the missing cells; return the cell."""
    split: Split = "test" if task.only_test else choice
    task = replace(task, name=f"{task.name}/{language}")
    try:
        raw_splits = tuple(splits.raw_splits(task, split))
    except FileNotFoundError as error:
        if required:
            raise FileNotFoundError(
                f"{str(error).removesuffix('.')}. To test without {language}, take it out of languages"
            ) from error
        plan.missing.append(Missing(task.group, language, str(error)))
        return None
    plan.cells.append(Cell(task, language, split, model, raw_splits))
    return plan.cells[-1]


def _perturb(plan: Plan, cell: Cell, perturbations: Perturbations) -> None:
    """Add the perturbations of a cell to the cells, or to the missing cells."""
    for name in perturbations.names.get(cell.task.group, ()):
        try:
            raw_splits = perturbations.perturbed(name, cell.task, cell.split, cell.raw_splits)
        except Inapplicable as error:
            missing = Missing(cell.task.group, cell.language, str(error), name.level)
            if missing not in plan.missing[-1:]:  # one entry for all mixes
                plan.missing.append(missing)
        else:
            plan.cells.append(replace(cell, raw_splits=raw_splits, perturbation=str(name)))


def check_without_language(tasks: Sequence[Task[Any]]) -> None:
    """Raise ValueError for a task that is named with a language, or whose TASK names no languages."""
    for task in tasks:
        if task.language:
            known = task.languages if task.language not in task.languages else ()
            own = (
                f". {task.group} is evaluated in {', '.join(known)}: rows in another language need a task of "
                f"your own, whose TASK names its languages"
            )
            raise ValueError(
                f"tasks names {task.name}, a task in one language: give the task as --tasks '[{task.group}]' "
                f"and the language as --languages '[{task.language}]'{own if known else ''}"
            )
        rule = "be a task that is evaluated in languages: a TASK names them by languages=(...)"
        require(bool(task.languages), "tasks", task.name, rule)


def _check_languages(tasks: Sequence[Task[Any]], languages: Sequence[str] | None) -> None:
    """Raise ValueError for a language that no task is evaluated in."""
    known = {language for task in tasks for language in task.languages}
    unknown = sorted(set(languages or ()) - known)
    if unknown:
        raise ValueError(
            f"languages names {', '.join(unknown)}, but no task is evaluated in this language. Choose from "
            f"{', '.join(sorted(known))}"
        )


def with_classes(task: Task[Any], model: str) -> Task[Any]:
    """Return the task, with the classes of the model's head if the task's file names none."""
    labels = load_heads(model)[1].get(task.head_key, ()) if task.needs_training else ()
    return task.settled(labels)


def _why_no_model(task: Task[Any]) -> str:
    """Return the reason why a task has no model, and the key to set."""
    if task.needs_training:
        return f"no run with the head {task.head_key}: name one in runs"
    return "no encoder: name one in encoder"

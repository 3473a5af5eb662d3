"""What an evaluation consists of: each task in each language, the model to test, and what is missing.

Everything that can be wrong is found here, before any work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from xlt.data.encode import load_tokenizer
from xlt.data.sources import RawSplit, Split
from xlt.evaluation.perturbations.perturbations import Inapplicable, Perturbations
from xlt.kinds.task import Task, name_of
from xlt.models.saving import load_heads
from xlt.splits.splits import Splits
from xlt.system.checks import require
from xlt.system.folders import HEADS, model_folder
from xlt.tasks import load
from xlt.training.run_folder import RunFolder

Choice = Literal["validation", "test"]


@dataclass(frozen=True)
class Cell:
    """One task in one language, to be tested with one model.

    Args:
        task: The task in the language, with the classes of the model's head.
        language: ISO 639-1.
        split: What it is tested on.
        model: Name of the encoder, or folder of the run.
        parts: The rows.
        perturbation: Name of what was done to them; empty for the rows as they are.
    """

    task: Task[Any]
    language: str
    split: Split
    model: str
    parts: tuple[RawSplit, ...]
    perturbation: str = ""

    @property
    def name(self) -> str:
        """Task and language, and the perturbation where there is one."""
        return "-".join(filter(None, (self.task.group, self.language, self.perturbation)))


class Missing(NamedTuple):
    """A task, a task in a language, or a perturbation of it, that cannot be tested, and why."""

    task: str
    language: str
    reason: str
    perturbation: str = ""


def in_words(missing: Sequence[Missing]) -> list[str]:
    """A line for each task and reason: what is missing, and why."""
    where: dict[tuple[str, str], list[str]] = {}
    for task, language, reason, perturbation in missing:
        where.setdefault((task, reason), []).extend(filter(None, (language, perturbation)))
    return [f"{' '.join([task, *dict.fromkeys(names)])}: {reason}" for (task, reason), names in where.items()]


class Plan(NamedTuple):
    """What is tested, and what is not."""

    cells: list[Cell]
    missing: list[Missing]


@dataclass(frozen=True)
class Models:
    """What there is to test.

    Args:
        encoder: Name of the encoder that the tasks without training are tested on; None where there is none.
        runs: Folders of fine-tuned runs, or of what python -m xlt.export made of one.
        absent: Folders of runs that are not there or not finished, and why each cannot be tested.
    """

    encoder: str | None
    runs: tuple[str, ...]
    absent: Mapping[str, str] = field(default_factory=dict)

    def check(self, tasks: Sequence[Task[Any]]) -> None:
        """See that the runs are of one encoder, and of use.

        Raises:
            ValueError: A run has another tokenizer, or the runs are of other tasks.
        """
        heads = {head for run in self.runs for head in load_heads(run)[0]}
        wanted = {task.head_key for task in tasks if task.needs_training}
        if self.runs and wanted and not wanted & heads and not self.absent:
            raise ValueError(
                f"{', '.join(self.runs)}: the heads are {', '.join(sorted(heads)) or 'none'}, but the tasks "
                f"need {', '.join(sorted(wanted))}: name the runs of these tasks"
            )
        self._check_tokenizers()

    def _check_tokenizers(self) -> None:
        """Refuse models that cut texts in other ways: their scores do not belong into one table."""
        names = [name for name in (self.encoder, *self.runs) if name]
        texts = {name: load_tokenizer(name).backend_tokenizer.to_str() for name in names}
        for name in names[1:]:
            if texts[name] != texts[names[0]]:
                raise ValueError(
                    f"{name} has another tokenizer than {names[0]}: they are not of one encoder. Evaluate "
                    "them apart"
                )

    def of(self, task: Task[Any]) -> str | None:
        """The model to test a task with: the run that trained its head, or the encoder as it is.

        Raises:
            ValueError: Several runs trained it.
        """
        if not task.needs_training:
            return self.encoder
        able = [run for run in self.runs if task.head_key in load_heads(run)[0]]
        named = [run for run in able if task.name in map(name_of, _tasks_of(run))]
        chosen = named or able
        if len(chosen) > 1:
            raise ValueError(
                f"task {task.name} could be tested with any of {', '.join(chosen)}: name one of them, and "
                "evaluate the others into other folders"
            )
        return chosen[0] if chosen else None

    def why_absent(self, task: Task[Any]) -> str:
        """Why the runs that may have trained a task's head cannot be tested; empty where none may have."""
        if not task.needs_training:
            return ""
        able = [run for run in self.absent if task.head_key in (_heads_of(run) or [task.head_key])]
        return "; ".join(self.absent[run] for run in able)


def check_run(run: str) -> None:
    """Raise FileNotFoundError for a folder that is no run's nor an export's, and for an unfinished run."""
    if not any((Path(run) / name).is_file() for name in ("config.yaml", HEADS)):
        raise FileNotFoundError(f"{run} is no run's folder: it has no config.yaml, nor {HEADS}")
    model_folder(run)


def _tasks_of(run: str) -> list[str]:
    """The tasks that a run trains, by its config; none of an export, which does not say."""
    folder = RunFolder(Path(run))
    return folder.read_config()["data"]["tasks"] if folder.config.is_file() else []


def _heads_of(run: str) -> list[str]:
    """The heads that a run trains, by its config; none where there is no config."""
    return [load(name).head_key for name in _tasks_of(run)]


def make_plan(
    tasks: Sequence[Task[Any]],
    languages: Sequence[str] | None,
    models: Models,
    splits: Splits,
    chosen: Mapping[str, Choice],
    all_tasks: bool = False,
    perturbations: Perturbations | None = None,
) -> Plan:
    """Every task in every language that there are rows of, and its perturbations after it.

    Args:
        tasks: The tasks.
        languages: Those to test in; each task's own where None.
        models: What there is to test, checked.
        splits: Opens the rows.
        chosen: The split of each task.
        all_tasks: Whether a task without a model is refused, not shown as missing.
        perturbations: Those to test besides.

    Raises:
        FileNotFoundError: A model or a language asked for is not there.
        ValueError: Models and tasks do not fit.
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
        task = _with_classes(task, model)
        for language in task.languages:
            if languages is None or language in languages:
                cell = _add(plan, task, language, model, splits, chosen[task.name], languages is not None)
                if cell is not None and perturbations is not None:
                    _perturb(plan, cell, perturbations)
    if not plan.cells:
        reasons = "; ".join(dict.fromkeys(missing.reason for missing in plan.missing))
        raise FileNotFoundError(f"nothing can be evaluated: {reasons}")
    return plan


def _add(
    plan: Plan, task: Task[Any], language: str, model: str, splits: Splits, choice: Choice, required: bool
) -> Cell | None:
    """Add a task in a language to what is tested, or to what is missing; return what is tested."""
    split: Split = "test" if task.only_test else choice
    task = replace(task, name=f"{task.name}/{language}")
    try:
        parts = tuple(splits.raw_splits(task, split))
    except FileNotFoundError as error:
        if required:
            raise
        plan.missing.append(Missing(task.group, language, str(error)))
        return None
    plan.cells.append(Cell(task, language, split, model, parts))
    return plan.cells[-1]


def _perturb(plan: Plan, cell: Cell, perturbations: Perturbations) -> None:
    """Add the perturbations of a cell to what is tested, or to what is missing."""
    for name in perturbations.names.get(cell.task.group, ()):
        try:
            parts = perturbations.parts(name, cell.task, cell.split, cell.parts)
        except Inapplicable as error:
            missing = Missing(cell.task.group, cell.language, str(error), name.level)
            if missing not in plan.missing[-1:]:  # once for all mixes
                plan.missing.append(missing)
        else:
            plan.cells.append(replace(cell, parts=parts, perturbation=str(name)))


def check_without_language(tasks: Sequence[Task[Any]]) -> None:
    """Raise ValueError for a task that is named with a language, or that is not evaluated in languages."""
    for task in tasks:
        if task.language:
            known = task.languages if task.language not in task.languages else ()
            own = (
                f". {task.group} is evaluated in {', '.join(known)}: rows in another language want a task of "
                f"your own, whose TASK names its languages"
            )
            raise ValueError(
                f"tasks names {task.name}, a task in one language: give the task as --tasks '[{task.group}]' "
                f"and the language as --languages '[{task.language}]'{own if known else ''}"
            )
        rule = "be a task that is evaluated in languages: a TASK names them by languages=(...)"
        require(bool(task.languages), "tasks", task.name, rule)


def _check_languages(tasks: Sequence[Task[Any]], languages: Sequence[str] | None) -> None:
    """Raise ValueError for a language that no task has."""
    known = {language for task in tasks for language in task.languages}
    unknown = sorted(set(languages or ()) - known)
    if unknown:
        raise ValueError(
            f"languages names {', '.join(unknown)}, in which none of the tasks is evaluated: they know "
            f"{', '.join(sorted(known))}"
        )


def _with_classes(task: Task[Any], model: str) -> Task[Any]:
    """The task with the classes of the model's head, where its file leaves them open."""
    labels = load_heads(model)[1].get(task.head_key, ()) if task.needs_training else ()
    return replace(task, labels=task.labels or tuple(labels))


def _why_no_model(task: Task[Any]) -> str:
    """What to name so that a task can be tested."""
    if task.needs_training:
        return f"no run with the head {task.head_key}: name one in runs"
    return "no encoder: name one in encoder"

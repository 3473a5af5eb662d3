"""The targets of a study: the run that tests each of them, and checks of the two."""

from collections.abc import Iterable, Mapping

from xlt.kinds.task import name_of
from xlt.system.checks import require
from xlt.tasks import load

Targets = Mapping[str, str | None]
"""Maps each target to the config that fine-tunes it, to another target, or to None."""


def targets_without_english(targets: Iterable[str]) -> frozenset[str]:
    """Return the names of the targets whose means leave English out, as in tables of scores."""
    return frozenset(name_of(name) for name in targets if load(name).mean_without_english)


def targets_with_images(targets: Iterable[str]) -> frozenset[str]:
    """Return the names of the targets with images, as in tables of scores."""
    return frozenset(name_of(name) for name in targets if load(name).imagery() is not None)


def check_targets(targets: Targets) -> None:
    """Refuse targets that cannot be tested.

    Raises:
        ValueError: A name is no task with test languages, a target lacks a run, or a target that needs no
            training has one.
    """
    for name, run in targets.items():
        task = load(name)
        rule = "be a task without a language: set the languages under evaluate, as languages: [...]"
        require(not task.language, "targets", name, rule)
        require(bool(task.languages), "targets", name, "be a task with test languages")
        if run in targets and targets[run or ""] in (None, *targets):
            raise ValueError(
                f"targets is {name}: {run}: {run} has no run of its own; name a target that has a config"
            )
        if task.needs_training and run is None:
            rule = "name the config that fine-tunes it, or another target whose run tests it"
            raise ValueError(f"targets is {name}: null: it must {rule}")
        if not task.needs_training and run is not None:
            raise ValueError(f"targets is {name}: {run}: it must be null, because the task needs no training")


def config_for(targets: Targets, name: str) -> str | None:
    """Return the config of the run that tests a target; None if nothing is trained."""
    run = targets[name]
    return targets[run] if run in targets and run is not None else run


def check_head(name: str, config: str, tasks: Iterable[str]) -> None:
    """Refuse a config that does not train a target's head.

    Args:
        name: Name of the target.
        config: Path of the config.
        tasks: Tasks that the config trains.

    Raises:
        ValueError: None of the tasks has the target's head.
    """
    head, trained = load(name).head_key, {load(task).head_key for task in tasks}
    rule = f"train its head, {head}, not {sorted(trained)}"
    require(head in trained, f"targets {name}", config, rule)


def check_selection(selection: Mapping[str, int], targets: Targets) -> None:
    """Refuse a selection gap of targets that are not fine-tuned or lack one of the two splits.

    Raises:
        ValueError: A key is no fine-tuned target with development and test rows, or a count is below 2.
    """
    for target, count in selection.items():
        is_trained = target in targets and targets[target] not in (None, *targets)
        require(is_trained, "selection", target, "be a target of the study that is fine-tuned")
        require(not load(target).only_test, "selection", target, "be a task with development and test rows")
        require(count >= 2, f"selection {target}", count, "be at least 2 checkpoints")


def checkpoint_period(selection: Mapping[str, int], target: str, steps: int) -> int | None:
    """Return the steps between the checkpoints that a target keeps for the selection gap, or None.

    Args:
        selection: Number of checkpoints by target.
        target: Name of the target.
        steps: Optimizer steps of the target's run.

    Raises:
        ValueError: There are more checkpoints than steps.
    """
    count = selection.get(target)
    if count is None:
        return None
    require(count <= steps, f"selection {target}", count, f"be at most the {steps} steps of its config")
    return steps // count

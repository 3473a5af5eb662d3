"""Which run each of a study's targets is tested with, and what no run could test."""

from collections.abc import Iterable, Mapping

from xlt.system.checks import require
from xlt.tasks import load

NONE = "none"
"""The arm without an intermediate task."""

Targets = Mapping[str, str | None]
"""Name of each target to the config that fine-tunes it, to another target, or to nothing."""


def check_targets(targets: Targets) -> None:
    """Refuse targets that could not be tested.

    Raises:
        ValueError: One is no such task, or lacks a run, or has one and needs none.
    """
    for name, run in targets.items():
        task = load(name)
        rule = "be a task without a language: name the languages in evaluate, by languages: [...]"
        require(not task.language, "targets", name, rule)
        require(bool(task.languages), "targets", name, "be a task that is tested in languages")
        if run in targets and targets[run or ""] in (None, *targets):
            raise ValueError(
                f"targets: {name} is to be tested with the run of {run}, which has none of its own"
            )
        if task.needs_training and run is None:
            rule = "name the config that fine-tunes it, or another target whose run it is tested with"
            raise ValueError(f"targets is {name}: null: it must {rule}")
        if not task.needs_training and run is not None:
            raise ValueError(f"targets is {name}: {run}: it must be null, for nothing is trained for it")


def config_of(targets: Targets, name: str) -> str | None:
    """The config of the run that a target is tested with; None where nothing is trained."""
    run = targets[name]
    return targets[run] if run in targets and run is not None else run


def check_head(name: str, config: str, tasks: Iterable[str]) -> None:
    """Raise ValueError where a config, which trains these tasks, does not train a target's head."""
    wanted, trained = load(name).head_key, {load(task).head_key for task in tasks}
    rule = f"train its head, {wanted}, not {sorted(trained)}"
    require(wanted in trained, f"targets {name}", config, rule)

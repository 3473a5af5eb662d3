"""Log record of a validation: figures by log key."""

from collections.abc import Mapping

from xlt.kinds.task import Scores, group_of


def score_record(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Return the figures of a validation by log key. `val/score` is the mean of the tasks' scores in percent.

    The score of a task with several languages is the mean over its languages.
    """
    record = {
        f"val/{task}/{name}": value
        for task, found in scores.items()
        for name, value in (found.metrics | found.details).items()
    }
    groups: dict[str, list[float]] = {}
    for task, found in scores.items():
        groups.setdefault(group_of(task), []).append(found.mean)
    means = [sum(values) / len(values) for values in groups.values()]
    return record | {"val/score": sum(means) / max(1, len(means))}

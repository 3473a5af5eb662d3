"""Figures of the mixture: examples, share and planned steps of each task."""

from xlt.data.sampling.steps import TrainingSteps
from xlt.datamodule import TransferData


def mixture_record(data: TransferData) -> dict[str, float]:
    """Return each task's number of examples, share (0 to 1) and number of planned steps, by log key.

    Args:
        data: The run's data, set up for training.
    """
    schedule, examples = training_steps(data).schedule, data.num_examples()
    return {
        key: value
        for task, share in data.shares().items()
        for key, value in {
            f"mixture/{task}/share": share,
            f"mixture/{task}/examples": examples[task],
            f"mixture/{task}/planned_steps": schedule.steps_of(task),
        }.items()
    }


def mixture_table(data: TransferData) -> str:
    """Return the mixture as a text table with one line per task.

    Args:
        data: The run's data, set up for training.
    """
    record = mixture_record(data)
    lines = [f"{'task':<16} {'examples':>10} {'share':>7} {'steps':>7}"]
    for task in data.tasks:
        examples, share = record[f"mixture/{task}/examples"], record[f"mixture/{task}/share"]
        steps = record[f"mixture/{task}/planned_steps"]
        lines.append(f"{task:<16} {examples:>10,} {share:>6.1%} {steps:>7,}")
    return "\n".join(lines)


def training_steps(data: TransferData) -> TrainingSteps:
    """Return the steps of data that is set up for training."""
    assert data.steps is not None
    return data.steps

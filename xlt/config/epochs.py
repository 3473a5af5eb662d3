"""The key `epochs`: conversion of a number of epochs into optimizer steps.

An epoch draws as many examples as the training volumes of all tasks have in total. The mixture draws some of
its tasks more often than others, so a task may see its own examples more or less than once per epoch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from xlt.data.sampling.steps import TrainingSteps
from xlt.datamodule import TransferData
from xlt.system.tables import counted
from xlt.training.run_folder import RunFolder


def given_length(args: Sequence[str]) -> dict[str, Any]:
    """Return the values of epochs and trainer.max_steps on a command line, nested as in a config file."""
    found: dict[str, Any] = {"trainer": {}}
    for word, following in zip(args, [*args[1:], ""], strict=False):
        key, equals, value = word.partition("=")
        text = value if equals else following
        if key == "--epochs":
            found["epochs"] = text
        elif key == "--trainer.max_steps":
            found["trainer"]["max_steps"] = text
    return found


def keep_last_length(config: Namespace, places: Sequence[Any]) -> None:
    """Unset epochs or trainer.max_steps if a later file, or the command line, sets the other of the two.

    Args:
        config: The whole config.
        places: Content of the config files in their order, and of the command line as the last.
    """
    for place in reversed([place for place in places if isinstance(place, Mapping)]):
        trainer = place.get("trainer")
        has_epochs = not _is_unset(place.get("epochs"))
        has_steps = isinstance(trainer, Mapping) and not _is_unset(trainer.get("max_steps"))
        if has_epochs and not has_steps:
            config.trainer.max_steps = -1
        elif has_steps and not has_epochs:
            config.epochs = None
        if has_epochs or has_steps:
            return


def _is_unset(value: Any) -> bool:
    """Return True if a value of epochs or trainer.max_steps sets no length."""
    return str(value) in ("None", "null", "~", "", "-1")


def steps_of_epochs(epochs: float, data: TransferData) -> int:
    """Return the first optimizer step after which `epochs` times the mixture's examples have been drawn.

    The steps are those of the run itself, so the number is exact. It does not depend on the number of
    processes. A passage in several windows counts as one example, in equal parts.

    Args:
        epochs: Number of epochs.
        data: The run's data, encoded.
    """
    examples = data.num_examples()
    wanted, length = epochs * sum(examples.values()), 1024
    while True:
        steps = data.build_steps(length, 0, 1)
        found = _first_step(steps, examples, wanted)
        if found is not None:
            return found
        length *= 4  # a shorter schedule is the beginning of a longer one


def _first_step(steps: TrainingSteps, examples: dict[str, int], wanted: float) -> int | None:
    """Return the number of steps that draw the wanted number of examples, or None if there are too few."""
    drawn = dict.fromkeys(examples, 0.0)
    for step in range(len(steps)):
        task, _ = steps.schedule[step]
        drawn[task] = steps.epochs_after(step) * examples[task]
        if sum(drawn.values()) >= wanted - 1e-6:
            return step + 1
    return None


def max_steps_of(epochs: float, max_steps: int, folder: RunFolder, data: TransferData) -> int:
    """Return and print the number of optimizer steps of a run. A run that is resumed keeps its number.

    Args:
        epochs: The key epochs.
        max_steps: The key trainer.max_steps, -1 if unset.
        folder: The run's folder.
        data: The run's data. They are encoded if the run is new.

    Raises:
        ValueError: Both keys are set.
    """
    recorded = folder.read_config() if folder.config.is_file() else {}
    former = recorded["trainer"]["max_steps"] if recorded.get("epochs") == epochs else None
    if max_steps not in (-1, former):
        raise ValueError(
            f"epochs is {epochs:g} and trainer.max_steps is {max_steps}: set one of the two. Leave one of "
            "them out of the command line, or of the config file that sets both"
        )
    if former is not None:
        steps = former
    else:
        data.prepare_data()
        data.setup("fit")
        steps = steps_of_epochs(epochs, data)
    length = "1 epoch of the mixture is" if epochs == 1 else f"{epochs:g} epochs of the mixture are"
    rank_zero_only(print)(f"{length} {counted(steps, 'optimizer step')}", flush=True)
    return steps

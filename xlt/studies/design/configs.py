"""The configs of a study's runs: read, put together, shortened, and what of them alters a score."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlt.system.yaml_files import read_yaml
from xlt.tasks import load
from xlt.training.run_folder import flatten, is_safe_to_change

Settings = Mapping[str, Any]

EVALUATION_FREE = ("accelerator", "cache", "root", "tokens_per_micro_batch", "wandb")
"""Keys of xlt.evaluate that alter no score."""


def content(phase: str, settings: Settings) -> Settings:
    """The settings that alter what comes out; not what a run begins with, which its parents tell."""
    if phase == "evaluate":
        left_out = {*EVALUATION_FREE, "encoder", "runs"}
        return {key: value for key, value in settings.items() if key not in left_out}
    flat = flatten(settings)
    return {
        key: value for key, value in flat.items() if not is_safe_to_change(key) and key != "model.encoder"
    }


def merged(*configs: Settings) -> dict[str, Any]:
    """Nested settings, the later over the earlier."""
    result: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def read_config(path: str) -> dict[str, Any]:
    """A config of xlt.fit.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no YAML, has a key twice, or names no tasks or no steps.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}, which the study names, is not there: give a config of xlt.fit")
    config = read_yaml(Path(path), f"{path}, which the study names,")
    if not isinstance(config, dict) or not {"data", "trainer"} <= set(config):
        raise ValueError(f"{path} is no config of xlt.fit: it has no data and trainer")
    return config


def in_steps(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """The config for so many steps, its warm-up and validations at their share of them."""
    model, trainer = config.get("model", {}), config["trainer"]
    share = steps / trainer["max_steps"]
    shorter: dict[str, Any] = {"trainer": {"max_steps": steps}}
    if model.get("warmup_steps"):
        shorter["model"] = {"warmup_steps": round(model["warmup_steps"] * share)}
    if isinstance(trainer.get("val_check_interval"), int):  # else it is a share already
        shorter["trainer"]["val_check_interval"] = max(1, round(trainer["val_check_interval"] * share))
    return merged(config, shorter)


def counted(tasks: Iterable[str]) -> list[str]:
    """The tasks, without languages, whose examples a volume counts: the labelled ones, if there are any.

    Translations are beside the examples that they are of, and text without labels is beside all others.
    """
    loaded = [load(task) for task in tasks]
    labelled = [task for task in loaded if not task.is_plain_text]
    return list(dict.fromkeys(task.group for task in labelled or loaded))


def shares(tasks: Sequence[str], volume: int) -> Iterator[tuple[str, int]]:
    """Each task's part of the examples; the first ones have one more where they cannot be equal."""
    least, more = divmod(volume, len(tasks))
    yield from ((task, least + (number < more)) for number, task in enumerate(tasks))

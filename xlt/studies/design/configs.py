"""The configs of a study's runs: reading, merging, scaling, and the settings that affect a score."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlt.kinds.task import name_of
from xlt.studies.design.command_keys import BY_TASK
from xlt.system.yaml_files import read_yaml
from xlt.tasks import load
from xlt.training.run_folder import flatten, is_safe_to_change

Settings = Mapping[str, Any]

FREE_EVALUATION_KEYS = ("accelerator", "cache", "root", "tokens_per_micro_batch", "wandb")
"""Keys of xlt.evaluate that affect no score."""


def defining_settings(phase: str, settings: Settings) -> Settings:
    """Return the settings that affect the result of a node.

    The encoder is left out: the node's parents and the hash of the study's encoder stand for it.

    Args:
        phase: Phase of the node.
        settings: Nested keys of the node's config.
    """
    if phase == "evaluate":
        free = {*FREE_EVALUATION_KEYS, "encoder", "runs"}
        return {key: value for key, value in settings.items() if key not in free}
    flat = flatten(settings)
    return {
        key: value for key, value in flat.items() if not is_safe_to_change(key) and key != "model.encoder"
    }


def node_name(
    phase: str, label: str, settings: Settings, parents: Sequence[str], hashes: Sequence[str]
) -> str:
    """Return the name of a node, which ends with a hash of everything that its result depends on.

    Args:
        phase: Phase of the node.
        label: Label of the node for the reader.
        settings: Nested keys of the node's config.
        parents: Names of the nodes that the node starts from.
        hashes: Hashes of the study's encoder, and of the node's vision encoder if it has one.
    """
    content = json.dumps([defining_settings(phase, settings), parents, *hashes], sort_keys=True)
    return f"{phase}-{label}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def settings_for(targets: Iterable[str], evaluate: Settings) -> dict[str, Any]:
    """Return settings of xlt evaluate, with values by task of these targets only.

    Args:
        targets: Names of the targets.
        evaluate: The settings for all targets.
    """
    known = {name_of(target) for target in targets}
    settings = dict(evaluate)
    for key in BY_TASK:
        if isinstance(settings.get(key), Mapping):
            settings[key] = {k: value for k, value in settings[key].items() if name_of(k) in known}
    return settings


def merge(*configs: Settings) -> dict[str, Any]:
    """Merge nested settings; later values override earlier ones."""
    result: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merge(result[key], value) if both else value
    return result


def read_config(path: str) -> dict[str, Any]:
    """Read a config of xlt fit.

    Args:
        path: Path of the YAML file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not valid YAML, has a key twice, or lacks data, trainer or steps.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}, which the study names, does not exist: give a config of xlt fit")
    config = read_yaml(Path(path), f"{path}, which the study names,")
    if not isinstance(config, dict) or not {"data", "trainer"} <= set(config):
        raise ValueError(f"{path} is no config of xlt fit: it needs the keys data and trainer")
    if config.get("epochs") is not None or "max_steps" not in config["trainer"]:
        raise ValueError(
            f"{path} sets no trainer.max_steps, or sets epochs: a study plans its runs in steps. Set "
            "trainer.max_steps in the file; xlt fit prints the steps that epochs come to"
        )
    return {key: value for key, value in config.items() if key != "name"}  # each node has its own folder


def scale_steps(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the config with another number of steps; warm-up and validation interval scale with it.

    Args:
        config: A config of xlt.fit.
        steps: Optimizer steps.
    """
    model, trainer = config.get("model", {}), config["trainer"]
    factor = steps / trainer["max_steps"]
    shorter: dict[str, Any] = {"trainer": {"max_steps": steps}}
    if model.get("warmup_steps"):
        shorter["model"] = {"warmup_steps": round(model["warmup_steps"] * factor)}
    if isinstance(trainer.get("val_check_interval"), int):  # a float is a fraction of an epoch
        shorter["trainer"]["val_check_interval"] = max(1, round(trainer["val_check_interval"] * factor))
    return merge(config, shorter)


def counted_tasks(tasks: Iterable[str]) -> list[str]:
    """Return the tasks, without their languages, whose examples a volume counts.

    These are the labelled tasks, or all tasks if none is labelled. Translations have the same examples as
    their source, and text without labels is added to all others.
    """
    loaded = [load(task) for task in tasks]
    labelled = [task for task in loaded if not task.is_plain_text]
    return list(dict.fromkeys(task.group for task in labelled or loaded))


def split_volume(tasks: Sequence[str], volume: int) -> Iterator[tuple[str, int]]:
    """Yield each task's number of examples; the first tasks get the remainder."""
    least, remainder = divmod(volume, len(tasks))
    yield from ((task, least + (number < remainder)) for number, task in enumerate(tasks))

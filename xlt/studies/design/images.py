"""Runs and evaluations of a study that read images: checks before the first run, and settings that they need.

A text run drops the keys of images, so that studies of text and of images share it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlt.evaluation.perturbations.images import NO_IMAGE, NO_IMAGES, OTHER_IMAGE
from xlt.evaluation.perturbations.perturbations import MIX
from xlt.evaluation.robustness import is_corruption
from xlt.kinds.task import Task, name_of
from xlt.splits.data_keys import vision_settings_of
from xlt.studies.design.configs import Settings, merge
from xlt.studies.design.targets import Targets
from xlt.system.checks import require
from xlt.system.hashing import hash_of
from xlt.tasks import load

BLIND = "blind"
"""Name of the runs and scores of a target that is trained and tested without images."""

VISION_KEYS = {"model": ("vision_encoder", "vision_trainable"), "data": ("image_tokens",)}
"""Keys of xlt fit that affect only runs with images, by section."""

Perturbations = Sequence[str] | Mapping[str, Sequence[str]]
"""Perturbations of all targets, or by target."""


def check_blind(blind: Sequence[str], targets: Targets) -> None:
    """Refuse blind runs of targets that have no images, or no run of their own.

    Args:
        blind: Targets that are trained and tested without images too.
        targets: The study's targets.

    Raises:
        ValueError: A name is no such target, or appears twice.
    """
    require(len(set(blind)) == len(blind), "blind", list(blind), "name each target once")
    for name in blind:
        is_trained = name in targets and targets[name] not in (None, *targets)
        require(is_trained, "blind", name, "be a target of the study that is fine-tuned")
        imagery = load(name).imagery()
        require(imagery is not None, "blind", name, "be a target with images: leave the target out of blind")
        rule = "be a target whose images are tokens: this one compares texts with images. Leave it out"
        require(imagery is not None and imagery.as_tokens, "blind", name, rule)


def run_config(path: str, *configs: Settings) -> dict[str, Any]:
    """Return the merged config of a run. A run without images drops the keys of images.

    Args:
        path: Path of the config, for the error message.
        configs: The config and the study's keys. Later ones override earlier ones.

    Raises:
        ValueError: The keys of images do not fit the tasks.
    """
    config = merge(*configs)
    model, data = config.get("model") or {}, config["data"]
    tasks = {name_of(name): load(name) for name in data["tasks"]}
    chosen = data.get("image_tokens", 1), bool(model.get("vision_trainable")), bool(data.get("blind"))
    try:
        has_images = vision_settings_of(tasks, model.get("vision_encoder"), *chosen) is not None
    except ValueError as error:
        raise ValueError(f"{path}, with the keys of the study under fit: {error}") from error
    return config if has_images else _without_vision(config)


def blind_config(path: str, config: Settings) -> dict[str, Any]:
    """Return the config of a run that differs from another only in that it reads no images.

    Args:
        path: Path of the config, for the error message.
        config: The merged config of the run with images.

    Raises:
        ValueError: The run reads no images either.
    """
    rule = "be left out, because the study sets blind: its runs without images are compared with these"
    require(not config["data"].get("blind"), f"data.blind of {path}", True, rule)
    return merge(_without_vision(config), {"data": {"blind": True}})


def _without_vision(config: Settings) -> dict[str, Any]:
    """Return a config without the keys of images."""
    return {
        section: {key: value for key, value in keys.items() if key not in VISION_KEYS[section]}
        if section in VISION_KEYS and isinstance(keys, Mapping)
        else keys
        for section, keys in config.items()
    }


def vision_hash(config: Settings) -> list[str]:
    """Return the hash of the vision encoder's weights, if the run has a vision encoder in a folder."""
    name = (config.get("model") or {}).get("vision_encoder")
    return [hash_of(name)] if name and Path(name).is_dir() else []


def is_of_images(perturbation: str) -> bool:
    """Return True for the name of a perturbation of images."""
    return perturbation in (NO_IMAGE, OTHER_IMAGE) or is_corruption(perturbation)


def perturbations_of(perturbations: Perturbations, targets: Iterable[str]) -> Perturbations:
    """Return the perturbations of a study, each of the targets that can have it.

    A list that names no perturbation of images is returned as it is.

    Args:
        perturbations: Perturbations of all targets, or by target.
        targets: The study's targets.

    Raises:
        ValueError: A mapping gives a perturbation of images to a target that cannot have it.
    """
    tasks = {name_of(name): load(name) for name in targets}
    if isinstance(perturbations, Mapping):
        for target, names in perturbations.items():
            task = tasks.get(name_of(target))
            reasons = {name: _why_not_images(name, task) for name in names} if task else {}
            for name, reason in reasons.items():
                rule = f"be left out of {target}: {reason}"
                require(not reason, f"evaluate.perturbations {target}", name, rule)
        return perturbations
    if not any(map(is_of_images, perturbations)):
        return perturbations
    return {
        target: [name for name in perturbations if not _why_not(name, task)] for target, task in tasks.items()
    }


def _why_not(name: str, task: Task[Any]) -> str:
    """Return the reason why a target cannot have a perturbation; an empty text if it can."""
    if name.partition("-")[0] == MIX and not task.is_parallel:
        return "its examples have no translations to mix in"
    return _why_not_images(name, task)


def _why_not_images(name: str, task: Task[Any]) -> str:
    """Return the reason why the images of a target cannot be perturbed; an empty text if they can."""
    if not is_of_images(name):
        return ""
    imagery = task.imagery()
    if imagery is None:
        return NO_IMAGES
    if not imagery.as_tokens and name in (NO_IMAGE, OTHER_IMAGE):
        return "it compares texts with images, so its own image is the right answer"
    return ""

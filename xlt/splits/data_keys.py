"""Checks of the keys under `data.`."""

import math
from collections.abc import Mapping
from typing import Any

from xlt.kinds.task import Task
from xlt.models.encoders.family import EncoderFacts
from xlt.models.encoders.multimodal import VisionSettings
from xlt.system.checks import require


def check_sizes(
    tokens_per_micro_batch: int,
    micro_batches_per_step: int,
    max_length: int,
    stride: int,
    encoder: str,
    facts: EncoderFacts,
) -> None:
    """Check that lengths and limits fit each other and the encoder.

    Args:
        tokens_per_micro_batch: The key data.tokens_per_micro_batch, in tokens.
        micro_batches_per_step: The key data.micro_batches_per_step.
        max_length: The key data.max_length, in tokens.
        stride: The key data.stride, in tokens.
        encoder: The key data.encoder.
        facts: Facts about the encoder.

    Raises:
        ValueError: A value is out of range.
    """
    if max_length > facts.max_tokens:
        raise ValueError(
            f"data.max_length is {max_length} tokens, but {encoder} has positions for {facts.max_tokens}: "
            f"set data.max_length to at most {facts.max_tokens}"
        )
    require(max_length >= 8, "data.max_length", max_length, "be at least 8 tokens")
    require(
        tokens_per_micro_batch >= max_length,
        "data.tokens_per_micro_batch",
        tokens_per_micro_batch,
        f"hold a sequence of data.max_length, {max_length} tokens",
    )
    require(
        micro_batches_per_step >= 1, "data.micro_batches_per_step", micro_batches_per_step, "be at least 1"
    )
    require(0 <= stride < max_length, "data.stride", stride, "lie between 0 and data.max_length")


def vision_settings_of(
    tasks: Mapping[str, Task[Any]],
    vision_encoder: str | None,
    image_tokens: int,
    is_trained: bool,
    blind: bool,
) -> VisionSettings | None:
    """Return the settings of a run's images, without the width; None if its tasks read text alone.

    Args:
        tasks: The tasks by name.
        vision_encoder: The key model.vision_encoder.
        image_tokens: The key data.image_tokens.
        is_trained: The key model.vision_trainable.
        blind: The key data.blind.

    Raises:
        ValueError: A value is out of range, or does not fit the tasks.
    """
    side = math.isqrt(max(image_tokens, 0))
    fits = image_tokens >= 1 and side * side == image_tokens
    require(fits, "data.image_tokens", image_tokens, "be the square of a whole number, such as 1, 16 or 49")
    found = {name: imagery for name, task in tasks.items() if (imagery := task.imagery()) is not None}
    if not found:
        require(not blind, "data.blind", True, "be false: no task of data.tasks has images")
        return None
    if vision_encoder is None and not blind:
        raise ValueError(
            f"data.tasks names {', '.join(found)}, whose examples have images: set model.vision_encoder to "
            "an image model on the hub, such as openai/clip-vit-base-patch32, to a folder, or to "
            "efficientnet-lite0. To train without images, set data.blind to true"
        )
    searching = [name for name, imagery in found.items() if not imagery.as_tokens]
    if blind and searching:
        raise ValueError(
            f"data.blind is true, but {', '.join(searching)} compares texts with images: set it to false, or "
            "take the task out of data.tasks"
        )
    return VisionSettings(vision_encoder or "", image_tokens, 0, is_trained and not blind, blind)


def check_row_length(tokens_per_micro_batch: int, task: str, longest: int) -> None:
    """Check that the longest row of a task fits into a micro-batch.

    Args:
        tokens_per_micro_batch: The key data.tokens_per_micro_batch, in tokens.
        task: The task's name.
        longest: Number of tokens of the task's longest row.

    Raises:
        ValueError: The row does not fit.
    """
    if longest > tokens_per_micro_batch:
        raise ValueError(
            f"data.tokens_per_micro_batch is {tokens_per_micro_batch}, but a row of {task} has {longest} "
            f"tokens: set it to at least {longest}, or shorten that row. If data.max_length cuts the row's "
            "texts, lower data.max_length"
        )


def check_world_size(micro_batches_per_step: int, world_size: int) -> None:
    """Check that processes can share the micro-batches of a step.

    Args:
        micro_batches_per_step: The key data.micro_batches_per_step.
        world_size: Number of processes.

    Raises:
        ValueError: The number of micro-batches is no multiple of the number of processes.
    """
    if micro_batches_per_step % world_size:
        sizes = [n for n in range(1, micro_batches_per_step + 1) if micro_batches_per_step % n == 0]
        raise ValueError(
            f"data.micro_batches_per_step is {micro_batches_per_step}, which {world_size} processes "
            f"cannot share: use {', '.join(map(str, sizes))} processes, or change the key"
        )


def check_fingerprint(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Check that a run gives the same order of batches as its checkpoint.

    Args:
        theirs: Fingerprint in the checkpoint. The fingerprint of an older version may lack keys.
        ours: Fingerprint of this run.

    Raises:
        ValueError: The fingerprints differ.
    """
    changed = [
        f"{key}: {theirs[key]} in the checkpoint, {ours.get(key)} now"
        for key in sorted(theirs)
        if theirs[key] != ours.get(key)
    ]
    if changed:
        raise ValueError(
            "the run cannot be resumed, because its batches or scores would no longer be those of its "
            f"checkpoint: {'; '.join(changed)}. Undo the change, or use another trainer.default_root_dir"
        )


def check_trainable(tasks: Mapping[str, Task[Any]]) -> None:
    """Check that all tasks have training rows.

    Raises:
        ValueError: A task can only be evaluated.
    """
    for name, task in tasks.items():
        if not task.needs_training:
            raise ValueError(
                f"data.tasks names {name}, which has no training rows. Take {name} out; xlt evaluate tests "
                "an encoder on it without training"
            )

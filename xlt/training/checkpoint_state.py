"""Content of a checkpoint: readable states of callbacks, and loop counters after a finished step."""

import io
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException


def check_readable(states: Mapping[str, Any]) -> None:
    """Refuse callback states that a checkpoint can hold but torch cannot read again.

    Args:
        states: State by callback.

    Raises:
        MisconfigurationException: A state holds more than tensors and plain values, such as an array.
    """
    for name, state in states.items():
        file = io.BytesIO()
        try:
            torch.save(state, file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:  # pickle raises errors of any class
            raise MisconfigurationException(
                f"the state_dict of the callback {name} holds more than tensors and plain values, so the run "
                "could not be resumed: return numbers, text, lists and dictionaries "
                f"({str(error).splitlines()[0]})"
            ) from error


def finish_step(checkpoint: dict[str, Any]) -> None:
    """Change the loop counters of a loaded checkpoint to those after a finished step and its validation.

    A checkpoint is saved inside a hook of the step, where Lightning counts the step as unfinished. The effect
    of such counters on a resumed run depends on the hook.

    Args:
        checkpoint: The loaded checkpoint, which is changed in place.
    """
    loops = checkpoint["loops"]["fit_loop"]
    progress = loops["epoch_loop.batch_progress"]
    for counter in (progress["total"], progress["current"]):
        counter["completed"] = counter["processed"]
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
    for key in list(loops):
        if key.startswith("epoch_loop.val_loop"):
            del loops[key]

"""Load the model of an encoder with its weights, and say what they lack."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from xlt.models.encoders.families import family_of
from xlt.models.finite import check_finite
from xlt.system.file_errors import raise_of_file
from xlt.system.folders import model_folder
from xlt.system.tables import counted


@contextmanager
def quietly() -> Iterator[None]:
    """Hide the progress bars and the table of missing weights of transformers inside the block."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def load_model(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return an encoder's model with its weights in single precision.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.
        config: The model's config.

    Raises:
        FileNotFoundError: The weights cannot be loaded, or some are missing.
        NotFiniteError: A weight is NaN or infinite.
    """
    family = family_of(config)
    try:
        with quietly():
            loaded: Any = family.model.from_pretrained(
                model_folder(name),
                config=config,
                **family.arguments,
                dtype="float32",
                output_loading_info=True,
            )
    except (OSError, RuntimeError, SafetensorError) as error:
        raise_of_file(f"the weights of model.encoder {name!r}", error)
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights cannot be loaded "
            f"({str(error).strip().splitlines()[0]}). "
            "Name a model with weights. xlt.fit can draw random weights (model.from_scratch)"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights lack {counted(len(missing), 'tensor')}, such as "
            f"{missing[0]}. Name a model with weights. xlt.fit can draw random weights (model.from_scratch)"
        )
    check_finite(model.state_dict(), f"model.encoder {name!r}", "name a model with finite weights")
    return model

"""Load the model of an encoder with its weights, and say what they lack."""

import logging
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from xlt.models.encoders.families import family_of
from xlt.models.finite import check_finite
from xlt.system.encoder_files import reading
from xlt.system.folders import model_folder
from xlt.system.tables import counted

log = logging.getLogger(__name__)


def load_model(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """Return an encoder's model with its weights in single precision.

    Args:
        name: A name on the hub, a folder, or the folder of a finished run.
        config: The model's config.

    Raises:
        FileNotFoundError: The weights cannot be loaded, or some are missing.
        ValueError: A tensor has another shape than the config.
        NotFiniteError: A weight is NaN or infinite.
    """
    family = family_of(config)
    with reading(name, "weights"):
        loaded: Any = family.model.from_pretrained(
            model_folder(name),
            config=config,
            **family.arguments,
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    model, report = loaded
    if report["mismatched_keys"]:
        key, theirs, ours = min(report["mismatched_keys"])
        raise ValueError(
            f"model.encoder {name!r}: {key} has the shape {tuple(theirs)} in the weights, and {tuple(ours)} "
            "by config.json. Correct the sizes in config.json, or name another model"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise FileNotFoundError(
            f"model.encoder {name!r}: its weights lack {counted(len(missing), 'tensor')}, such as "
            f"{missing[0]}. Name a model with weights. xlt.fit can draw random weights (model.from_scratch)"
        )
    unused = sorted(key for key in report["unexpected_keys"] if f"{family.layers}." in key)
    if unused:
        log.warning(
            "%s: config.json leaves out %s of the weights, such as %s: num_hidden_layers is %d",
            name,
            counted(len(unused), "tensor"),
            unused[0],
            config.num_hidden_layers,
        )
    check_finite(model.state_dict(), f"model.encoder {name!r}", "name a model with finite weights")
    return model

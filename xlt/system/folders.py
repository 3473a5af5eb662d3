"""Path of an encoder's files: a hub name, a folder, or the folder of a finished run.

A finished run holds its best checkpoint as a model of its own:

    <run>/model/config.json, tokenizer.json, ...   in the format of transformers
                model.safetensors                  the encoder
                vision.safetensors                 the projection of images, with vision.json, its settings
                heads.safetensors                  the heads by name, with their class names in the metadata
"""

from pathlib import Path

MODEL = "model"
"""Subfolder of a run for the model."""

HEADS = "heads.safetensors"
VISION, VISION_SETTINGS = "vision.safetensors", "vision.json"
WEIGHTS = "model.safetensors"


def model_folder(name: str) -> str:
    """Return the model's folder if the name is a run's folder, else the name itself.

    Args:
        name: A hub name, an encoder's folder, or a run's folder.

    Raises:
        FileNotFoundError: The run is not finished.
    """
    path = Path(name)
    if not (path / "config.yaml").is_file() or (path / "config.json").is_file():
        return name
    if not (path / MODEL / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"run {name} has no finished checkpoint: {path / MODEL / WEIGHTS} is missing. Finish the run "
            "with xlt fit, or export its best checkpoint so far: "
            f"xlt export --run {name} --out {path / MODEL}"
        )
    return str(path / MODEL)

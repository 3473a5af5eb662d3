"""Where the encoder of a name is: on the hub, in a folder, or in the folder of a finished run.

A finished run holds its best checkpoint as a model of its own, which needs nothing of what it began with:

    <run>/model/config.json, tokenizer.json, ...   as transformers loads them
                model.safetensors                  the encoder
                heads.safetensors                  the heads by name, their classes in the metadata
"""

from pathlib import Path

MODEL = "model"
"""A run's subfolder."""

HEADS = "heads.safetensors"
WEIGHTS = "model.safetensors"


def model_folder(name: str) -> str:
    """The name, or where it is a run's folder, the folder of the run's model.

    Raises:
        FileNotFoundError: The run is not finished.
    """
    path = Path(name)
    if not (path / "config.yaml").is_file() or (path / "config.json").is_file():
        return name
    if not (path / MODEL / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"run {name} has no finished checkpoint: {path / MODEL / WEIGHTS} appears when it ends. Let "
            "python -m xlt.fit finish it, or take its best checkpoint so far: "
            f"python -m xlt.export --run {name} --out {path / MODEL}"
        )
    return str(path / MODEL)

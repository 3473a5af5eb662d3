"""Path of an encoder's files: a hub name, a folder, or the folder of a finished run.

A finished run holds its best checkpoint as a model of its own:

    <run>/model/config.json, tokenizer.json, ...   in the format of transformers
                model.safetensors                  the encoder
                vision.safetensors                 the projection of images, with vision.json, its settings
                heads.safetensors                  the heads by name, with their class names in the metadata
                adapter/                           the LoRA of a run with model.lora, in the format of peft
"""

import difflib
from pathlib import Path

MODEL = "model"
"""Subfolder of a run for the model."""

MADE = Path("encoders/e5-small")
"""Encoder that `make encoder` writes."""

WITHOUT_NETWORK = (
    "Check the name. Without a network, run `xlt prepare --config ...` on a machine that has one and copy "
    "its HF_HOME and XLT_CACHE to this machine, or name a local folder"
)
"""How to fix an encoder that the hub did not give."""

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
    is_there = (path / MODEL / WEIGHTS).is_file()
    if not is_there and (path / "results.json").is_file() and not list(path.glob("checkpoints/*.ckpt")):
        raise FileNotFoundError(
            f"run {name} is finished, but its model was deleted, as xlt study --keep scores does: delete the "
            "folder, and run the same command again to train it again"
        )
    if not is_there:
        raise FileNotFoundError(
            f"run {name} has no finished checkpoint: {path / MODEL / WEIGHTS} is missing. Finish the run "
            "with xlt fit, or export its best checkpoint so far: "
            f"xlt export --run {name} --out {path / MODEL}"
        )
    return str(path / MODEL)


def check_encoder_exists(name: str) -> None:
    """Raise FileNotFoundError if an encoder is named by the path of a folder that does not exist.

    Args:
        name: A hub name, which has the form NAME or OWNER/NAME, or a folder.
    """
    path = Path(name)
    is_nested = len(path.parts) > 2 or (len(path.parts) == 2 and path.parent.is_dir())
    if path.exists() or not (is_nested or name.startswith(("/", ".", "~"))):
        return
    there = [found.name for found in path.parent.glob("*") if found.is_dir()]
    close = [str(path.with_name(found)) for found in difflib.get_close_matches(path.name, there, 3)]
    if path.parts[-2:] == MADE.parts:
        fix = f"run `make encoder`, which writes {MADE}"
    elif name.startswith("~"):
        fix = "write the home folder in full"
    else:
        fix = "name a folder with a config.json, a run's folder, or a model on the hub, such as OWNER/NAME"
    hint = f"; did you mean {' or '.join(close)}? If not," if close else ":"
    raise FileNotFoundError(f"model.encoder is {name}, a folder that does not exist{hint} {fix}")

"""Turn a run into an encoder that transformers loads: `python -m xlt.export --run runs/NAME --out FOLDER`.

The folder holds config, tokenizer and weights: of the best checkpoint, with the head for hidden
tokens where the run trained one.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml
from jsonargparse import auto_cli
from torch import Tensor

from xlt.cli import run_verb
from xlt.data.encode import load_tokenizer
from xlt.models.encoder import Encoder
from xlt.models.saving import save_encoder
from xlt.training.checkpoints import VerifiedIO, best
from xlt.training.run_folder import RunFolder


def export_run(run: Path, out: Path, precision: Literal["float16", "float32"] = "float32") -> None:
    """Write a run's encoder.

    Args:
        run: The run's folder.
        out: Folder to write into; what it holds besides stays.
        precision: Of the weights.

    Raises:
        FileNotFoundError: There is no such run, or it has no checkpoint that verifies.
    """
    folder = RunFolder(run)
    if not folder.config.is_file():
        raise FileNotFoundError(f"{run} is no run's folder: it has no {folder.config.name}")
    checkpoint = best(folder.checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(f"{folder.checkpoints} has no checkpoint that verifies: let the run go on")
    state = VerifiedIO().load_checkpoint(checkpoint)["state_dict"]
    name = yaml.safe_load(folder.config.read_text())["model"]["encoder"]
    encoder = Encoder(name, from_scratch=True)
    encoder.load_state_dict(_below(state, "encoder."))
    save_encoder(encoder, name, _below(state, "heads.mlm."), out, precision)
    if not (out / "tokenizer.json").is_file():
        load_tokenizer(name).save_pretrained(out)
    print(f"{checkpoint} is now in {out}")


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def export(args: Sequence[str]) -> None:
    """The verb.

    Args:
        args: Command-line arguments.
    """
    auto_cli(export_run, args=list(args), as_positional=False)


if __name__ == "__main__":
    sys.exit(run_verb(export, sys.argv[1:]))

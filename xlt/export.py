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
from transformers import PreTrainedTokenizerFast

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
        ValueError: The folder holds another tokenizer, or the run's encoder has changed its size.
    """
    folder = RunFolder(run)
    if not folder.config.is_file():
        raise FileNotFoundError(f"{run} is no run's folder: it has no {folder.config.name}")
    checkpoint = best(folder.checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(f"{folder.checkpoints} has no checkpoint that verifies: let the run go on")
    name = yaml.safe_load(folder.config.read_text())["model"]["encoder"]
    found = VerifiedIO().load_checkpoint(checkpoint)
    encoder = Encoder(name, from_scratch=True)
    if found["encoder_shape"] != encoder.shape:
        raise ValueError(
            f"{name} is no longer the encoder of {run}: {found['encoder_shape']} there, {encoder.shape} now. "
            "Put the config back that the run was started with"
        )
    encoder.load_state_dict(_below(found["state_dict"], "encoder."))
    tokenizer = load_tokenizer(name)
    _check_tokenizer(out, tokenizer)
    save_encoder(encoder, name, tokenizer, _below(found["state_dict"], "heads.mlm."), out, precision)
    print(f"{checkpoint} is now in {out}")


def _check_tokenizer(out: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a folder with another tokenizer, whose weights this would replace."""
    if (out / "tokenizer.json").is_file():
        theirs = load_tokenizer(str(out))
        if theirs.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str():
            raise ValueError(f"{out} holds an encoder with another tokenizer: give another folder as --out")


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

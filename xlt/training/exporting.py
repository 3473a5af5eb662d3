"""A run's best checkpoint, or another, as a model of its own: config, tokenizer, encoder and heads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xlt.data.encode import load_tokenizer, num_ids
from xlt.kinds.task import group_of
from xlt.models.encoders.text import Encoder, check_vocabulary
from xlt.models.saving import save_encoder
from xlt.tasks import load
from xlt.training.checkpoint_files import SUFFIX, VerifiedIO, best, fault_of, path_of, step_of, unfit
from xlt.training.run_folder import RunFolder

MASKED = "mlm"
"""The head for hidden tokens, which transformers keeps with the encoder."""


def export_run(
    run: Path,
    out: Path,
    precision: Literal["float16", "float32"] = "float32",
    checkpoint: int | None = None,
) -> Path:
    """Write a run's encoder and heads; return the checkpoint that they are of.

    Args:
        run: The run's folder.
        out: Folder to write into; what it holds besides stays.
        precision: Of the weights.
        checkpoint: Step of the checkpoint; the best one where not given.

    Raises:
        FileNotFoundError: There is no such run, or it has no such checkpoint, or none that verifies.
        ValueError: The folder holds another tokenizer, the run's encoder has changed its size, or its
            tokenizer has more ids than its embedding has rows.
    """
    folder = RunFolder(run)
    if not folder.config.is_file():
        raise FileNotFoundError(f"{run} is no run's folder: it has no {folder.config.name}")
    path = _chosen(folder.checkpoints, checkpoint)
    name = folder.read_config()["model"]["encoder"]
    found = VerifiedIO().load_checkpoint(path)
    encoder = Encoder(name, from_scratch=True)
    if found["encoder_shape"] != encoder.shape:
        raise ValueError(
            f"{name} is no longer the encoder of {run}: {found['encoder_shape']} there, {encoder.shape} now. "
            "Put the config back that the run was started with"
        )
    encoder.load_state_dict(_below(found["state_dict"], "encoder."))
    tokenizer = load_tokenizer(name)
    check_vocabulary(name, num_ids(tokenizer))
    _check_tokenizer(out, tokenizer)
    heads = _heads(_below(found["state_dict"], "heads."))
    masked_head = heads.pop(MASKED, {})
    save_encoder(encoder, name, tokenizer, masked_head, heads, _labels(folder), out, precision)
    return path


def _chosen(folder: Path, step: int | None) -> Path:
    """The checkpoint of a step, or the best.

    Raises:
        FileNotFoundError: It is not there, or does not verify.
    """
    path = best(folder) if step is None else path_of(folder, step)
    if path is None:
        raise FileNotFoundError(f"{folder} has no checkpoint that verifies: let the run go on")
    fault = "" if step is None else fault_of(path) or unfit(path)
    if fault:
        there = ", ".join(str(step_of(p)) for p in sorted(folder.glob(f"step-*{SUFFIX}")))
        raise FileNotFoundError(f"checkpoint {path} {fault}: give another step; there are {there or 'none'}")
    return path


def _check_tokenizer(out: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuse a folder with another tokenizer, whose weights this would replace."""
    if (out / "tokenizer.json").is_file():
        theirs = load_tokenizer(str(out))
        if theirs.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str():
            raise ValueError(f"{out} holds an encoder with another tokenizer: give another folder as --out")


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _heads(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The heads' tensors by head."""
    names = dict.fromkeys(key.partition(".")[0] for key in state)
    return {name: _below(state, f"{name}.") for name in names}


def _labels(folder: RunFolder) -> dict[str, list[str]]:
    """Names of the classes of each of the run's heads."""
    sources = json.loads(folder.sources.read_text(encoding="utf-8"))
    tasks = map(load, folder.read_config()["data"]["tasks"])
    heads = {task.group: task.head_key for task in tasks}
    return {heads[group_of(name)]: splits["train"]["labels"] for name, splits in sources.items()}

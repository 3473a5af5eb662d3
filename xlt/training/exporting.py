"""Export of a run's checkpoint as a model: config, tokenizer, encoder and heads."""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from xlt.data.encode import load_tokenizer, num_ids
from xlt.kinds.task import group_of
from xlt.models.adapters import FOLDER, Adapter, save_adapter
from xlt.models.encoders.multimodal import VisionSettings
from xlt.models.encoders.text import check_vocabulary, load_config, shape_of
from xlt.models.lean import KEY, complete
from xlt.models.saving import save_encoder
from xlt.system.checks import require
from xlt.system.folders import check_encoder_exists
from xlt.tasks import load
from xlt.training.checkpoint_files import (
    SUFFIX,
    best,
    fault_of,
    path_of,
    read_checkpoint,
    step_of,
    weights_fault,
)
from xlt.training.head_card import figures_of_evaluation, figures_of_run, write_head_card
from xlt.training.head_export import plan_head
from xlt.training.hub_upload import check_hub_name, push
from xlt.training.model_card import write_card
from xlt.training.run_folder import RunFolder, check_writable

log = logging.getLogger(__name__)

MASKED = "mlm"
"""Key of the masked language modelling head, which transformers stores with the encoder."""


def export_run(
    run: Path,
    out: Path,
    precision: Literal["float16", "float32"] = "float32",
    checkpoint: int | None = None,
    unmerged: bool = False,
    head: str | None = None,
    layer: int | None = None,
    max_length: int | None = None,
    stride: int | None = None,
    scores: Path | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
) -> Path:
    """Write a run's encoder and heads into a folder, and return the path of the exported checkpoint.

    Args:
        run: Folder of the run, such as runs/mnli.
        out: Folder to write into. Its other files stay.
        precision: Precision of the weights: float32 or float16. Defaults to float32.
        checkpoint: Step of the checkpoint to export, such as 500. Defaults to the best checkpoint.
        unmerged: Write the LoRA of a run with model.lora as a folder for peft, without the encoder and the
            heads. If false, the LoRA is added to the encoder's weights, and is also written beside them.
        head: Head to export as a model that transformers loads with the head, such as udpos. For a retrieval
            task, such as tatoeba or ranking, the folder is a sentence-transformers model. Defaults to the
            encoder with all heads beside it, which xlt reads.
        layer: Layer whose states a sentence's vector averages, 1 the lowest. Needs the head of a retrieval
            task. Defaults to the layer that xlt reads: the last for a trained task, two above the middle for
            a task without training.
        max_length: Maximum number of tokens in a sequence that the exported head reads. Defaults to 512, or
            to the encoder's limit if that is lower, as in xlt evaluate.
        stride: Overlap of the windows of a passage that an exported head for questions reads, in tokens.
            Defaults to 128, or to one below max_length if that is lower.
        scores: Folder of an evaluation of the run, whose scores by language the model card shows. Needs
            `head`. Defaults to the dev scores of the run.
        push_to_hub: Name of a model on the Hugging Face hub to upload the folder to, such as me/udpos. The
            token is HF_TOKEN or that of `hf auth login`. Defaults to no upload.
        private: True to create the model on the hub as a private one. Defaults to false.

    Raises:
        FileNotFoundError: The run or the checkpoint does not exist, or the checkpoint is damaged.
        OSError: The folder cannot be written or uploaded.
        ValueError: The folder is a run's or holds another tokenizer, the run's encoder has changed, its
            tokenizer has more ids than its embedding has rows, the head cannot be exported, or the run has no
            LoRA to write unmerged.
    """
    for key, value in (("scores", scores), ("layer", layer), ("max_length", max_length)):
        require(head is not None or value is None, key, value, "be left out, or head must be set too")
    if push_to_hub is not None:
        check_hub_name(push_to_hub)
    folder = RunFolder(run)
    if not folder.config.is_file():
        raise FileNotFoundError(f"{run} is not a run's folder: {folder.config.name} is missing")
    if RunFolder(out).config.is_file() and RunFolder(out).checkpoints.is_dir():
        raise ValueError(f"{out} is a run's folder: set out to another folder, such as {out}-export")
    path = _chosen(folder.checkpoints, checkpoint)
    model = folder.read_config()["model"]
    name = model["encoder"]
    try:
        check_encoder_exists(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{run} was trained from {name}, a folder that does not exist now. Put it back, or correct "
            f"model.encoder in {folder.config}"
        ) from error
    found = read_checkpoint(path, mmap=True)
    _check_shape(found["encoder_shape"], name, run)
    trained = _below(found["state_dict"], "encoder.transformer.")
    weights, adapter = complete(trained, found.get(KEY), name, model.get("language_lora"), path)
    if unmerged:
        require(head is None, "unmerged", True, "be false with head: a model with its head is merged")
        _save_unmerged(adapter, run, out)
        return path
    tokenizer = load_tokenizer(name)
    check_vocabulary(name, num_ids(tokenizer))
    _check_tokenizer(out, tokenizer)
    if head is None:
        _write_encoder(folder, found, weights, adapter, tokenizer, out, precision, step_of(path))
    else:
        about = head, layer, (max_length, stride), scores, push_to_hub or str(out)
        _write_head(folder, found, weights, tokenizer, out, precision, step_of(path), *about)
    if push_to_hub is not None:
        log.info("%s is uploaded to %s", out, push(out, push_to_hub, private))
    return path


def _check_shape(theirs: Mapping[str, int], name: str, run: Path) -> None:
    """Raise ValueError if an encoder no longer has the sizes with which a run was started."""
    ours = shape_of(load_config(name))
    if theirs != ours:
        raise ValueError(
            f"{name} is no longer the encoder of {run}: {theirs} there, {ours} now. "
            f"Restore the config.json of {name} with which the run was started"
        )


def _write_encoder(
    folder: RunFolder,
    found: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    adapter: Adapter | None,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    precision: Literal["float16", "float32"],
    step: int,
) -> None:
    """Write the encoder of a checkpoint with its heads beside it, and its card."""
    name = folder.read_config()["model"]["encoder"]
    heads = _heads(_below(found["state_dict"], "heads."))
    masked_head = heads.pop(MASKED, {})
    check_writable(out, "the export's folder", "out")
    settings = found.get("vision")
    # A blind run keeps the projection of an earlier run, which does not fit its settings.
    projection = {} if settings and settings["is_blind"] else _below(found["state_dict"], "vision.")
    vision = settings and (VisionSettings(**settings), projection)
    shutil.rmtree(out / FOLDER, ignore_errors=True)  # of an earlier export
    if adapter is not None:
        save_adapter(adapter, out / FOLDER)
    save_encoder(weights, name, tokenizer, masked_head, heads, _labels(folder), out, precision, vision)
    write_card(folder, out, step, list(heads))


def _write_head(
    folder: RunFolder,
    found: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    precision: Literal["float16", "float32"],
    step: int,
    head: str,
    layer: int | None,
    lengths: tuple[int | None, int | None],
    scores: Path | None,
    model: str,
) -> None:
    """Write a head of a checkpoint with its encoder as a model of transformers, and its card."""
    heads = _heads(_below(found["state_dict"], "heads."))
    plan = plan_head(folder, head, layer, heads, _labels(folder), tokenizer, out, *lengths)
    if scores is None:
        trained = [load(name) for name in folder.read_config()["data"]["tasks"]]
        same = [task for task in trained if task.head_key == plan.task.head_key]
        figures = figures_of_run(folder, same, step)
    else:
        figures = figures_of_evaluation(scores, folder, plan.task)
    check_writable(out, "the export's folder", "out")
    plan.write(weights, out, precision)
    write_head_card(folder, out, plan.task, plan.form, plan.settings, figures, step, model)


def _save_unmerged(adapter: Adapter | None, run: Path, out: Path) -> None:
    """Write the LoRA of a run as a folder for peft.

    Raises:
        ValueError: The run has no LoRA, or the folder holds a model.
    """
    if adapter is None:
        raise ValueError(
            f"{run} was trained without model.lora: it has no LoRA to write. Leave out --unmerged"
        )
    if (out / "config.json").is_file():
        raise ValueError(f"{out} holds a model (config.json): set --out to another folder")
    check_writable(out, "the export's folder", "out")
    save_adapter(adapter, out)


def _chosen(folder: Path, step: int | None) -> Path:
    """Return the checkpoint after a step, or the best checkpoint if the step is None.

    Raises:
        FileNotFoundError: The checkpoint does not exist or is damaged.
    """
    path = best(folder) if step is None else path_of(folder, step)
    if path is None:
        raise FileNotFoundError(f"{folder} has no undamaged checkpoint: resume the run with xlt fit")
    fault = "" if step is None else fault_of(path) or weights_fault(path)
    if fault:
        there = ", ".join(str(step_of(p)) for p in sorted(folder.glob(f"step-*{SUFFIX}")))
        raise FileNotFoundError(f"checkpoint {path} {fault}: give another step; there are {there or 'none'}")
    return path


def _check_tokenizer(out: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise ValueError if a folder holds another tokenizer, because its weights would be replaced."""
    if (out / "tokenizer.json").is_file():
        theirs = load_tokenizer(str(out))
        if theirs.backend_tokenizer.to_str() != tokenizer.backend_tokenizer.to_str():
            raise ValueError(f"{out} holds an encoder with another tokenizer: set --out to another folder")


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without the prefix."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _heads(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each head, by head."""
    names = dict.fromkeys(key.partition(".")[0] for key in state)
    return {name: _below(state, f"{name}.") for name in names}


def _labels(folder: RunFolder) -> dict[str, list[str]]:
    """Return the class names of each head of the run, by head."""
    sources = json.loads(folder.sources.read_text(encoding="utf-8"))
    tasks = map(load, folder.read_config()["data"]["tasks"])
    heads = {task.group: task.head_key for task in tasks}
    return {heads[group_of(name)]: splits["train"]["labels"] for name, splits in sources.items()}

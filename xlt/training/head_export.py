"""Export of a trained head with its encoder, as a model that transformers or sentence-transformers loads."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from xlt.data.encode import MAX_LENGTH, STRIDE, TextEncoder
from xlt.kinds.retrieval import retrieval_layer
from xlt.kinds.task import Task
from xlt.models.encoders.families import facts_of, family_of
from xlt.models.encoders.text import load_config
from xlt.models.heads.head import Form
from xlt.models.portable import CLASSES, portable_model
from xlt.models.saving import Heads, encoder_model, save_model
from xlt.system.checks import require
from xlt.system.folders import HEADS
from xlt.tasks import load
from xlt.training.run_folder import RunFolder

MODULES = "modules.json"
"""List of the parts of a model of sentence-transformers."""


@dataclass(frozen=True)
class HeadExport:
    """A head to export, and its model's config.

    Args:
        task: A task with the head.
        form: Form of the head in transformers.
        config: Config of the exported model.
        settings: Settings of the task, see `exported_settings`, with `question_limit`, `stride` and `layer`.
        tokenizer: The tokenizer, with the longest input.
        weights: Weights of the head. Empty for a head without weights.
    """

    task: Task[Any]
    form: Form
    config: PretrainedConfig
    settings: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerFast
    weights: Mapping[str, Tensor]

    def write(
        self, encoder: Mapping[str, Tensor], out: Path, precision: Literal["float16", "float32"]
    ) -> None:
        """Write the model into a folder.

        Args:
            encoder: Weights of the encoder, by their names in the bare model.
            out: The folder.
            precision: Precision of the weights.

        Raises:
            OSError: The folder cannot be written.
            ValueError: The head does not fit the class of transformers, or a weight is not finite.
        """
        files: dict[str, bytes] = {}
        config: Any = self.config
        if self.form in CLASSES:
            model = portable_model(self.form, config, encoder, self.weights)
        elif self.form == "fill-mask":
            model = encoder_model(config, encoder, self.weights)
        else:
            count, layer = config.num_hidden_layers, self.settings["layer"]
            model = encoder_model(config, _lower_layers(encoder, count), {})
            inner = layer if layer < count else None
            files = sentence_files(config.hidden_size, self.tokenizer.model_max_length, inner)
        save_model(model, self.tokenizer, files, out, precision)


def plan_head(
    folder: RunFolder,
    head: str,
    layer: int | None,
    heads: Heads,
    labels: Mapping[str, Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    max_length: int | None,
    stride: int | None,
) -> HeadExport:
    """Return what to export. No file is written.

    Args:
        folder: The run's folder.
        head: Name of a head of the run, of a task of the run, or of a retrieval task.
        layer: Layer whose states a sentence's vector averages. If None, the layer that xlt reads.
        heads: Weights of the run's heads.
        labels: Names of each head's classes.
        tokenizer: The tokenizer, which gets the longest input.
        out: Folder of the export.
        max_length: Maximum number of tokens in a sequence. If None, as in xlt evaluate.
        stride: Overlap of the windows of a passage, in tokens. If None, as in xlt evaluate.

    Raises:
        ValueError: The run has no such head, transformers has no class for it, the encoder has no such layer
            or shorter inputs, or the folder holds another export.
    """
    run, name = folder.read_config(), folder.read_config()["model"]["encoder"]
    task = _task(folder, head, run["data"]["tasks"])
    task = replace(task, labels=tuple(labels.get(task.head_key) or task.labels))
    config = load_config(name)
    form = _form(task, head, config.hidden_size, heads)
    holds = MODULES if form != "sentence-similarity" else ""
    for file in (HEADS, holds):
        if file and (out / file).is_file():
            raise ValueError(f"{out} holds another export, with {file}: set out to another folder")
    longest = facts_of(config).max_tokens
    length = min(MAX_LENGTH, longest) if max_length is None else max_length
    require(
        8 <= length <= longest, "max_length", length, f"lie in 8 to {longest} tokens, the encoder's limit"
    )
    require(stride is None or 0 <= stride < length, "stride", stride, f"lie in 0 to {length - 1} tokens")
    tokenizer.model_max_length = length
    if getattr(config, "type_vocab_size", 1) < 2:  # the model has no vector for a second segment
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    settings = exported_settings(task)
    if form == "question-answering":
        reader = TextEncoder(tokenizer, length, STRIDE if stride is None else stride)
        limit, overlap = reader.window_limits()
        settings |= {"question_limit": limit, "stride": overlap}
    if form == "sentence-similarity":
        settings |= {"layer": cut_config(config, task, layer)}
    else:
        require(layer is None, "layer", layer, f"be left out: {head} reads the last layer")
    _describe(config, form, task.labels, settings)
    return HeadExport(task, form, config, settings, tokenizer, heads.get(task.head_key, {}))


def exported_settings(task: Task[Any]) -> dict[str, Any]:
    """Return the settings that a task's exported head needs, by name, as plain JSON. Infinity is None."""
    values = {name: getattr(task, name) for name in task.exported}
    return {name: None if value == float("inf") else value for name, value in values.items()}


def _task(folder: RunFolder, head: str, names: Sequence[str]) -> Task[Any]:
    """Return a task with a head: one of the run's tasks, or a task without training.

    Raises:
        ValueError: The run has no such head.
    """
    tasks = [load(name) for name in names]
    for task in tasks:
        if head in (task.head_key, task.name, task.group):
            return task
    try:
        other = load(head)
    except ValueError:
        other = None
    if other is None or other.needs_training:
        known = ", ".join(dict.fromkeys(task.head_key for task in tasks))
        raise ValueError(
            f"head is {head!r}, which {folder.path} has not trained. Its heads are {known}. Set head to one "
            "of them, or to a task without training, such as tatoeba"
        )
    return other


def _form(task: Task[Any], head: str, hidden_size: int, heads: Heads) -> Form:
    """Return the form of a head in transformers.

    Raises:
        ValueError: transformers has no class for it, or the checkpoint lacks its weights.
    """
    kind = type(task).__name__
    own = task.head(hidden_size, 0.0)
    form = own.exported_form()
    if form is None or task.imagery() is not None:
        raise ValueError(
            f"head {head!r} is of the kind {kind}, for which transformers has no class. Leave head out: the "
            f"folder then holds the encoder, and its heads in {HEADS}, which xlt reads"
        )
    if own.state_dict() and task.head_key not in heads:
        raise ValueError(
            f"the checkpoint has no weights of the head {task.head_key}: its heads are "
            f"{', '.join(heads) or 'none'}. Set head to one of them"
        )
    return form


def cut_config(config: PretrainedConfig, task: Task[Any], layer: int | None) -> int:
    """Leave out the layers that need not be computed, and return the layer that is read.

    A norm after the last layer would change that layer's states. An encoder with one keeps the layer above
    the one that is read.

    Raises:
        ValueError: The encoder has no such layer.
    """
    most: int = config.num_hidden_layers or 0
    default = most if task.needs_training else retrieval_layer(most)
    chosen = default if layer is None else layer
    require(1 <= chosen <= most, "layer", chosen, f"be one of the {most} layers of the encoder, from 1 on")
    kept = chosen + bool(chosen < most and family_of(config).final_norm)
    config.num_hidden_layers = kept
    config.output_hidden_states = kept > chosen
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:kept]
    return chosen


def _describe(
    config: PretrainedConfig, form: Form, labels: Sequence[str], settings: Mapping[str, Any]
) -> None:
    """Write the classes and settings of a head into the config of its model."""
    if form in ("text-classification", "token-classification"):
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    elif form == "question-answering":
        config.num_labels = 2
    config.problem_type = "single_label_classification" if form == "text-classification" else None
    if hasattr(config, "classifier_pooling"):
        config.classifier_pooling = "cls"
    if settings:
        config.xlt = dict(settings)


def _lower_layers(weights: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return the weights of an encoder without those of the layers above the first `num_layers`."""
    found = {name: re.search(r"(?:^|\.)layers?\.(\d+)\.", name) for name in weights}
    return {name: weights[name] for name, at in found.items() if at is None or int(at[1]) < num_layers}


def sentence_files(hidden_size: int, max_length: int, inner: int | None = None) -> dict[str, bytes]:
    """Return the files by which sentence-transformers reads a mean of states of length 1, by their path.

    Args:
        hidden_size: Width of the encoder.
        max_length: Maximum number of tokens in a sentence, special tokens included.
        inner: Layer below the last one whose states are read. The model must return all hidden states, and
            have one layer more. Defaults to the last layer.

    Source: the files that sentence-transformers 6.2 writes, with names that all versions from 2 read.
    """
    names = ["Transformer", *["WeightedLayerPooling"] * (inner is not None), "Pooling", "Normalize"]
    paths = [f"{i}_{name}" if i else "" for i, name in enumerate(names)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    pooling = {
        "word_embedding_dimension": hidden_size,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    contents: dict[str, Any] = {
        MODULES: modules,
        f"{paths[-2]}/config.json": pooling,
        f"{paths[-1]}/config.json": {},
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "similarity_fn_name": "cosine"},
    }
    weights: dict[str, bytes] = {}
    if inner is not None:
        sizes = {"word_embedding_dimension": hidden_size, "num_hidden_layers": inner + 1}
        contents[f"{paths[1]}/config.json"] = sizes | {"layer_start": inner}
        # Of the states from the layer `inner` on, the last ones count nothing.
        weights[f"{paths[1]}/model.safetensors"] = save({"layer_weights": torch.tensor([1.0, 0.0])})
    written = {name: (json.dumps(content, indent=2) + "\n").encode() for name, content in contents.items()}
    return written | weights

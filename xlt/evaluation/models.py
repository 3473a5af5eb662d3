"""The models of an evaluation: the encoder as it is, finished runs, and the layer that retrieval reads."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlt.data.encode import MAX_LENGTH, STRIDE, TextEncoder, load_tokenizer
from xlt.evaluation.task_values import check_names
from xlt.kinds.retrieval import retrieval_layer
from xlt.kinds.task import Task, name_of
from xlt.models.encoders.families import facts_of
from xlt.models.encoders.multimodal import VisionSettings
from xlt.models.encoders.text import check_vocabulary, load_config
from xlt.models.saving import load_heads, load_vision_settings
from xlt.system.checks import require
from xlt.system.folders import HEADS, MODEL, model_folder
from xlt.tasks import by_task, load
from xlt.training.exporting import export_run
from xlt.training.run_folder import RunFolder


@dataclass(frozen=True)
class Models:
    """The models of an evaluation.

    Args:
        encoder: Name of the encoder for tasks without training. None if there is no such encoder.
        runs: Folders of fine-tuned runs or of their exports.
        absent: Folders of runs that do not exist or are not finished, with the reason.
        layer: Layer whose states retrieval averages, 1 the lowest, for all tasks or by task. Defaults to two
            above the middle.
    """

    encoder: str | None
    runs: tuple[str, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    layer: int | Mapping[str, int] | None = None

    @property
    def names(self) -> list[str]:
        """The encoder, if there is one, and the runs."""
        return [name for name in (self.encoder, *self.runs) if name]

    def vision_settings(self) -> VisionSettings | None:
        """Return the settings of the runs' images; None if all runs read text alone.

        Raises:
            ValueError: Runs have different settings, whose rows do not fit one evaluation.
        """
        found = {run: vision for run in self.runs if (vision := load_vision_settings(run)) is not None}
        first = next(iter(found), "")
        for run, vision in found.items():
            if (vision.image_tokens, vision.is_blind) != (found[first].image_tokens, found[first].is_blind):
                raise ValueError(
                    f"{first} and {run} read images in different ways: {found[first]._asdict()} and "
                    f"{vision._asdict()}. Evaluate them separately"
                )
        return found.get(first)

    def check(self, tasks: Sequence[Task[Any]]) -> None:
        """Compare the models with each other and with the tasks.

        Raises:
            ValueError: There is no model, models have different tokenizers, no run trained a head of the
                tasks, or a layer does not exist.
        """
        if not self.names:
            raise ValueError("nothing to evaluate: set encoder, or runs to the folders of runs")
        heads = {head for run in self.runs for head in load_heads(run)[0]}
        wanted = {task.head_key for task in tasks if task.needs_training}
        if self.runs and wanted and not wanted & heads and not self.absent:
            raise ValueError(
                f"{', '.join(self.runs)}: the heads are {', '.join(sorted(heads)) or 'none'}, but the tasks "
                f"need {', '.join(sorted(wanted))}. Set runs to the runs of these tasks"
            )
        self._check_tokenizers()
        self._check_layers(tasks)

    def _check_tokenizers(self) -> None:
        """Raise ValueError for different tokenizers, whose scores do not belong into one table."""
        first, *others = self.names
        text = load_tokenizer(first).backend_tokenizer.to_str() if others else ""
        for name in others:
            if load_tokenizer(name).backend_tokenizer.to_str() != text:
                raise ValueError(
                    f"{name} has another tokenizer than {first}, so the two are not of one encoder. Evaluate "
                    "them separately"
                )

    def _check_layers(self, tasks: Sequence[Task[Any]]) -> None:
        """Raise ValueError for a layer that its encoder lacks, or of a task that is not evaluated."""
        if isinstance(self.layer, Mapping):
            check_names("layer", by_task(self.layer), tasks)
        for task in tasks:
            model = self.of(task)
            layer = None if model is None else self.layer_of(task, model)
            if model is not None and layer is not None:
                most = load_config(model).num_hidden_layers
                require(
                    1 <= layer <= most, "layer", layer, f"be one of the {most} layers of {model}, from 1 on"
                )

    def layer_of(self, task: Task[Any], model: str) -> int | None:
        """Return the layer to read; None for the last."""
        if task.needs_training:
            return None
        layers = load_config(model).num_hidden_layers
        layer = by_task(self.layer).get(task.group) if isinstance(self.layer, Mapping) else self.layer
        return retrieval_layer(layers) if layer is None else layer

    def of(self, task: Task[Any]) -> str | None:
        """Return the model to test a task with: the run that trained its head, or the encoder as it is.

        Raises:
            ValueError: Several runs trained the head.
        """
        if not task.needs_training:
            return self.encoder
        able = [run for run in self.runs if task.head_key in load_heads(run)[0]]
        named = [run for run in able if task.name in map(name_of, tasks_of(run))]
        chosen = named or able
        if len(chosen) > 1:
            raise ValueError(
                f"task {task.name} could be tested with any of {', '.join(chosen)}. Name one of them in "
                "runs, and evaluate the others in other folders"
            )
        return chosen[0] if chosen else None

    def why_absent(self, task: Task[Any]) -> str:
        """Return why absent runs that may have trained a task's head cannot be tested, or an empty string."""
        if not task.needs_training:
            return ""
        able = [run for run in self.absent if task.head_key in (_heads_of(run) or [task.head_key])]
        return "; ".join(self.absent[run] for run in able)


def open_models(
    encoder: str | None,
    runs: Sequence[str],
    checkpoint: int | None,
    layer: int | Mapping[str, int] | None,
    exports: Path,
) -> Models:
    """Return the models of an evaluation.

    Args:
        encoder: Name of the encoder for tasks without training.
        runs: Folders of runs or of exports.
        checkpoint: Step of the checkpoint of the runs. Defaults to the best.
        layer: See `Models`.
        exports: Folder for the exports of the checkpoints.

    Raises:
        FileNotFoundError: None of the runs can be tested.
    """
    found: list[str] = []
    absent: dict[str, str] = {}
    for number, run in enumerate(runs):
        try:
            if checkpoint is None:
                check_run(run)
                found.append(run)
            else:
                found.append(_export(run, checkpoint, exports / f"{number}-{Path(run).name}"))
        except FileNotFoundError as error:
            absent[run] = str(error)
    if absent and not found:
        raise FileNotFoundError("; ".join(absent.values()))
    return Models(encoder, tuple(found), absent, layer)


def _export(run: str, step: int, out: Path) -> str:
    """Write a folder like that of a finished run, with the model of a checkpoint; return the folder.

    Raises:
        FileNotFoundError: There is no such run or checkpoint.
    """
    export_run(Path(run), out / MODEL, checkpoint=step)
    shutil.copy(Path(run, "config.yaml"), out)
    return str(out)


def check_run(run: str) -> None:
    """Raise FileNotFoundError for a folder that is not a run's or an export's, and for an unfinished run."""
    if not any((Path(run) / name).is_file() for name in ("config.yaml", HEADS)):
        raise FileNotFoundError(
            f"{run} is no run's folder: it has no config.yaml, nor {HEADS}. Name a finished run, or an "
            "export without --head, which keeps the heads for xlt"
        )
    model_folder(run)


def tasks_of(run: str) -> list[str]:
    """Return the tasks in a run's config; none for an export."""
    folder = RunFolder(Path(run))
    return folder.read_config()["data"]["tasks"] if folder.config.is_file() else []


def _heads_of(run: str) -> list[str]:
    """Return the heads of the tasks in a run's config; none without a config."""
    return [load(name).head_key for name in tasks_of(run)]


def text_encoder(
    models: Sequence[str], max_length: int | None, stride: int | None, image_tokens: int
) -> TextEncoder:
    """Return the tokenizer of the models, with sequences that all models have positions for.

    Args:
        models: Names of encoders, or folders of runs.
        max_length: Maximum number of tokens in a sequence. Defaults to MAX_LENGTH, or to the models' limit.
        stride: Overlap of the windows of a passage, in tokens. If None, 128, or the most that fits.
        image_tokens: Number of tokens that stand for an image.

    Raises:
        ValueError: The sequences are longer than a model's limit, or a model has fewer word embeddings than
            the tokenizer has ids.
    """
    limits = {name: facts_of(load_config(name)).max_tokens for name in models}
    length = min(MAX_LENGTH, *limits.values()) if max_length is None else max_length
    for name, limit in limits.items():
        require(length <= limit, "max_length", length, f"be at most {limit} tokens, the limit of {name}")
    overlap = min(STRIDE if stride is None else stride, length - 1)
    text = TextEncoder(load_tokenizer(models[0]), length, overlap, image_tokens)
    for name in models:
        check_vocabulary(name, text.num_ids)
    return text

"""Model card of an exported run, README.md: metadata for the Hugging Face hub, scores, and use.

Source of the metadata: https://huggingface.co/docs/hub/model-cards.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from xlt.data.multilingual import ENGLISH, Multilingual
from xlt.data.sources import Hub
from xlt.kinds.task import Task
from xlt.models.saving import load_vision_settings
from xlt.system.files import write_atomically
from xlt.system.tables import counted
from xlt.tasks import load
from xlt.training.lineage import first_encoder
from xlt.training.metrics_file import read_events
from xlt.training.run_folder import RunFolder

CARD = "README.md"

LICENCES = {"FacebookAI/xlm-roberta-base": "mit", "FacebookAI/xlm-roberta-large": "mit"}
"""Licences of encoders on the hub. Source: their model cards."""

SIGN = "trained-with-xlt"
"""Tag by which a card that xlt has written is known. Other cards are never replaced."""

BARE = """\
This folder holds an encoder alone. The trained heads of its tasks are in `heads.safetensors`, which
transformers does not read: its pipelines for these tasks would start with a random head.
"""

EXPORT = """\
`xlt export` writes a folder that transformers loads with a trained head:

    xlt export --run {run} --head {head} --out {run}-{head}
"""

USE = """\
## How to use this folder

It loads as an encoder without a head: `AutoModel.from_pretrained("{out}")`. xlt reads its heads:

    xlt evaluate --runs '[{out}]' --tasks '[{task}]'{root} --out {out}-evaluation
    xlt fit --config ... --model.encoder {out} --model.keep_heads true

Without `--model.keep_heads true`, `xlt fit` starts with new heads.
"""


def write_card(run: RunFolder, out: Path, step: int, heads: Sequence[str]) -> None:
    """Write the card of an exported checkpoint. A card that xlt did not write stays.

    Args:
        run: The run's folder.
        out: Folder of the exported model.
        step: Step of the checkpoint.
        heads: Names of the exported heads.
    """
    path = out / CARD
    if not path.is_file() or SIGN in front_matter(path).get("tags", ()):
        write_atomically(path, card(run, out, step, heads))


def front_matter(path: Path) -> dict[str, Any]:
    """Return the metadata at the top of a card; empty if there is none."""
    parts = path.read_text(encoding="utf-8").split("---\n", 2) if path.is_file() else []
    found = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    return found if isinstance(found, dict) else {}


def card(run: RunFolder, out: Path, step: int, heads: Sequence[str]) -> str:
    """Return the text of the card.

    Args:
        run: The run's folder.
        out: Folder of the exported model.
        step: Step of the checkpoint.
        heads: Names of the exported heads.
    """
    config = run.read_config()
    tasks = [load(name) for name in config["data"]["tasks"]]
    record = json.loads(run.starts.read_text(encoding="utf-8")) if run.starts.is_file() else {}
    scores = scores_at(run, step, record.get("chance", {}))
    name = run.path.resolve().name
    encoder = config["model"]["encoder"]
    phase, trained_on = config["wandb"]["job_type"], ", ".join(task.name for task in tasks)
    parts = [
        f"---\n{_metadata(name, encoder, tasks, scores).to_yaml()}\n---\n",
        f"# {name}\n",
        BARE if heads else "",
        *(EXPORT.format(run=run.path, head=head) for head in _readable(tasks, heads)[:1]),
        f"{encoder} after {phase} training on {trained_on}. The checkpoint is that after step {step:,} of "
        f"{config['trainer']['max_steps']:,}; the seed is {config['seed_everything']}.\n",
        _score_table(scores, record),
        USE.format(out=out, task=tasks[0].name, root=_root_key(config["data"].get("root"))),
        f"Heads: {', '.join(heads) or 'none'}.\n",
        _images(out),
        training_section(record),
        data_section(tasks),
    ]
    return "\n".join(part for part in parts if part)


def _readable(tasks: Sequence[Task[Any]], heads: Sequence[str]) -> list[str]:
    """Return the heads that read text alone, which transformers may have a class for."""
    with_images = {task.head_key for task in tasks if task.imagery() is not None}
    return [head for head in heads if head not in with_images]


def _root_key(root: str | list[str] | None) -> str:
    """Return the data roots of a run as a key of xlt evaluate; empty if the run named none."""
    roots = [root] if isinstance(root, str) else root or []
    return f" --root '[{', '.join(roots)}]'" if roots else ""


def _metadata(
    name: str, encoder: str, tasks: Sequence[Task[Any]], scores: Mapping[Any, float]
) -> ModelCardData:
    """Return the metadata, without the entries that are not known."""
    hubs = {task.name: hubs_of(task) for task in tasks}
    # The hub knows no name for a task of several data sets.
    results = [
        EvalResult(
            task_type=_hyphenated(type(task).__name__),
            dataset_type=hub.repository,
            dataset_config=hub.config,
            dataset_name=task.name,
            dataset_split="validation",
            metric_type=metric,
            metric_value=round(value, 2),
        )
        for task in tasks
        for hub in (hubs[task.name] if len(hubs[task.name]) == 1 else ())
        for (name, metric), value in scores.items()
        if name == task.name
    ]
    return metadata(name, encoder, tasks, [task.language or ENGLISH for task in tasks], results)


def metadata(
    name: str,
    encoder: str,
    tasks: Sequence[Task[Any]],
    languages: Iterable[str],
    results: Sequence[EvalResult],
    library: str = "transformers",
    tags: Sequence[str] = (),
    pipeline_tag: str | None = None,
) -> ModelCardData:
    """Return the metadata of a model, without the entries that are not known.

    Args:
        name: Name of the model.
        encoder: Encoder that its run began with.
        tasks: Tasks that the model was trained on.
        languages: ISO 639-1 codes of the languages that the model was trained or tested in.
        results: Scores of the model.
        library: Library that loads the model. Defaults to transformers.
        tags: Further tags. Defaults to none.
        pipeline_tag: Name of the model's task on the hub. Defaults to none.
    """
    base = first_encoder(encoder)
    known = front_matter(Path(base) / CARD)
    hubs = [hub.repository for task in tasks for hub in hubs_of(task)]
    return ModelCardData(
        base_model=known.get("base_model") if Path(base).is_dir() else base,
        language=["multilingual", *sorted(set(languages))],
        license=LICENCES.get(base) or known.get("license"),
        library_name=library,
        pipeline_tag=pipeline_tag,
        datasets=list(dict.fromkeys(hubs)) or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["xlt", SIGN, "cross-lingual-transfer", *tags],
        model_name=name if results else None,
        eval_results=list(results) or None,
    )


def _hyphenated(name: str) -> str:
    """Return the name of a class in lower case, with hyphens between its words."""
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def hubs_of(task: Task[Any]) -> list[Hub]:
    """Return the data sets on the hub that a task's training rows come from."""
    sources = (load(task.trains_on) if task.trains_on else task).sources
    parts = [source.hub if isinstance(source, Multilingual) else source for source in sources]
    return [part for part in parts if isinstance(part, Hub)]


def scores_at(run: RunFolder, step: int, metrics: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the dev scores at a step, by task and metric; empty if the step was not validated."""
    found = [e for e in read_events(run.metrics) if e["step"] == step and e.get("val/score") is not None]
    return {
        (task, metric): event[f"val/{task}/{metric}"]
        for event in found[-1:]
        for task in metrics
        for metric in metrics[task]
        if event.get(f"val/{task}/{metric}") is not None
    }


def _score_table(scores: Mapping[tuple[str, str], float], record: Mapping[str, Any]) -> str:
    """Return the dev scores beside chance, as Markdown."""
    lines = []
    for (task, metric), value in scores.items():
        chance, rows = record["chance"][task][metric], record["rows"][task]
        lines.append(f"| {task} | {metric} | {value:.1f} | {chance:.1f} | {rows:,} |")
    if not lines:
        return ""
    head = [
        "## Dev scores, in percent\n",
        "| task | metric | score | chance | rows |",
        "|---|---|--:|--:|--:|",
    ]
    return "\n".join([*head, *lines, ""])


def _images(out: Path) -> str:
    """Return how the model reads images; empty for a model of text alone."""
    vision = load_vision_settings(str(out))
    if vision is None:
        return ""
    if vision.is_blind:
        return "Its tasks have images, but the model was trained without them (`data.blind`).\n"
    trained = ", which was trained with it" if vision.is_trained else ""
    return (
        f"Images are read by the vision encoder {vision.vision_encoder}{trained}, in "
        f"{counted(vision.image_tokens, 'token')} each. Their projection is in `vision.safetensors`, which "
        "transformers does not read.\n"
    )


def training_section(record: Mapping[str, Any]) -> str:
    """Return command, commit, device and versions of the training, as Markdown."""
    if not record.get("starts"):
        return ""
    last = record["starts"][-1]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    commit = f" at git commit {last['commit']}" if last["commit"] else ""
    command = shlex.join(last["command"])
    return f"## Training\n\n    {command}\n\nOn {last['device']}{commit}. Versions: {versions}.\n"


def data_section(tasks: Sequence[Task[Any]]) -> str:
    """Return licence and citation of each task, as Markdown."""
    lines = [f"- {task.name}: {task.licence or 'licence not known'}. {task.citation}" for task in tasks]
    return "\n".join(["## Training data\n", *lines, ""])

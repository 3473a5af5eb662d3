"""Model card of an exported head: metadata for the Hugging Face hub, use, and scores by language."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult

from xlt.data.languages import name_of
from xlt.data.multilingual import ENGLISH, Multilingual
from xlt.data.sources import Hub
from xlt.kinds.task import Task, group_of
from xlt.models.heads.head import Form
from xlt.system.files import write_atomically
from xlt.tasks import load
from xlt.training.model_card import (
    CARD,
    SIGN,
    data_section,
    front_matter,
    metadata,
    scores_at,
    training_section,
)
from xlt.training.run_folder import RunFolder
from xlt.training.snippets import note, snippet

TABLE = "results.csv"
"""Table of scores in the folder of an evaluation."""


class Figure(NamedTuple):
    """Score of a head on a data set in a language.

    Args:
        task: The task.
        language: ISO 639-1 code, or those of a pair of languages, such as en-de.
        split: The split.
        metric: Name of the metric.
        value: The metric in percent.
        chance: The metric of a model that knows nothing, in percent.
        rows: Number of scored examples.
    """

    task: Task[Any]
    language: str
    split: str
    metric: str
    value: float
    chance: float
    rows: int


def figures_of_run(run: RunFolder, tasks: Sequence[Task[Any]], step: int) -> list[Figure]:
    """Return the dev scores of a run's tasks at a step; none if the step was not validated."""
    record = json.loads(run.starts.read_text(encoding="utf-8")) if run.starts.is_file() else {}
    found = scores_at(run, step, record.get("chance", {}))
    groups = {task.group: task for task in tasks}
    return [
        Figure(
            groups[group_of(name)],
            name.partition("/")[2] or ENGLISH,
            "validation",
            metric,
            value,
            record["chance"][name][metric],
            record["rows"][name],
        )
        for (name, metric), value in found.items()
        if group_of(name) in groups
    ]


def figures_of_evaluation(scores: Path, run: RunFolder, task: Task[Any]) -> list[Figure]:
    """Return the scores of a head in the folder of an evaluation. Perturbed test sets are left out.

    Args:
        scores: Folder of the evaluation.
        run: The run that trained the head.
        task: A task with the head.

    Raises:
        FileNotFoundError: The folder has no table of scores.
        ValueError: The table has no scores of the head, or its scores are of another model.
    """
    path = scores / TABLE
    if not path.is_file():
        raise FileNotFoundError(
            f"scores is {scores}, which has no {TABLE}: set scores to the folder that xlt evaluate wrote"
        )
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["perturbation"]]
    own = {name: found for name in {row["task"] for row in rows} if (found := _same_head(name, task))}
    rows = [row for row in rows if row["task"] in own]
    if not rows:
        raise ValueError(
            f"{path} has no scores of the head {task.head_key}: evaluate {task.group} into {scores}"
        )
    others = {row["model"] for row in rows if not _is_of(run, Path(row["model"]))}
    if others:
        raise ValueError(
            f"{path} has scores of {', '.join(sorted(others))}, not of {run.path}: set scores to an "
            "evaluation of this run"
        )
    return [
        Figure(
            own[row["task"]],
            row["language"],
            row["split"],
            row["metric"],
            float(row["score"]),
            float(row["chance"]),
            int(row["rows"]),
        )
        for row in rows
    ]


def _same_head(name: str, task: Task[Any]) -> Task[Any] | None:
    """Return the task of a name if it has the same head; None if it has another, or is not known."""
    if name == task.group:
        return task
    with suppress(ValueError):
        found = load(name)
        return found if task.needs_training and found.head_key == task.head_key else None
    return None


def _is_of(run: RunFolder, model: Path) -> bool:
    """Return True if an evaluated model has the name of a run, of its model/, or of a checkpoint's export."""
    own = run.path.resolve().name
    is_export = model.parent.name == "exports" and model.name.partition("-")[2] == own
    return own in (model.name, model.parent.name if model.name == run.model.name else "") or is_export


def write_head_card(
    run: RunFolder,
    out: Path,
    task: Task[Any],
    form: Form,
    settings: Mapping[str, Any],
    figures: Sequence[Figure],
    step: int,
    model: str,
) -> None:
    """Write the card of an exported head. A card that xlt did not write stays.

    Args:
        run: The run's folder.
        out: Folder of the exported head.
        task: A task with the head.
        form: Form of the head.
        settings: Settings of the task, see `exported_settings`, with `question_limit`, `stride` and `layer`.
        figures: Scores of the head.
        step: Step of the checkpoint.
        model: Folder of the model, or its name on the hub.
    """
    path = out / CARD
    if path.is_file() and SIGN not in front_matter(path).get("tags", ()):
        return
    config = run.read_config()
    trained = [load(name) for name in config["data"]["tasks"]]
    record = json.loads(run.starts.read_text(encoding="utf-8")) if run.starts.is_file() else {}
    name = f"{run.path.resolve().name}-{task.head_key}"
    languages = [*(task.language or ENGLISH for task in trained), *(figure.language for figure in figures)]
    lora = config["model"].get("language_lora")
    encoder, is_sentence = config["model"]["encoder"], form == "sentence-similarity"
    data = metadata(
        name,
        encoder,
        trained,
        [code for code in languages for code in code.split("-")],
        [_eval_result(figure, form) for figure in figures],
        "sentence-transformers" if is_sentence else "transformers",
        ["sentence-transformers", "feature-extraction"] if is_sentence else [],
        form,
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {name}\n",
        f"{encoder} after training on {', '.join(task.name for task in trained)} with xlt, and its "
        f"{'sentence vectors' if is_sentence else f'head for {task.head_key}'}. The checkpoint is that after "
        f"step {step:,} of {config['trainer']['max_steps']:,}; the seed is {config['seed_everything']}.\n",
        f"The encoder includes the language LoRA {lora}.\n" if lora else "",
        f"## Use\n\n```python\n{snippet(form, model, settings)}```\n",
        f"{note(form, settings)}\n" if note(form, settings) else "",
        _classes(task),
        _score_table(figures),
        training_section(record),
        data_section(trained),
    ]
    write_atomically(path, "\n".join(part for part in parts if part))


def _eval_result(figure: Figure, form: Form) -> EvalResult:
    """Return a score in the hub's format."""
    hub, names = _hub_of(figure.task)
    language = names.get(figure.language, figure.language)
    return EvalResult(
        task_type=form,
        dataset_type=hub.repository if hub else figure.task.group,
        dataset_config=hub.config.format(language=language) if hub else None,
        dataset_name=figure.task.group,
        dataset_split=figure.split,
        metric_type=figure.metric,
        metric_value=round(figure.value, 2),
        metric_name=f"{figure.metric}, {_name_of(figure.language)}",
        metric_args={"language": figure.language},
    )


def _name_of(language: str) -> str:
    """Return the name of a language, or the names of a pair of languages, such as en-de."""
    return " and ".join(map(name_of, language.split("-")))


def _hub_of(task: Task[Any]) -> tuple[Hub | None, Mapping[str, str]]:
    """Return the data set of a task on the hub and its names of languages; None if it has none or several."""
    if len(task.sources) != 1:
        return None, {}
    (source,) = task.sources
    if isinstance(source, Multilingual):
        return source.hub, source.names
    return (source if isinstance(source, Hub) else None), {}


def _classes(task: Task[Any]) -> str:
    """Return the names of the classes; empty for a task without classes."""
    return f"Classes: {', '.join(task.labels)}.\n" if task.labels else ""


def _score_table(figures: Sequence[Figure]) -> str:
    """Return the scores by language beside chance, as Markdown."""
    if not figures:
        return ""
    lines = [
        f"| {f.task.group} | {_name_of(f.language)} | {f.split} | {f.metric} | {f.value:.1f} "
        f"| {f.chance:.1f} | {f.rows:,} |"
        for f in figures
    ]
    head = [
        "## Scores, in percent\n",
        "| task | language | split | metric | score | chance | rows |",
        "|---|---|---|---|--:|--:|--:|",
    ]
    return "\n".join([*head, *lines, ""])

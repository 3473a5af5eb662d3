"""Text of report.html, the page about an evaluation: one file without scripts."""

import base64
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from xlt.data.multilingual import ENGLISH
from xlt.evaluation.error_page import language_name, task_sections
from xlt.evaluation.example_tables import path_of
from xlt.evaluation.plan import Cell, Missing, brief, in_words
from xlt.evaluation.report import MARK, Report
from xlt.evaluation.scores import CellScore
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.splits import Splits
from xlt.training.html import environment, table_of
from xlt.training.provenance import now, start_facts
from xlt.training.results import versions
from xlt.training.run_folder import RunFolder

PAGES = Path(__file__).parent / "pages"


def render(
    out: Path,
    report: Report,
    cells: Sequence[Cell],
    missing: Sequence[Missing],
    settings: Mapping[str, Any],
    splits: Splits,
    device: torch.device,
) -> str:
    """Return the page.

    Args:
        out: The evaluation's folder, which has the heat map.
        report: The report.
        cells: The cells of the evaluation.
        missing: The missing cells.
        settings: Values of the keys by name.
        splits: Opens the rows.
        device: Device of the models.
    """
    tables: dict[str, dict[str, Path]] = {}
    for cell in sorted(cells, key=lambda cell: cell.language != ENGLISH):
        path = path_of(out, cell)
        if not cell.perturbation and path.is_file():
            tables.setdefault(cell.task.group, {})[cell.language] = path
    tasks = {name: tables[name] for name in report.by_task if name in tables}
    return (
        environment(PAGES)
        .get_template("evaluation.html")
        .render(
            name=out.resolve().name,
            headline=_headline(report),
            models=_models(dict.fromkeys(cell.model for cell in cells)),
            scores=_scores(report.scores),
            mark=MARK,
            averages=report.averages(),
            collapsed=[f"{task} {code}" for task, codes in report.collapsed.items() for code in codes],
            perturbed=report.perturbed_table() if report.perturbed() else "",
            missing=brief(missing, "the list below the scores"),
            reasons=in_words(missing),
            picture=base64.b64encode((out / "heat_map.png").read_bytes()).decode(),
            tasks=list(task_sections(tasks)),
            without=[name for name in report.by_task if name not in tables],
            facts=list(_facts(settings, device)),
            data=_data(cells, splits),
            written=now(),
        )
    )


def _headline(report: Report) -> str:
    """Return the title of the page."""
    tasks, languages = len(report.by_task), len(report.languages)
    counts = (f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in ((tasks, "task"), (languages, "language")))
    return f"Zero-shot scores of {' in '.join(counts)}"


def _scores(scores: Sequence[CellScore]) -> dict[str, Any]:
    """Return the table of scores of rows as they are."""
    rows = []
    for cell in scores:
        if not cell.perturbation:
            metrics = ", ".join(f"{name.replace('_', ' ')} {v:.1f}" for name, v in cell.metrics.items())
            chance = sum(cell.chance.values()) / max(1, len(cell.chance))
            mark = MARK if cell.is_collapsed else ""
            numbers = f"{cell.mean:.1f}{mark}", f"{chance:.1f}", f"{cell.rows:,}"
            rows.append([cell.task, language_name(cell.language), *numbers, metrics, cell.split, cell.model])
    return table_of(["Task", "Language", "Score", "Chance", "Examples", "Metrics", "Split", "Model"], rows)


def _models(names: Sequence[str] | Mapping[str, None]) -> dict[str, Any]:
    """Return the table of the models, with the encoder, tasks, seed and steps of each run."""
    rows = []
    for name in names:
        folder = RunFolder(Path(name))
        if folder.config.is_file():
            config = folder.read_config()
            tasks, steps = ", ".join(config["data"]["tasks"]), f"{config['trainer']['max_steps']:,}"
            encoder, seed = config["model"]["encoder"], str(config["seed_everything"])
            rows.append([name, encoder, tasks, seed, steps, str(config["data"].get("volume") or "all")])
        else:
            rows.append([name, name, "–", "–", "–", "–"])
    return table_of(["Model", "Encoder", "Trained on", "Seed", "Steps", "Training examples"], rows)


def _facts(settings: Mapping[str, Any], device: torch.device) -> Iterator[tuple[str, str]]:
    """Yield terms and values of the section about the evaluation."""
    start = start_facts(device, 1)
    yield "Command", shlex.join(start["command"])
    yield "Folder of the command", start["folder"]
    yield "Git commit of that folder", start["commit"] or "not a git checkout"
    if start["xlt_commit"] != start["commit"]:
        yield "Git commit of xlt", start["xlt_commit"] or "an installed package"
    for name, value in settings.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {part}" for key, part in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        yield name.replace("_", " ").capitalize(), "–" if value is None else str(value)
    yield "Device", start["device"]
    yield "Host", start["host"] + (f", SLURM job {start['slurm_job']}" if start["slurm_job"] else "")
    yield "Versions", ", ".join(f"{name} {number}" for name, number in versions().items())


def _data(cells: Sequence[Cell], splits: Splits) -> dict[str, Any]:
    """Return the table of the files of the rows, with counts if the cache holds the rows."""
    rows = []
    for cell in cells:
        counts = ["–"] * 3
        if splits.is_encoded(cell.task, cell.split, cell.raw_splits):
            meta = EncodedSplit(splits.folder(cell.task, cell.split, cell.raw_splits)).meta
            counts = [f"{number:,}" for number in (meta.examples, meta.dropped, meta.truncated)]
        places = ", ".join(raw.location for raw in cell.raw_splits)
        prints = ", ".join(raw.revision or raw.fingerprint[:16] for raw in cell.raw_splits)
        rows.append([cell.name, cell.split, *counts, prints, places])
    return table_of(["Cell", "Split", "Labelled", "Unlabelled", "Truncated", "Fingerprint", "File"], rows)

"""Collection of a study's results: the table of scores, the table of runs, and everything that is missing."""

import json
import math
import os
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import pandas as pd
import yaml

from xlt.kinds.task import group_of, name_of
from xlt.metrics.collapse import verdict_of
from xlt.studies.analysis.results import COLUMNS, KEY, RUN_COLUMNS, StudyResults
from xlt.studies.design.configs import counted_tasks
from xlt.studies.design.images import BLIND
from xlt.studies.design.node_files import is_finished, log_path
from xlt.studies.design.nodes import NONE, Node
from xlt.studies.design.plan import Study
from xlt.studies.design.targets import targets_with_images, targets_without_english
from xlt.system.wandb_mode import read_page_url
from xlt.training.results import versions


class Missing(NamedTuple):
    """A node without results, or a cell that evaluations could not test."""

    what: str
    reason: str
    log: str


def scores_of(study: Study) -> pd.DataFrame:
    """Return one line for each score of a finished evaluation, in percent.

    Scores that all replicates share, such as those of retrieval with the plain encoder, appear once for each
    seed.
    """
    uses = [node for node in _shown(study) if node.checkpoint is None]
    lines = [line for node in uses for line in _lines(study, node)]
    table = pd.DataFrame(lines, columns=pd.Index(COLUMNS))
    return table.sort_values(KEY, kind="stable", ignore_index=True)


def checkpoints_of(study: Study) -> pd.DataFrame:
    """Return one line for each score of a checkpoint that the selection gap uses, on either split."""
    uses = [node for node in _shown(study) if node.checkpoint is not None]
    lines = [[*line, node.checkpoint] for node in uses for line in _lines(study, node)]
    table = pd.DataFrame(lines, columns=pd.Index([*COLUMNS, "checkpoint"]))
    return table.sort_values([*KEY, "checkpoint", "split"], kind="stable", ignore_index=True)


def _is_whole(study: Study, name: str) -> bool:
    """Return True if a node is finished and has, with the nodes before it, the files of the report."""
    return is_finished(study.folder, name) and not _lost(study, name)


def _lost(study: Study, name: str) -> str:
    """Return a file of the report that a node or a node before it lacks; empty if there is none."""
    node = study.nodes[name]
    file = study.folder / name / ("summary.json" if node.phase == "evaluate" else "sources.json")
    needs = node.phase != "target" and not file.is_file()
    return str(file) if needs else next(filter(None, (_lost(study, one) for one in node.parents)), "")


def _shown(study: Study) -> list[Node]:
    """Return the evaluations, without those of volumes that repeat a smaller volume."""
    surplus = surplus_of(study)
    evaluations = [node for node in study.node_uses if node.phase == "evaluate"]
    return [node for node in evaluations if (node.arm, node.volume) not in surplus]


def _lines(study: Study, node: Node) -> list[list[Any]]:
    """Return the scores of an evaluation; none if it is not finished."""
    if not _is_whole(study, node.name):
        return []
    volume = 0 if node.arm == NONE else volume_of(study, node)
    found = []
    for path in sorted((study.folder / node.name / "scores").glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        mean = sum(cell["metrics"].values()) / len(cell["metrics"])
        example_scores = Path(node.name, "example_scores", f"{path.stem}.npy")
        saved_path = str(example_scores) if (study.folder / example_scores).is_file() else ""
        key = [node.arm, volume, node.seed, node.target_seed, cell["task"], cell["language"]]
        perturbation = BLIND if node.is_blind else cell.get("perturbation", "")
        rest = [perturbation, mean, cell["rows"], cell["split"], saved_path, node.name]
        found.append([*key, *rest, verdict_of(cell.get("details", {}))])
    return found


def consistency_of(study: Study) -> pd.DataFrame:
    """Return the percentage of the examples that are answered as in English, for each cell that has one."""
    lines = []
    for node in _shown(study):
        if node.checkpoint is not None or node.is_blind or not _is_whole(study, node.name):
            continue
        summary = json.loads((study.folder / node.name / "summary.json").read_text(encoding="utf-8"))
        run = [node.arm, 0 if node.arm == NONE else volume_of(study, node), node.seed, node.target_seed]
        for task, found in summary.get("consistency", {}).items():
            lines += [[*run, task, code, cell["percent"]] for code, cell in found["languages"].items()]
    return pd.DataFrame(lines, columns=pd.Index([*KEY[:-1], "percent"]))


def volume_of(study: Study, node: Node) -> int:
    """Return the number of labelled examples in the run of phase 2 behind a node, over all tasks.

    A task in several languages counts the language with most examples.
    """
    name = node.name
    while study.nodes[name].phase != "intermediate":
        name = study.nodes[name].parents[0]
    data = study.nodes[name].settings["data"]
    requested = data["volume"] or {}
    sources = json.loads((study.folder / name / "sources.json").read_text(encoding="utf-8"))
    counts = dict.fromkeys(counted_tasks(data["tasks"]), 0)
    for task, splits in sources.items():
        group, count = group_of(task), splits["train"]["examples"]
        if group in counts:
            counts[group] = max(counts[group], min(count, requested.get(group, count)))
    return sum(counts.values())


class SurplusVolume(NamedTuple):
    """A volume above the number of existing examples, where a smaller volume already used them all."""

    num_examples: int
    smaller: int | None
    """The smaller volume; None for all examples."""


def surplus_of(study: Study) -> dict[tuple[str, int | None], SurplusVolume]:
    """Return the volumes of each arm that exceed its examples, except the smallest of them."""
    found: dict[tuple[str, int | None], SurplusVolume] = {}
    first: dict[tuple[str, int], int | None] = {}
    runs = [n for n in study.nodes.values() if n.phase == "intermediate" and _is_whole(study, n.name)]
    for run in sorted(runs, key=lambda run: math.inf if run.volume is None else run.volume):
        num_examples = volume_of(study, run)
        smaller = first.setdefault((run.arm, num_examples), run.volume)
        if smaller != run.volume:
            found[run.arm, run.volume] = SurplusVolume(num_examples, smaller)
    return found


def missing_of(study: Study) -> list[Missing]:
    """Return nodes without results (failed, not started, or waiting) and cells without rows."""
    found = []
    for name, node in study.nodes.items():
        if not _is_whole(study, name):
            log = log_path(study.folder, name, "txt")
            found.append(Missing(name, _reason(study, node, log), str(log) if log.is_file() else ""))
    for (arm, volume), (num_examples, smaller) in surplus_of(study).items():
        what = f"{arm} with {_in_words(volume)}"
        used = f"the runs with {_in_words(smaller)} used them all and are shown"
        reason = f"only {num_examples:,} examples exist; {used}"
        found.append(Missing(what, reason, ""))
    return found + _cells(study)


def _in_words(volume: int | None) -> str:
    """Return a requested volume in words."""
    return "all examples" if volume is None else f"{volume:,} examples"


def _cells(study: Study) -> list[Missing]:
    """Return the cells that finished evaluations could not test, each once with the number of evaluations."""
    found: Counter[tuple[str, str]] = Counter()
    for name, node in study.nodes.items():
        if node.phase == "evaluate" and _is_whole(study, name):
            summary = json.loads((study.folder / name / "summary.json").read_text(encoding="utf-8"))
            for cell in summary["missing"]:
                names = (cell["task"], cell["language"], cell.get("perturbation", ""))
                found[" ".join(filter(None, names)), cell["reason"]] += 1
    return [Missing(f"{what} ({count} evaluations)", reason, "") for (what, reason), count in found.items()]


def _reason(study: Study, node: Node, log: Path) -> str:
    """Return the reason why a node has no results."""
    if is_finished(study.folder, node.name):
        lost = _lost(study, node.name)
        return f"{lost} is missing: delete the folder {Path(lost).parent}, and run the study again"
    if not log.is_file():
        unfinished = [parent for parent in node.parents if not is_finished(study.folder, parent)]
        return f"waits for {unfinished[0]}" if unfinished else "not started"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ") or "Error: " in line]
    return errors[-1] if errors else "started and did not finish; its log names no error"


def runs_of(study: Study) -> pd.DataFrame:
    """Return one line for each finished node: its arm, tokens, hours, W&B page, dev score and config."""
    lines = []
    for name, node in study.nodes.items():
        if not _is_whole(study, name):
            continue
        key = {"phase": node.phase, "name": name, "folder": name, "intermediate": node.arm}
        volume = 0 if node.arm == NONE else volume_of(study, node)
        rest = {"volume": volume, "seed": node.seed, "target": ", ".join(map(name_of, node.targets))}
        config = yaml.safe_dump(dict(node.settings), sort_keys=False, allow_unicode=True)
        own = {
            "tokens": tokens_of(study, node),
            "hours": hours_of(study, name),
            "wandb": read_page_url(study.folder / name),
            "config": config,
        }
        own |= dev_scores_of(study, node) | {"precision": precision_of(study, node)}
        lines.append(key | rest | own)
    return pd.DataFrame(lines, columns=pd.Index(RUN_COLUMNS))


def tokens_of(study: Study, node: Node) -> int:
    """Return the number of tokens that a finished node trained on; 0 for an evaluation."""
    return 0 if node.phase == "evaluate" else _training_results(study, node)["run"]["tokens"]


def dev_scores_of(study: Study, node: Node) -> dict[str, float | None]:
    """Return a finished node's score on its own dev rows and that of chance, as means over its tasks."""
    results = {} if node.phase == "evaluate" else _training_results(study, node)
    chances = [found["chance"] for name, found in results.items() if name != "run" and "chance" in found]
    if not chances:
        return {"dev_score": None, "dev_chance": None}
    return {"dev_score": results["run"]["score"], "dev_chance": mean(chances)}


def precision_of(study: Study, node: Node) -> str:
    """Return the precision of a finished evaluation's scores; empty if it is unknown, or for training."""
    path = next((study.folder / node.name / "scores").glob("*.json"), None)
    return json.loads(path.read_text(encoding="utf-8")).get("precision", "") if path else ""


def _training_results(study: Study, node: Node) -> dict[str, Any]:
    """Return the content of a training node's results.json."""
    return json.loads((study.folder / node.name / "results.json").read_text(encoding="utf-8"))


def hours_of(study: Study, name: str) -> float | None:
    """Return the hours of all starts of a node together; None if the engine did not run it."""
    path = log_path(study.folder, name, "json")
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] / 3600 if path.is_file() else None


def results_of(study: Study, command: str, words: str) -> StudyResults:
    """Return all results that a study's report shows.

    Args:
        study: The study.
        command: Command that runs the study.
        words: Sentences on what the study can and cannot show.
    """
    device = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    about: Mapping[str, Any] = {
        "encoder": study.encoder,
        "date": date.today().isoformat(),
        "command": command,
        "device": device,
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "words": words,
    }
    tables = scores_of(study), checkpoints_of(study), missing_of(study), runs_of(study)
    traits = targets_without_english(study.targets), targets_with_images(study.targets)
    return StudyResults(
        study.name, *tables, about, study.folder, *traits, consistency_of(study), study.margin
    )

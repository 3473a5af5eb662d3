"""A study's scores as one table, its runs as another, and what is missing and why."""

import json
import math
import os
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from xlt.kinds.task import group_of, name_of
from xlt.studies.analysis.results import COLUMNS, KEY, RUN_COLUMNS, StudyResults
from xlt.studies.design.configs import counted
from xlt.studies.design.node_files import is_finished, logs_of
from xlt.studies.design.plan import Node, Study
from xlt.studies.design.targets import NONE
from xlt.system.wandb_mode import read_page_url
from xlt.training.results import versions


class Missing(NamedTuple):
    """A node without results, or a cell that evaluations could not test."""

    what: str
    reason: str
    log: str


def scores_of(study: Study) -> pd.DataFrame:
    """A line a score of a finished evaluation, in percent.

    Scores that all replicates share, such as those of retrieval with the encoder as it is, stand once a seed.
    """
    uses = [use for use in _shown(study) if use.checkpoint is None]
    lines = [line for use in uses for line in _lines(study, use)]
    table = pd.DataFrame(lines, columns=pd.Index(COLUMNS))
    return table.sort_values(KEY, kind="stable", ignore_index=True)


def checkpoints_of(study: Study) -> pd.DataFrame:
    """A line a score of a checkpoint that the selection gap is measured over, on either split."""
    uses = [use for use in _shown(study) if use.checkpoint is not None]
    lines = [[*line, use.checkpoint] for use in uses for line in _lines(study, use)]
    table = pd.DataFrame(lines, columns=pd.Index([*COLUMNS, "checkpoint"]))
    return table.sort_values([*KEY, "checkpoint", "split"], kind="stable", ignore_index=True)


def _shown(study: Study) -> list[Node]:
    """The evaluations, without those of volumes that are the same as a smaller one."""
    surplus = surplus_of(study)
    return [use for use in study.uses if use.phase == "evaluate" and (use.arm, use.volume) not in surplus]


def _lines(study: Study, use: Node) -> list[list[Any]]:
    """The scores of an evaluation; none where it is not finished."""
    if not is_finished(study.folder, use.name):
        return []
    volume = 0 if use.arm == NONE else volume_of(study, use)
    found = []
    for path in sorted((study.folder / use.name / "scores").glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        mean = sum(cell["metrics"].values()) / len(cell["metrics"])
        example_scores = Path(use.name, "example_scores", f"{path.stem}.npy")
        kept = str(example_scores) if (study.folder / example_scores).is_file() else ""
        key = [use.arm, volume, use.seed, use.target_seed, cell["task"], cell["language"]]
        rest = [cell.get("perturbation", ""), mean, cell["rows"], cell["split"], kept, use.name]
        found.append([*key, *rest])
    return found


def volume_of(study: Study, use: Node) -> int:
    """Labelled examples that the run of phase 2 behind a node had to train on, those of all of its tasks.

    Of a task in several languages, those in the language that has most.
    """
    name = use.name
    while study.nodes[name].phase != "intermediate":
        name = study.nodes[name].parents[0]
    data = study.nodes[name].settings["data"]
    asked = data["volume"] or {}
    sources = json.loads((study.folder / name / "sources.json").read_text(encoding="utf-8"))
    most = dict.fromkeys(counted(data["tasks"]), 0)
    for task, splits in sources.items():
        group, count = group_of(task), splits["train"]["examples"]
        if group in most:
            most[group] = max(most[group], min(count, asked.get(group, count)))
    return sum(most.values())


class Surplus(NamedTuple):
    """A volume above the examples that there are, where a smaller one has taken them all."""

    there: int
    taken: int | None
    """The smaller volume; None for all there are."""


def surplus_of(study: Study) -> dict[tuple[str, int | None], Surplus]:
    """The volumes of each arm that ask for more than there is, but for the first that does."""
    found: dict[tuple[str, int | None], Surplus] = {}
    first: dict[tuple[str, int], int | None] = {}
    runs = [
        n for n in study.nodes.values() if n.phase == "intermediate" and is_finished(study.folder, n.name)
    ]
    for run in sorted(runs, key=lambda run: math.inf if run.volume is None else run.volume):
        there = volume_of(study, run)
        taken = first.setdefault((run.arm, there), run.volume)
        if taken != run.volume:
            found[run.arm, run.volume] = Surplus(there, taken)
    return found


def missing_of(study: Study) -> list[Missing]:
    """The nodes without results: failed, not begun, or waiting for one that failed; cells without rows."""
    found = []
    for name, node in study.nodes.items():
        if not is_finished(study.folder, name):
            log = logs_of(study.folder, name, "txt")
            found.append(Missing(name, _reason(study, node, log), str(log) if log.is_file() else ""))
    for (arm, volume), (there, taken) in surplus_of(study).items():
        what = f"{arm} with {_in_words(volume)}"
        reason = f"there are {there:,}, which its runs with {_in_words(taken)} had too; those are shown"
        found.append(Missing(what, reason, ""))
    return found + _cells(study)


def _in_words(volume: int | None) -> str:
    """A volume that was asked for."""
    return "all examples" if volume is None else f"{volume:,} examples"


def _cells(study: Study) -> list[Missing]:
    """What finished evaluations could not test, once for all of them, with their number."""
    found: Counter[tuple[str, str]] = Counter()
    for name, node in study.nodes.items():
        if node.phase == "evaluate" and is_finished(study.folder, name):
            summary = json.loads((study.folder / name / "summary.json").read_text(encoding="utf-8"))
            for cell in summary["missing"]:
                names = (cell["task"], cell["language"], cell.get("perturbation", ""))
                found[" ".join(filter(None, names)), cell["reason"]] += 1
    return [Missing(f"{what} ({count} evaluations)", reason, "") for (what, reason), count in found.items()]


def _reason(study: Study, node: Node, log: Path) -> str:
    """Why a node has no results."""
    if not log.is_file():
        waits = [parent for parent in node.parents if not is_finished(study.folder, parent)]
        return f"waits for {waits[0]}" if waits else "not begun"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ") or "Error: " in line]
    return errors[-1] if errors else "began, and did not end"


def runs_of(study: Study) -> pd.DataFrame:
    """A line a finished node: what it is, its tokens and hours, its page on the dashboard, its config."""
    lines = []
    for name, node in study.nodes.items():
        if not is_finished(study.folder, name):
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
        lines.append(key | rest | own)
    return pd.DataFrame(lines, columns=pd.Index(RUN_COLUMNS))


def tokens_of(study: Study, node: Node) -> int:
    """Tokens that a finished node trained on; 0 for an evaluation."""
    if node.phase == "evaluate":
        return 0
    return json.loads((study.folder / node.name / "results.json").read_text(encoding="utf-8"))["run"][
        "tokens"
    ]


def hours_of(study: Study, name: str) -> float | None:
    """Hours that a node has taken, all its starts together; None where it was not run by the engine."""
    path = logs_of(study.folder, name, "json")
    return json.loads(path.read_text(encoding="utf-8"))["seconds"] / 3600 if path.is_file() else None


def results_of(study: Study, command: str, words: str) -> StudyResults:
    """All that a study's report shows.

    Args:
        study: The study.
        command: The command that runs it.
        words: Sentences on what it can and cannot say.
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
    return StudyResults(study.name, *tables, about, study.folder)

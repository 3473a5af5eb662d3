"""The list of a study's runs, kept short: settings that a group of runs shares are listed once."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import yaml

from xlt.studies.analysis import names
from xlt.studies.design.nodes import NONE
from xlt.system.yaml_files import load_yaml
from xlt.training.run_folder import flatten

Pairs = list[tuple[str, str]]
"""Dotted keys of a config with their values."""

PHASES = {"intermediate": "Intermediate training", "target": "Fine-tuning", "evaluate": "Evaluation"}
"""Display names of the phases."""


@dataclass
class Run:
    """A run as the page shows it.

    Args:
        label: Arm, volume and seed in words.
        figures: Tokens, hours and dev score in words.
        folder: Name of the run's folder.
        url: The run's page at W&B, or empty.
        config: Settings that differ from other runs of the group.
    """

    label: str
    figures: str
    folder: str
    url: str
    config: Pairs


@dataclass
class Group:
    """Runs of one phase and task.

    Args:
        title: Title of the group.
        shared: Settings that all of its runs share.
        runs: The runs.
    """

    title: str
    shared: Pairs
    runs: list[Run] = field(default_factory=list)


def groups_of(runs: pd.DataFrame) -> list[Group]:
    """Group the runs by phase and by the task that they train or test, in the order of the table.

    Args:
        runs: One line for each run.
    """
    found: dict[tuple[str, str], list[Any]] = {}
    lines: Iterable[Any] = runs.itertuples(index=False)
    for run in lines:
        subject = run.intermediate if run.phase == "intermediate" else run.target
        found.setdefault((str(run.phase), str(subject)), []).append(run)
    return [_group(*key, own) for key, own in found.items()]


def _group(phase: str, subject: str, runs: list[Any]) -> Group:
    """Return a group of runs with the settings that they share."""
    configs = [_flat_config(run.config, run.folder) for run in runs]
    shared = dict(set.intersection(*(set(config.items()) for config in configs)))
    tasks = ", ".join(names.task_name(name) for name in subject.split(", ") if name)
    title = f"{PHASES.get(phase, phase)}: {tasks}" if tasks else PHASES.get(phase, phase)
    group = Group(title, [pair for pair in configs[0].items() if pair[0] in shared])
    for run, config in zip(runs, configs, strict=True):
        own = [pair for pair in config.items() if pair[0] not in shared]
        group.runs.append(
            Run(_describe(run), _figures(run), str(run.folder), web_address(str(run.wandb)), own)
        )
    return group


def _flat_config(text: str, folder: str) -> dict[str, str]:
    """Return the values of a config by dotted key, without keys that name the run's own folder."""
    try:
        config = load_yaml(text, folder)
    except (yaml.YAMLError, ValueError):
        return {"config": text}
    if not isinstance(config, dict):
        return {"config": text} if text.strip() else {}
    flat = {key: _value(value) for key, value in flatten(config).items()}
    return {key: value for key, value in flat.items() if not folder or not value.endswith(folder)}


def _value(value: Any) -> str:
    """Return a value as YAML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    is_word = value is None or isinstance(value, bool)
    return json.dumps(value) if is_word else str(value)  # JSON writes these words as YAML does


def _describe(run: Any) -> str:
    """Return a run's arm, volume and seed in words."""
    arm = names.task_name(str(run.intermediate))
    if run.intermediate != NONE:
        arm += f", {int(run.volume):,} examples"
    return f"{arm}, seed {run.seed}"


def _figures(run: Any) -> str:
    """Return the known tokens, hours and dev score in words."""
    parts = []
    if pd.notna(run.tokens) and run.tokens:
        parts.append(f"{run.tokens / 1e6:,.1f} M tokens")
    if pd.notna(run.hours):
        parts.append(f"{run.hours:.2f} h")
    if pd.notna(run.dev_score):
        parts.append(f"dev score {run.dev_score:.1f} (chance {run.dev_chance:.1f})")
    if run.precision:
        parts.append(f"scores in {run.precision}")
    return ", ".join(parts)


def web_address(url: str) -> str:
    """Return the address if it is an http or https address, else an empty text (for example for a script)."""
    return url if urlsplit(url).scheme in ("http", "https") else ""

"""The runs of a study as a list that stays small: what the configs of like runs share is shown once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import yaml

from xlt.studies.analysis import names
from xlt.studies.design.targets import NONE
from xlt.system.yaml_files import load_yaml

Pairs = list[tuple[str, str]]
"""Dotted keys of a config with their values."""

PHASES = {"intermediate": "Intermediate training", "target": "Fine-tuning", "evaluate": "Evaluation"}


@dataclass
class Run:
    """A run as the page shows it.

    Args:
        label: What it is.
        cost: Its tokens and hours.
        folder: Its folder's name.
        url: Its page at W&B, or empty.
        config: What its config has of its own.
    """

    label: str
    cost: str
    folder: str
    url: str
    config: Pairs


@dataclass
class Group:
    """Runs of one phase and task.

    Args:
        title: What they are.
        shared: What all of their configs have.
        runs: The runs.
    """

    title: str
    shared: Pairs
    runs: list[Run] = field(default_factory=list)


def groups_of(runs: pd.DataFrame) -> list[Group]:
    """The runs by phase and by what they train on, in the order of the table.

    Args:
        runs: A line a run.
    """
    found: dict[tuple[str, str], list[Any]] = {}
    lines: Iterable[Any] = runs.itertuples(index=False)
    for run in lines:
        subject = run.intermediate if run.phase == "intermediate" else run.target
        found.setdefault((str(run.phase), str(subject)), []).append(run)
    return [_group(*key, own) for key, own in found.items()]


def _group(phase: str, subject: str, runs: list[Any]) -> Group:
    """Runs with what their configs share."""
    configs = [_flat_config(run.config, run.folder) for run in runs]
    shared = dict(set.intersection(*(set(config.items()) for config in configs)))
    called = ", ".join(names.task_name(name) for name in subject.split(", ") if name)
    title = f"{PHASES.get(phase, phase)}: {called}" if called else PHASES.get(phase, phase)
    group = Group(title, [pair for pair in configs[0].items() if pair[0] in shared])
    for run, config in zip(runs, configs, strict=True):
        own = [pair for pair in config.items() if pair[0] not in shared]
        group.runs.append(Run(_label(run), _cost(run), str(run.folder), web(str(run.wandb)), own))
    return group


def _flat_config(text: str, folder: str) -> dict[str, str]:
    """Dotted key to value, without the keys that name the run's own folder."""
    try:
        config = load_yaml(text, folder)
    except (yaml.YAMLError, ValueError):
        return {"config": text}
    if not isinstance(config, dict):
        return {"config": text} if text.strip() else {}
    return {key: value for key, value in _flat(config, "") if not folder or not value.endswith(folder)}


def _flat(config: dict[str, Any], prefix: str) -> Pairs:
    """Dotted keys of a nested config."""
    pairs: Pairs = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, dict) and value else [(name, _value(value))]
    return pairs


def _value(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if _is_plain(value)
        else str(value)
    )


def _is_plain(value: Any) -> bool:
    """Whether a value is nothing or a truth value, which 0 and 1 equal."""
    return value is None or isinstance(value, bool)


def _label(run: Any) -> str:
    """What a run is, in a line."""
    arm = names.task_name(str(run.intermediate))
    if run.intermediate != NONE:
        arm += f", {int(run.volume):,} examples"
    return f"{arm}, seed {run.seed}"


def _cost(run: Any) -> str:
    """Tokens and hours, as far as they are known."""
    parts = []
    if pd.notna(run.tokens) and run.tokens:
        parts.append(f"{run.tokens / 1e6:,.1f} M tokens")
    if pd.notna(run.hours):
        parts.append(f"{run.hours:.2f} h")
    return ", ".join(parts)


def web(url: str) -> str:
    """The address where it is one of the web; empty where it is anything else, such as a script."""
    return url if urlsplit(url).scheme in ("http", "https") else ""

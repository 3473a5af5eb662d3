"""An old key of a config is an unknown key, and the error suggests the new name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, StudyKeys, run

from xlt.config.key_names import RENAMED_KEYS
from xlt.evaluate import evaluate
from xlt.fit import fit
from xlt.prepare import prepare
from xlt.study import study

FIT_KEYS = {
    "data.tokens_per_batch": "data.tokens_per_micro_batch",
    "data.batches_per_step": "data.micro_batches_per_step",
    "checkpoints.keep": "checkpoints.keep_last",
    "checkpoints.keep_period": "checkpoints.keep_every_n_steps",
    "preemption.look_every_n_steps": "preemption.check_every_n_steps",
    "preemption.time_limit": "preemption.grace_seconds",
}

EVALUATE_KEYS = {"tokens_per_batch": "tokens_per_micro_batch", "mixes": "num_mixes"}

STUDY_KEYS = {"target_seeds": "num_target_seeds"}

COMMANDS = [
    (command, old, new)
    for command, keys in (
        (fit, FIT_KEYS),
        (prepare, FIT_KEYS),
        (evaluate, EVALUATE_KEYS),
        (study, STUDY_KEYS),
    )
    for old, new in keys.items()
]

GIVEN = {
    fit: {"data": {"tasks": ["mnli"]}, "model": {"encoder": f"{REPOSITORY}/encoders/mini"}},
    prepare: {"data": {"tasks": ["mnli"]}, "model": {"encoder": f"{REPOSITORY}/encoders/mini"}},
    evaluate: {"out": "out"},
    study: yaml.safe_load((REPOSITORY / "configs" / "study" / "mini.yaml").read_text(encoding="utf-8")),
}


def test_every_renamed_key_is_tested():
    assert RENAMED_KEYS == FIT_KEYS | EVALUATE_KEYS | STUDY_KEYS


@pytest.mark.parametrize(("command", "old", "new"), COMMANDS)
@pytest.mark.parametrize("on_command_line", [True, False])
def test_an_old_key_is_refused_with_the_new_name(
    command: Callable[..., Any],
    old: str,
    new: str,
    on_command_line: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in GIVEN[command].items()}
    section, _, key = old.rpartition(".")
    if not on_command_line:
        (config.setdefault(section, {}) if section else config)[key] = 3
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    assert run([f"--config={path}", *([f"--{old}=3"] if on_command_line else [])], command) == 2
    assert f"error: unknown key {old}; did you mean {new}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        *(("fit", old, new) for old, new in FIT_KEYS.items()),
        ("fit_intermediate", "data.batches_per_step", "data.micro_batches_per_step"),
        ("fit_target", "checkpoints.keep", "checkpoints.keep_last"),
        *(("evaluate", old, new) for old, new in EVALUATE_KEYS.items()),
    ],
)
def test_an_old_key_inside_a_study_is_refused_with_the_new_name(
    study_keys: StudyKeys,
    section: str,
    old: str,
    new: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    group, _, key = old.rpartition(".")
    keys = study_keys(folder=str(tmp_path), **{section: {group: {key: 3}} if group else {key: 3}})
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(keys), encoding="utf-8")
    assert run([f"--config={path}", "--dry_run=true"], study) == 2
    message = capsys.readouterr().err
    assert "the study's node" in message
    assert f"unknown key {old}; did you mean {new}?" in message

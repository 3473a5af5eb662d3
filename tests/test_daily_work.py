"""Daily work: epochs, names of folders, short forms, messages in plain words, and no network."""

import re
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Command, run
from huggingface_hub import close_session, get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from test_bad_input import the_message

from xlt.config.cli import CommandLine, ParsedCommandLine
from xlt.config.epochs import steps_of_epochs
from xlt.config.key_names import HUGGING_FACE_NAMES
from xlt.config.plain_words import allowed_values, expand_short_forms
from xlt.datamodule import TransferData
from xlt.evaluate import evaluate, make_parser
from xlt.study import make_parser as make_study_parser
from xlt.system import hub_private

# Epochs


def data_of(tasks: list[str], encoder: str, cache: str, roots: list[str], **keys: Any) -> TransferData:
    sizes = {"max_length": 128, "stride": 32, "tokens_per_micro_batch": 1024, "micro_batches_per_step": 2}
    data = TransferData(tasks, roots, encoder=encoder, cache=cache, **sizes, **keys)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("epochs", [0.5, 1.0, 2.0])
def test_an_epoch_of_one_task_ends_with_the_step_that_draws_its_last_example(
    epochs: float, tiny_encoder: str, cache: str, samples: list[str]
):
    data = data_of(["mnli"], tiny_encoder, cache, samples, volume=300)
    steps = steps_of_epochs(epochs, data)
    trained = data.build_steps(steps, 0, 1)
    drawn = [len(np.concatenate([batch.rows for batch in trained[step]])) for step in range(steps)]
    assert sum(drawn[:-1]) < epochs * 300 <= sum(drawn)


def test_an_epoch_of_a_mixture_draws_as_many_examples_as_its_volumes_hold(
    tiny_encoder: str, cache: str, samples: list[str]
):
    data = data_of(["mnli", "squad_v1"], tiny_encoder, cache, samples, volume={"mnli": 300, "squad_v1": 40})
    steps = steps_of_epochs(1.0, data)
    trained = data.build_steps(steps, 0, 1)
    # A passage in several windows counts as one example, in equal parts.
    worth = {name: data.num_examples()[name] / len(data.rows_in_use(name, "train")) for name in data.tasks}
    drawn = [sum(worth[batch.task] * len(batch.rows) for batch in trained[step]) for step in range(steps)]
    assert sum(drawn[:-1]) < 340 <= sum(drawn) + 1e-6


def test_a_run_of_epochs_records_its_steps_and_keeps_them_when_it_is_resumed(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    own = {"data.tasks": "[mnli]", "data.volume": 100, "trainer.max_steps": None, "epochs": 0.5}
    args = tiny_run(tmp_path / "run", own)
    assert run(args) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    steps = config["trainer"]["max_steps"]
    assert config["epochs"] == 0.5
    assert f"0.5 epochs of the mixture are {steps:,} optimizer steps" in capsys.readouterr().out
    # The number is read, and not worked out again.
    monkeypatch.setattr("xlt.config.epochs.steps_of_epochs", lambda *_: 10**6)
    assert run(args) == 0
    assert run([*args, f"--config={tmp_path / 'run' / 'config.yaml'}"]) == 0
    assert run([*args, "--trainer.max_steps=7"]) == 2
    assert "epochs is 0.5 and trainer.max_steps is 7: set one of the two" in capsys.readouterr().err
    assert run([*args, "--epochs=-1"]) == 2
    assert "epochs is -1.0: it must be a number of epochs above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "second", "given", "length"),
    [
        ("trainer: {max_steps: 9}", "", ["--epochs", "2"], (2.0, -1)),
        ("epochs: 2", "", ["--trainer.max_steps", "9"], (None, 9)),
        ("epochs: 2", "trainer: {max_steps: 9}", [], (None, 9)),
        ("trainer: {max_steps: 9}", "epochs: 2", [], (2.0, -1)),
        ("{trainer: {max_steps: 9}, epochs: 2}", "", ["--epochs=3"], (3.0, -1)),
        ("trainer: {max_steps: 9}", "epochs: null", [], (None, 9)),
        ("trainer: {max_steps: 9}", "", ["--epochs=2", "--trainer.max_steps=-1"], (2.0, -1)),
    ],
)
def test_the_last_of_epochs_and_max_steps_counts(
    first: str,
    second: str,
    given: list[str],
    length: tuple[float | None, int],
    tiny_run: Command,
    tmp_path: Path,
):
    args = tiny_run(tmp_path / "run", {"trainer.max_steps": None})
    for name, text in (("a.yaml", first), ("b.yaml", second)):
        (tmp_path / name).write_text(text or "seed_everything: 0")
        args.append(f"--config={tmp_path / name}")
    config = CommandLine([*args, *given], build=False).config
    assert (config.epochs, config.trainer.max_steps) == length


def test_both_epochs_and_max_steps_in_one_place_are_refused(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    args = tiny_run(tmp_path / "run", {"trainer.max_steps": None})
    (tmp_path / "both.yaml").write_text("{epochs: 2, trainer: {max_steps: 9}}")
    for both in ([f"--config={tmp_path / 'both.yaml'}"], ["--epochs=2", "--trainer.max_steps=9"]):
        assert run([*args, *both]) == 2
        said = "epochs is 2 and trainer.max_steps is 9: set one of the two. Leave one of them out"
        assert said in the_message(capsys.readouterr().err)


# Names of folders


@pytest.mark.parametrize(
    ("keys", "folder"),
    [
        ({}, "runs/mine"),
        ({"name": "second"}, "runs/second"),
        ({"name": "{config}-{seed}"}, "runs/mine-5"),
        ({"trainer.default_root_dir": "out/{config}-{seed}"}, "out/mine-5"),
        ({"trainer.default_root_dir": "out/a", "name": "b"}, "out/b"),
        ({"trainer.default_root_dir": "out/{name}/{seed}", "name": "b"}, "out/b/5"),
        ({"trainer.default_root_dir": "out/{model.learning_rate}-{data.tasks}"}, "out/0.001-mnli-ccg"),
    ],
)
def test_the_folder_is_named_by_the_config(
    keys: dict[str, str], folder: str, tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    args = tiny_run(tmp_path, {"trainer.default_root_dir": None, "data.tasks": "[mnli, ccg]", **keys})
    (tmp_path / "mine.yaml").write_text("seed_everything: 5\n")
    args = [arg for arg in args if "seed_everything" not in arg]
    monkeypatch.chdir(tmp_path)
    command = CommandLine([f"--config={tmp_path / 'mine.yaml'}", *args], build=False)
    assert command.folder.path == Path(folder)
    assert command.resolved()["trainer"]["default_root_dir"] == folder


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"trainer.default_root_dir": "a/{sead}"},
            "a/{sead}, but sead has no value in the config: use {config}",
        ),
        ({"trainer.default_root_dir": "a/{data}"}, "but data has no value"),
        ({"trainer.default_root_dir": "a/{name}"}, "a/{name}, but name is not set: give --name NAME"),
        ({"name": "a/b"}, "name is 'a/b': it must be a name of a folder, without /"),
        ({"name": ".."}, "name is '..': it must be a name of a folder"),
    ],
)
def test_a_folder_that_cannot_be_named_is_refused(
    keys: dict[str, str], said: str, tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(tiny_run(tmp_path / "run", keys)) == 2
    assert said in the_message(capsys.readouterr().err)


# Short forms


def test_short_forms_are_written_out():
    types = {"data.tasks": list[str], "root": str | list[str], "languages": list[str] | None, "dry_run": bool}
    given = ["--data.tasks", "mnli", "--root", "a", "--languages=en", "--dry_run", "--x", "1", "--dry_run"]
    assert list(expand_short_forms(given, types.get)) == [
        *("--data.tasks=[mnli]", "--root", "a", "--languages=[en]", "--dry_run=true", "--x", "1"),
        "--dry_run=true",
    ]
    same = ["--data.tasks=[mnli]", "--data.tasks", "[a, b]", "--languages=null", "--dry_run", "true"]
    expanded = list(expand_short_forms(same, types.get))
    assert expanded == ["--data.tasks=[mnli]", "--data.tasks=[a, b]", "--languages=null", "--dry_run", "true"]


def test_a_negative_number_is_a_value_and_no_option(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    keys = ["model.learning_rate", "model.weight_decay", "data.volume", "data.temperature", "seed_everything"]
    for key, value in zip(keys, ["-1e-4", "-.5", "-3", "-.inf", "-1"], strict=True):
        args = tiny_run(tmp_path / "run", {key: None, "data.tasks": "[mnli]"})
        assert run([*args, f"--{key}", value]) == 2
        message = the_message(capsys.readouterr().err)
        assert re.search(rf"{key} .*-.*must", message), message


def test_commands_take_short_forms(tiny_run: Command, tmp_path: Path):
    args = [*tiny_run(tmp_path, {"data.tasks": None}), "--data.tasks", "mnli", "--model.keep_heads"]
    config = ParsedCommandLine(args).config
    assert (config.data.tasks, config.model.keep_heads) == (["mnli"], True)
    assert make_parser().parse_args(["--out=o", "--tasks", "xnli", "--runs=a"]).tasks == ["xnli"]
    (tmp_path / "study.yaml").write_text(
        "{name: s, encoder: e, intermediate: {}, volumes: [], seeds: [], targets: {}}"
    )
    parsed = make_study_parser().parse_args([f"--config={tmp_path / 'study.yaml'}", "--dry_run"])
    assert parsed.dry_run is True


# Messages


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"data.volume": "abc"},
            "data.volume is abc: it must be a whole number, a mapping of names to whole numbers "
            "({NAME: VALUE}) or null",
        ),
        ({"model.keep_heads": "abc"}, "model.keep_heads is abc: it must be true or false"),
        ({"model.learning_rate": "fast"}, "model.learning_rate is fast: it must be a number\n"),
        ({"data.stride": "1.5"}, "data.stride is 1.5: it must be a whole number\n"),
        ({"trainer.precision": "8"}, "trainer.precision is 8: it must be one of auto, 32-true, 32, 64-true"),
        (
            {"trainer.callbacks": "EarlyStopping"},
            "trainer.callbacks is EarlyStopping, which needs monitor: write {class_path: EarlyStopping, "
            "init_args: {monitor: VALUE}}",
        ),
        ({"model.lr": "1"}, "unknown key model.lr; did you mean model.learning_rate?"),
        ({"modle.encoder": "x"}, "unknown key modle.encoder; did you mean model.encoder?"),
        ({"learning-rate": "1"}, "unknown key learning-rate; did you mean model.learning_rate?"),
        ({"lr": "1"}, "unknown key lr; did you mean model.learning_rate?"),
        ({"data.learning_rate": "1"}, "did you mean model.learning_rate?"),
        ({"trainer.epochs": "3"}, "unknown key trainer.epochs; did you mean epochs?"),
        ({"model.learnin_rate": "1"}, "did you mean model.learning_rate?"),
        ({"num_train_epochs": "1"}, "did you mean epochs?"),
        ({"bogus": "1"}, "unknown key bogus. --help lists all keys"),
    ],
)
def test_a_wrong_key_or_value_is_said_in_plain_words(
    keys: dict[str, str], said: str, tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(tiny_run(tmp_path / "run", keys)) == 2
    message = the_message(capsys.readouterr().err)
    assert said in message
    assert "class '" not in message
    assert "typing" not in message


def test_an_evaluation_says_the_allowed_words(capsys: pytest.CaptureFixture[str]):
    assert run(["--out=o", "--precision=3"], evaluate) == 2
    assert "precision is 3: it must be auto, 32-true or bf16-mixed" in capsys.readouterr().err
    assert run(["--out=o", "--per_device_eval_batch_size=3"], evaluate) == 2
    assert "did you mean tokens_per_micro_batch?" in capsys.readouterr().err


def test_each_name_of_hugging_face_leads_to_a_key(tiny_run: Command, tmp_path: Path):
    known = {action.dest for action in ParsedCommandLine(tiny_run(tmp_path)).parser._actions}
    assert set(HUGGING_FACE_NAMES.values()) <= known
    assert not set(HUGGING_FACE_NAMES) & known


def test_a_type_without_plain_words_has_none():
    assert allowed_values(Path | None) == "a path or null"
    assert allowed_values(socket.socket | None) == ""


# No network


def test_a_hub_that_cannot_be_reached_is_asked_once_and_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert hub_private.is_reachable("127.0.0.1", port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        hub_private.fail_fast_without_hub()
        begin = time.monotonic()
        try:
            for _ in range(3):
                with pytest.raises(OfflineModeIsEnabled, match=r"there is no connection to 127\.0\.0\.1"):
                    get_session().get(f"http://127.0.0.1:{port}/")
        finally:
            close_session()
        assert time.monotonic() - begin < 5


def slow_name_server(*_: Any, **__: Any) -> None:
    """Answer nothing in the time of a test."""
    time.sleep(30)
    raise OSError("no answer")


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_private, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", slow_name_server)
    begin = time.monotonic()
    assert not hub_private.is_reachable("no.such.host.invalid", 443)
    assert time.monotonic() - begin < 5

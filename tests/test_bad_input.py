"""What a user can get wrong ends before training with one message that says what, where and how to mend."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from commands import launch
from conftest import NINE, Command, run

from xlt.config.config_files import read_config
from xlt.config.help import meant_command
from xlt.data.encode import load_tokenizer, num_ids
from xlt.evaluate import Evaluation, evaluate
from xlt.fit import fit
from xlt.models.encoders.text import check_vocabulary
from xlt.prepare import prepare

REPOSITORY = Path(__file__).parents[1]

Refusal = Callable[..., str]


ONE_STEP = {"trainer.max_steps": 1, "trainer.val_check_interval": 1, "trainer.log_every_n_steps": 1}

PAIRS = {
    "premise": ["A man eats.", "A dog runs.", "It rains."],
    "hypothesis": ["Someone eats.", "A dog sleeps.", "It is wet."],
    "label": [0, 2, 1],
}


@pytest.fixture
def refusal(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Mapping[str, Any]], str]:
    """Run a command that must be refused; return its message."""

    def message(changes: Mapping[str, Any], folder: Path | None = None, verb: Any = fit) -> str:
        folder = folder or tmp_path / "run"
        args = tiny_run(folder, {"data.tasks": "[mnli]", **ONE_STEP, **changes})
        return refused(args, folder, capsys, verb)

    return message


def refused(args: list[str], folder: Path, capsys: pytest.CaptureFixture[str], verb: Any = fit) -> str:
    """The one message on stderr of a command that fails before it has trained a step."""
    capsys.readouterr()
    before = events(folder)
    code = run(args, verb)
    error = capsys.readouterr().err
    assert code not in (0, None)
    assert events(folder) == before, "something was logged before the error"
    return the_message(error)


def the_message(error: str) -> str:
    """The text after `error:`, which comes once and last."""
    told, _, message = ("\n" + error).partition("\nerror: ")
    assert message, error
    assert "error:" not in told + message, error
    assert "Traceback" not in error
    return message


def events(folder: Path) -> str:
    """The run's record so far."""
    path = folder / "metrics.jsonl"
    return path.read_text() if path.is_file() else ""


def write_mnli(root: Path, split: str, columns: Mapping[str, Any]) -> Path:
    """A mirror's file of MNLI."""
    path = root / "nyu-mll" / "glue" / "mnli" / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def mnli(tmp_path: Path) -> Path:
    """A data root with three good rows of MNLI in each split."""
    root = tmp_path / "root"
    write_mnli(root, "train", PAIRS)
    write_mnli(root, "validation_matched", PAIRS)
    return root


# Tasks


def test_unknown_task_lists_the_known_and_suggests_the_close_one(refusal: Refusal):
    message = refusal({"data.tasks": "[mnly]"})
    assert "unknown task 'mnly'" in message
    assert "Did you mean mnli?" in message
    for name in NINE:
        assert name in message


@pytest.mark.parametrize(
    "name",
    [
        "mylab.no_such_task",
        "mnli.py",
        "tasks/mnli",
        "''",
        "../mnli",
        ".mnli",
    ],
)
def test_a_name_that_is_no_module_is_an_unknown_task(refusal: Refusal, name: str):
    message = refusal({"data.tasks": f"[{name}]"})
    assert name in message
    assert "Known tasks: anli_plus" in message


def test_module_without_a_task_is_refused(refusal: Refusal):
    message = refusal({"data.tasks": "[xlt.batch.packing]"})
    assert "xlt.batch.packing" in message
    assert "TASK" in message


def test_no_task_is_refused(refusal: Refusal):
    message = refusal({"data.tasks": "[]"})
    assert "data.tasks is empty" in message
    assert "mnli" in message


def test_a_task_given_twice_is_refused(refusal: Refusal):
    message = refusal({"data.tasks": "[mnli, qqp, mnli]"})
    assert "data.tasks" in message
    assert "twice" in message
    assert "mnli" in message


# Keys


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("data.temprature", "data.temperature"),
        ("data.valume", "data.volume"),
        ("model.lerning_rate", "model.learning_rate"),
        ("trainer.maxsteps", "trainer.max_steps"),
        ("seed_everithing", "seed_everything"),
        ("checkpoints.every_m_steps", "checkpoints.every_n_steps"),
        ("wandb.projekt", "wandb.project"),
        ("data.volum", "data.volume"),
        ("trainer.max_step", "trainer.max_steps"),
    ],
)
def test_misspelt_key_on_the_command_line_carries_a_suggestion(refusal: Refusal, wrong: str, meant: str):
    message = refusal({wrong: 2})
    assert wrong in message
    assert re.search(rf"\b{re.escape(meant)}\b", message)


@pytest.mark.parametrize(
    ("section", "wrong", "meant"),
    [
        ("data", "temprature", "temperature"),
        ("model", "learning_rat", "learning_rate"),
        ("trainer", "max_step", "max_steps"),
        ("checkpoints", "every_n_step", "every_n_steps"),
        ("wandb", "projekt", "project"),
        (None, "seed_everithing", "seed_everything"),
    ],
)
def test_misspelt_key_in_a_config_carries_a_suggestion(
    refusal: Refusal, tmp_path: Path, section: str | None, wrong: str, meant: str
):
    config = tmp_path / "wrong.yaml"
    config.write_text(yaml.safe_dump({section: {wrong: 2}} if section else {wrong: 2}))
    message = refusal({"config": config})
    assert wrong in message
    assert re.search(rf"\b{re.escape(meant)}\b", message)


def test_a_value_of_the_wrong_type_names_the_key_and_the_value(refusal: Refusal):
    message = refusal({"data.temperature": "warm"})
    assert "data.temperature" in message
    assert "warm" in message


def test_a_missing_config_is_named(refusal: Refusal, tmp_path: Path):
    assert "nowhere.yaml" in refusal({"config": tmp_path / "nowhere.yaml"})


@pytest.mark.parametrize(
    "spelling",
    [
        ["--config", "{}"],
        ["-c", "{}"],
        ["--config={}"],
    ],
)
def test_a_config_that_is_no_yaml_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spelling: list[str]
):
    config = tmp_path / "broken.yaml"
    config.write_text("data: [mnli\nmodel: {")
    message = refused([part.format(config) for part in spelling], tmp_path / "run", capsys)
    assert str(config) in message
    assert "YAML" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "config {} does not exist: name a YAML file, such as {}"),
        ("a text\nof two lines\n", "config {} holds a text, and no keys: write keys with values into it"),
        ("- a\n- b\n", "config {} holds a list, and no keys"),
        ("# nothing\n", "config {} is empty: write keys such as data.tasks into it"),
        ("data:\n  tasks: mnli: x\n", "{} is not YAML: line 2, column 14: mapping values are not allowed"),
        ("data:\n\ttasks: x\n", "{} is not YAML: line 2, column 1: "),
    ],
)
@pytest.mark.parametrize("command", [fit, evaluate])
def test_a_config_without_keys_is_one_line(
    text: str | None, said: str, command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config, other = tmp_path / "mine.yaml", tmp_path / "mime.yaml"
    other.write_text("seed_everything: 0\n")
    if text is not None:
        config.write_text(text)
    message = refused([f"--config={config}"], tmp_path / "run", capsys, command)
    assert message.startswith(said.format(config, other))
    assert message.count("\n") == 1


def test_a_folder_is_no_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.yml").write_text("seed_everything: 0\n")
    message = refused(["--config", str(tmp_path)], tmp_path / "run", capsys)
    assert message == f"config {tmp_path} is a folder: name a YAML file, such as {tmp_path / 'a.yml'}\n"


def test_a_config_is_read_before_the_slow_imports(tmp_path: Path):
    words = [sys.executable, "-X", "importtime", "-m", "xlt", "fit", "--config", str(tmp_path / "no.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("no.yaml does not exist: name a YAML file, such as configs/quickstart.yaml\n")
    assert "lightning" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["configs/x.yaml"], "configs/x.yaml belongs to no key: give it as --config configs/x.yaml\n"),
        (
            ["--data.tasks", "mnli", "qqp"],
            "qqp belongs to no key: write --KEY qqp, or --KEY '[A, B]' for a list",
        ),
        (["--config"], "--config has no value: write --config VALUE\n"),
        (["--model.encoder"], "--model.encoder has no value: write --model.encoder VALUE\n"),
        (["-x"], "unknown option -x: --help lists all keys\n"),
        (
            ["--data", "no.yaml"],
            "data is no.yaml: it must be a YAML file that exists, or a mapping {KEY: VALUE}",
        ),
    ],
)
def test_a_word_at_the_wrong_place_is_named(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert refused(words, tmp_path / "run", capsys).startswith(said)


def test_all_unknown_keys_are_named_at_once(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "mine.yaml"
    config.write_text("{model: {lr: 1}, bogus: 2, data: {per_device_train_batch_size: 8, volume: {mnli: 5}}}")
    args = [f"--config={config}", *tiny_run(tmp_path / "run"), "--trainer.max_step=3"]
    assert refused(args, tmp_path / "run", capsys) == (
        f"unknown keys model.lr (in {config}; did you mean model.learning_rate?), bogus (in {config}), "
        f"data.per_device_train_batch_size (in {config}; did you mean data.tokens_per_micro_batch? It counts "
        "tokens, not examples.), trainer.max_step (did you mean trainer.max_steps?). --help lists all keys\n"
    )


@pytest.mark.parametrize(
    ("command", "config", "meant"),
    [
        ("evaluate", "configs/target/xnli.yaml", "fit"),
        ("study", "configs/target/xnli.yaml", "fit"),
        ("predict", "configs/evaluate/xtreme.yaml", "evaluate"),
        ("evaluate", "configs/study/mini.yaml", "study"),
    ],
)
def test_a_config_of_another_command_is_named(command: str, config: str, meant: str) -> None:
    assert meant_command(command, read_config(str(REPOSITORY / config))) == meant
    assert meant_command(meant, read_config(str(REPOSITORY / config))) is None


def test_a_config_of_a_study_is_none_of_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["--config", str(REPOSITORY / "configs/study/mini.yaml")], tmp_path / "run", capsys)
    assert re.search(r"configs/study/mini\.yaml is a config of `xlt study`, and `xlt fit` has no keys", said)


# Encoders


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "encoders/minni",
            "encoders/minni, a folder that does not exist; did you mean encoders/mini? If not, name",
        ),
        (
            "/no/where",
            "/no/where, a folder that does not exist: name a folder with a config.json, a run's folder",
        ),
        ("./here", "./here, a folder that does not exist: "),
        ("a/b/c", "a/b/c, a folder that does not exist: "),
        ("~nobody/mine", "~nobody/mine, a folder that does not exist: write the home folder in full"),
        (
            "{tmp}/encoders/e5-small",
            "a folder that does not exist: run `make encoder`, which writes encoders/e5-small",
        ),
    ],
)
def test_a_missing_folder_of_an_encoder_is_no_problem_of_the_hub(
    refusal: Refusal, name: str, said: str, tmp_path: Path
):
    message = refusal({"model.encoder": name.format(tmp=tmp_path)})
    assert message.startswith("model.encoder is ")
    assert said in message
    assert "from the hub" not in message


@pytest.mark.parametrize("name", ["FacebookAI/xlm-roberta-base", "xlm-roberta-base"])
def test_an_encoder_that_the_hub_does_not_give_names_the_next_step(refusal: Refusal, name: str):
    message = refusal({"model.encoder": name})
    assert f"model.encoder '{name}' is no folder, and cannot be loaded from the hub (OSError: " in message
    assert "run `xlt prepare --config ...` on a machine that has one and copy its HF_HOME" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_said(refusal: Refusal):
    message = refusal({"trainer.accelerator": "gpu"})
    assert message.startswith("trainer.accelerator is gpu, but torch finds no GPU here (")
    assert "set it to auto or cpu" in message


# Data roots and files


def test_missing_data_root_is_named_with_its_key(refusal: Refusal, tmp_path: Path):
    message = refusal({"data.root": tmp_path / "nowhere"})
    assert str(tmp_path / "nowhere") in message
    assert "data.root" in message
    assert "<org>/<name>/<config>/<split>.parquet" in message


def test_data_neither_in_the_root_nor_on_the_hub_says_where_to_put_it(refusal: Refusal, tmp_path: Path):
    (tmp_path / "root").mkdir()
    message = refusal({"data.root": tmp_path / "root"})
    assert "nyu-mll/glue/mnli/train.parquet" in message
    assert str(tmp_path / "root") in message
    assert "data.root" in message


def test_licensed_data_that_is_missing_says_how_to_get_it(refusal: Refusal, tmp_path: Path):
    (tmp_path / "root").mkdir()
    message = refusal({"data.root": tmp_path / "root", "data.tasks": "[ccg]"})
    assert "ccg/default/train.parquet" in message
    assert str(tmp_path / "root") in message
    assert "LDC2005T13" in message


def test_missing_split_names_the_folder_and_what_it_holds(refusal: Refusal, mnli: Path):
    (mnli / "nyu-mll/glue/mnli/validation_matched.parquet").unlink()
    message = refusal({"data.root": mnli})
    assert str(mnli / "nyu-mll/glue/mnli") in message
    assert "holds train" in message
    assert "validation_matched.parquet" in message


def test_empty_split_is_refused(refusal: Refusal, mnli: Path):
    schema = pa.schema([("premise", pa.string()), ("hypothesis", pa.string()), ("label", pa.int64())])
    path = write_mnli(mnli, "validation_matched", schema.empty_table().to_pydict())
    message = refusal({"data.root": mnli})
    assert str(path) in message
    assert "no rows" in message
    assert "fetch it again" in message


def test_a_split_without_any_label_is_refused(refusal: Refusal, mnli: Path):
    path = write_mnli(mnli, "train", {**PAIRS, "label": [-1, -1, -1]})
    message = refusal({"data.root": mnli})
    assert str(path) in message
    assert "mnli" in message
    assert "label" in message


@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_truncated_parquet_file_is_named(refusal: Refusal, mnli: Path, kept: float):
    path = mnli / "nyu-mll/glue/mnli/train.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    message = refusal({"data.root": mnli})
    assert str(path) in message
    assert "truncated" in message
    assert "again" in message


def test_parquet_file_damaged_inside_is_named(refusal: Refusal, mnli: Path):
    path = mnli / "nyu-mll/glue/mnli/train.parquet"
    content = bytearray(path.read_bytes())
    content[4:80] = bytes(76)
    path.write_bytes(content)
    message = refusal({"data.root": mnli})
    assert str(path) in message
    assert "again" in message


def test_missing_column_names_file_row_and_columns(refusal: Refusal, mnli: Path):
    path = write_mnli(mnli, "train", {"sentence1": PAIRS["premise"], **PAIRS} | {"label": PAIRS["label"]})
    columns = {name: values for name, values in PAIRS.items() if name != "hypothesis"}
    path = write_mnli(mnli, "train", {**columns, "sentence2": PAIRS["hypothesis"]})
    message = refusal({"data.root": mnli})
    assert f"{path}, row 0" in message
    assert "column 'hypothesis' is missing" in message
    assert "premise, label, sentence2" in message


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        ("premise", ["fine", None, "fine"], "None"),
        ("premise", [1, 2, 3], "1"),
        ("hypothesis", [["a"], ["b"], ["c"]], "['a']"),
        ("label", [[], [], [None]], "[]"),
        ("label", [0.5, 2.0, 1.0], "0.5"),
        ("label", [True, False, True], "True"),
        ("label", [[0], [1], [2]], "[0]"),
    ],
)
def test_column_of_the_wrong_type_names_file_row_and_value(
    refusal: Refusal, mnli: Path, column: str, values: list[Any], shown: str
):
    path = write_mnli(mnli, "train", {**PAIRS, column: values})
    message = refusal({"data.root": mnli})
    row = values.index(None) if None in values else 0
    assert f"{path}, row {row}" in message
    assert shown in message
    assert "must be" in message


@pytest.mark.parametrize("label", [3, -2, 10**9])
def test_label_out_of_range_names_file_row_and_classes(refusal: Refusal, mnli: Path, label: int):
    path = write_mnli(mnli, "train", {**PAIRS, "label": [0, 1, label]})
    message = refusal({"data.root": mnli})
    assert f"{path}, row 2" in message
    assert f"label {label}" in message
    for name in ("entailment", "neutral", "contradiction"):
        assert name in message


def test_unknown_label_name_is_refused(refusal: Refusal, mnli: Path):
    path = write_mnli(mnli, "train", {**PAIRS, "label": ["neutral", "maybe", "entailment"]})
    message = refusal({"data.root": mnli})
    assert f"{path}, row 1" in message
    assert "maybe" in message


def write_choices(root: Path, **changes: list[Any]) -> Path:
    """A mirror of HellaSwag with two rows a split; returns the training file."""
    folder = root / "Rowan" / "hellaswag" / "default"
    folder.mkdir(parents=True)
    good = {"ctx": ["He", "She"], "endings": [["a", "b", "c", "d"]] * 2, "label": ["0", "3"]}
    pq.write_table(pa.table(good), folder / "validation.parquet")
    pq.write_table(pa.table({**good, **changes}), folder / "train.parquet")
    return folder / "train.parquet"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"label": ["0", "4"]}, "label 4"),
        ({"label": ["0", "x"]}, "x"),
        ({"endings": [["a", "b", "c", "d"], ["a", "b"]]}, "2 choices, not 4"),
    ],
)
def test_choices_out_of_range_name_file_and_row(
    refusal: Refusal, tmp_path: Path, changes: dict[str, list[Any]], shown: str
):
    path = write_choices(tmp_path / "root", **changes)
    message = refusal({"data.root": tmp_path / "root", "data.tasks": "[hellaswag]"})
    assert f"{path}, row 1" in message
    assert shown in message


def test_an_answer_that_does_not_stand_where_it_should_is_refused(refusal: Refusal, tmp_path: Path):
    folder = tmp_path / "root" / "rajpurkar" / "squad" / "plain_text"
    folder.mkdir(parents=True)
    answers = [{"text": ["Paris"], "answer_start": [0]}]
    rows = {"id": ["q1"], "question": ["Where?"], "context": ["In Paris."], "answers": answers}
    for split in ("train", "validation"):
        pq.write_table(pa.table(rows), folder / f"{split}.parquet")
    message = refusal({"data.root": tmp_path / "root", "data.tasks": "[squad_v1]"})
    assert f"{folder / 'train.parquet'}, row 0" in message
    assert "'Paris'" in message
    assert "character 0" in message


def test_words_without_a_tag_each_are_refused(refusal: Refusal, tmp_path: Path):
    folder = tmp_path / "root" / "ccg" / "default"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(pa.table({"tokens": [["a", "b"]], "tags": [["NP"]]}), folder / f"{split}.parquet")
    message = refusal({"data.root": tmp_path / "root", "data.tasks": "[ccg]"})
    assert f"{folder / 'train.parquet'}, row 0" in message
    assert "2 words but 1 tags" in message


# Values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.temperature", "0"),
        ("data.temperature", "-1"),
        ("data.temperature", ".nan"),
        ("data.cap", "0"),
        ("data.cap", "-5"),
        ("data.volume", "0"),
        ("data.volume", "-1"),
        ("data.volume", "{mnli: 0}"),
        ("data.validation_volume", "0"),
        ("data.validation_volume", "-1"),
        ("data.tokens_per_micro_batch", "0"),
        ("data.micro_batches_per_step", "0"),
        ("data.max_length", "0"),
        ("data.stride", "-1"),
        ("data.stride", "128"),
        ("data.num_workers", "-1"),
        ("seed_everything", "-1"),
        ("trainer.gradient_clip_val", "-1"),
        ("trainer.max_time", "00:00:00:02"),
        ("trainer.min_steps", "8"),
        ("trainer.barebones", "true"),
        ("data.weights", "{mnli: -1}"),
        ("data.weights", "{mnli: 0}"),
        ("data.weights", "{mnli: .nan}"),
        ("model.learning_rate", "0"),
        ("model.learning_rate", "-1e-5"),
        ("model.learning_rate", ".nan"),
        ("model.learning_rate", ".inf"),
        ("model.warmup_steps", "-1"),
        ("model.weight_decay", "-1"),
        ("model.layer_decay", "0"),
        ("model.layer_decay", "1.5"),
        ("model.layer_decay", ".nan"),
        ("model.head_learning_rate", "0"),
        ("model.head_learning_rate", "-1e-5"),
        ("model.head_learning_rate", ".inf"),
        ("model.head_dropout", "1.5"),
        ("trainer.max_steps", "0"),
        ("trainer.max_steps", "-1"),
        ("trainer.val_check_interval", "0"),
        ("trainer.val_check_interval", "1.5"),
        ("trainer.val_check_interval", "00:00:10"),
        ("trainer.max_epochs", "3"),
        ("trainer.limit_val_batches", "0"),
        ("trainer.log_every_n_steps", "0"),
        ("checkpoints.every_n_steps", "0"),
        ("checkpoints.keep_last", "0"),
        ("checkpoints.keep_every_n_steps", "0"),
        ("preemption.check_every_n_steps", "0"),
        ("preemption.grace_seconds", "0"),
    ],
)
def test_value_out_of_range_names_the_key_and_the_value(refusal: Refusal, key: str, value: str):
    message = refusal({key: value})
    assert key in message
    shown = value.strip("{}").split(": ")[-1].lstrip(".")
    assert str(shown).lower() in message.lower().replace("1e-05", "1e-5")


def test_micro_batches_are_counted_by_another_key_than_lightnings(refusal: Refusal):
    message = refusal({"trainer.accumulate_grad_batches": 2})
    assert "trainer.accumulate_grad_batches" in message
    assert "data.micro_batches_per_step" in message


def test_devices_that_cannot_be_are_refused(refusal: Refusal):
    assert "trainer.devices" in refusal({"trainer.devices": -1})


@pytest.mark.parametrize("seed", ["true", "false"])
def test_a_seed_that_is_no_number_is_refused(refusal: Refusal, seed: str):
    message = refusal({"seed_everything": seed})
    assert "seed_everything" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("trainer.limit_train_batches", 2), ("trainer.overfit_batches", 2), ("trainer.fast_dev_run", "true")],
)
def test_keys_that_would_take_other_steps_than_the_schedules_are_refused(
    refusal: Refusal, key: str, value: int | str
):
    message = refusal({key: value, "trainer.max_steps": 4})
    assert key in message


def test_a_run_without_a_number_of_steps_is_refused(refusal: Refusal):
    message = refusal({"trainer.max_steps": None})
    assert "trainer.max_steps" in message
    assert "number of optimizer steps" in message


def test_more_tokens_than_the_encoder_has_positions_names_the_limit(refusal: Refusal):
    message = refusal({"data.max_length": 513, "data.tokens_per_micro_batch": 4096})
    assert "data.max_length is 513" in message
    assert "at most 512" in message


def test_a_sequence_must_fit_a_batch(refusal: Refusal):
    message = refusal({"data.tokens_per_micro_batch": 127})
    assert "data.tokens_per_micro_batch is 127" in message
    assert "data.max_length, 128 tokens" in message


def test_the_longest_row_must_fit_a_batch(refusal: Refusal, tmp_path: Path):
    # A row is all its choices: four of over sixty tokens each.
    write_choices(tmp_path / "root", ctx=["word " * 60] * 2)
    changes = {
        "data.tasks": "[hellaswag]",
        "data.root": tmp_path / "root",
        "data.tokens_per_micro_batch": 130,
    }
    message = refusal(changes)
    assert "data.tokens_per_micro_batch is 130" in message
    assert "hellaswag" in message
    (least,) = re.findall(r"at least (\d+)", message)
    assert int(least) > 4 * 60
    assert "data.max_length" in message


def test_volume_of_another_task_is_refused(refusal: Refusal):
    message = refusal({"data.volume": "{qqp: 10}"})
    assert "data.volume" in message
    assert "qqp" in message
    assert "data.tasks" in message


@pytest.mark.parametrize("weights", ["{qqp: 1}", "{mnli: 1, qqp: 1}", "{}"])
def test_weights_of_other_tasks_are_refused(refusal: Refusal, weights: str):
    message = refusal({"data.weights": weights})
    assert "data.weights" in message
    assert "mnli" in message


# Encoder


def test_encoder_that_does_not_exist_is_named(refusal: Refusal, tmp_path: Path):
    message = refusal({"model.encoder": tmp_path / "nowhere"})
    assert "model.encoder" in message
    assert str(tmp_path / "nowhere") in message
    assert "config.json" in message


def test_encoder_of_another_architecture_is_refused(refusal: Refusal, tmp_path: Path):
    (tmp_path / "electra").mkdir()
    (tmp_path / "electra" / "config.json").write_text(json.dumps({"model_type": "electra"}))
    message = refusal({"model.encoder": tmp_path / "electra"})
    assert "model.encoder" in message
    assert "electra" in message
    assert "xlm-roberta" in message


def test_encoder_without_tokenizer_is_refused(refusal: Refusal, tiny_encoder: str, tmp_path: Path):
    (tmp_path / "bare").mkdir()
    shutil.copy(Path(tiny_encoder) / "config.json", tmp_path / "bare")
    message = refusal({"model.encoder": tmp_path / "bare"})
    assert str(tmp_path / "bare") in message
    assert "tokenizer.json" in message


def test_encoder_without_weights_names_the_key_that_draws_them(refusal: Refusal, tiny_encoder: str):
    message = refusal({"model.from_scratch": "false"})
    assert tiny_encoder in message
    assert "weights" in message
    assert "model.from_scratch" in message


@pytest.fixture
def added(tiny_encoder: str, tmp_path: Path) -> str:
    """An encoder to whose tokenizer two tokens were added, but to whose embedding no row."""
    folder = str(shutil.copytree(tiny_encoder, tmp_path / "added"))
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<ent>", "</ent>"])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("verb", [fit, prepare])
def test_a_tokenizer_with_more_pieces_than_the_embedding_is_refused(refusal: Refusal, added: str, verb: Any):
    message = refusal({"model.encoder": added}, verb=verb)
    assert f"the tokenizer of {added} has 16,386 token ids, but its embedding has 16,384 rows" in message
    assert "resize_token_embeddings(16386)" in message


def test_an_evaluation_refuses_a_tokenizer_with_more_pieces_than_the_embedding(added: str, tmp_path: Path):
    with pytest.raises(ValueError, match="16,386 token ids, but its embedding has 16,384 rows"):
        Evaluation(tmp_path / "out", encoder=added, tasks=["tatoeba"], accelerator="cpu")


def test_an_embedding_may_have_more_rows_than_the_tokenizer_has_pieces(tiny_encoder: str, tmp_path: Path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "larger")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 16500}
    (folder / "config.json").write_text(json.dumps(config))
    check_vocabulary(str(folder), num_ids(load_tokenizer(str(folder))))


# The run's folder


def test_run_folder_of_another_config_names_the_keys_that_differ(
    tiny_run: Command, mnli: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    given = {"data.tasks": "[mnli]", "data.root": mnli, **ONE_STEP}
    assert run(tiny_run(folder, given)) == 0
    results = (folder / "results.json").read_bytes()
    changes = {"data.cap": 77, "model.learning_rate": 0.25, "seed_everything": 5}
    message = refused(tiny_run(folder, {**given, **changes}), folder, capsys)
    assert str(folder) in message
    assert re.search(r"data\.cap: 131072(\.0)? there, 77(\.0)? now", message)
    assert "model.learning_rate: 0.001 there, 0.25 now" in message
    assert "seed_everything: 0 there, 5 now" in message
    assert "data.temperature" not in message
    assert "trainer.default_root_dir" in message
    assert (folder / "results.json").read_bytes() == results


@pytest.mark.parametrize(
    "key",
    ["trainer.default_root_dir", "data.cache"],
)
def test_folder_that_cannot_be_written_is_named(refusal: Refusal, mnli: Path, tmp_path: Path, key: str):
    (tmp_path / "file").write_text("a file, not a folder")
    message = refusal({"data.root": mnli, key: tmp_path / "file" / "below"})
    assert str(tmp_path / "file" / "below") in message
    assert key in message


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_run_folder_on_a_read_only_file_system_is_named(refusal: Refusal, mnli: Path):
    message = refusal({"data.root": mnli, "trainer.default_root_dir": "/proc/xlt"})
    assert "/proc/xlt" in message
    assert "trainer.default_root_dir" in message


@pytest.mark.parametrize("sizes", [{"hidden_size": 16}, {"num_hidden_layers": 1}, {"intermediate_size": 32}])
def test_checkpoint_of_another_encoder_size_names_the_sizes(
    tiny_run: Command,
    tiny_encoder: str,
    mnli: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sizes: dict[str, int],
):
    encoder, folder = tmp_path / "encoder", tmp_path / "run"
    shutil.copytree(tiny_encoder, encoder)
    given = {"model.encoder": encoder, "data.tasks": "[mnli]", "data.root": mnli, **ONE_STEP}
    args = tiny_run(folder, given)
    assert run(args) == 0
    (folder / "results.json").unlink()
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**config, **sizes}))
    message = refused(args, folder, capsys)
    assert "encoder" in message
    for name, size in sizes.items():
        assert f"{name}" in message
        assert f"{config[name]} in the checkpoint, {size}" in message
    assert "trainer.default_root_dir" in message


def test_layers_are_compiled_for_gpus_alone(refusal: Refusal):
    message = refusal({"model.compile": True})
    assert "model.compile is True" in message
    assert "be false on cpu in 32-true" in message
    assert "trainer.precision bf16-mixed" in message


# Other verbs, and the real command


def test_prepare_refuses_what_fit_refuses(refusal: Refusal, mnli: Path):
    path = write_mnli(mnli, "train", {**PAIRS, "label": [0, 1, 7]})
    message = refusal({"data.root": mnli}, verb=prepare)
    assert f"{path}, row 2" in message
    assert "label 7" in message


def test_prepare_suggests_the_key_that_was_meant(refusal: Refusal):
    assert "data.temperature" in refusal({"data.temprature": 3}, verb=prepare)


def test_the_command_itself_prints_one_message_and_exits_with_an_error(tiny_run: Command, tmp_path: Path):
    command = [sys.executable, "-m", "xlt.fit", *tiny_run(tmp_path / "run", {"data.tasks": "[mnli, qpq]"})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode not in (0, None)
    message = the_message(done.stderr)
    assert "unknown task 'qpq'" in message
    assert "Did you mean qqp?" in message
    assert "Traceback" not in done.stdout


TWO = {"trainer.devices": 2, "trainer.strategy": "ddp_find_unused_parameters_true"}


@pytest.mark.slow
def test_batches_that_the_processes_cannot_share_are_refused(tiny_run: Command, mnli: Path, tmp_path: Path):
    changes = {"data.tasks": "[mnli]", "data.root": mnli, "data.micro_batches_per_step": 3, **TWO}
    code, output = launch(tiny_run(tmp_path / "run", changes))
    assert code not in (0, None)
    message = the_message(output)
    assert "data.micro_batches_per_step is 3" in message
    assert "2 processes" in message
    assert "1, 3" in message
    assert not events(tmp_path / "run")


@pytest.mark.slow
def test_two_processes_name_a_bad_row_and_stop(tiny_run: Command, mnli: Path, tmp_path: Path):
    path = write_mnli(mnli, "train", {**PAIRS, "label": [0, 1, 7]})
    changes = {"data.tasks": "[mnli]", "data.root": mnli, "data.cache": tmp_path / "cache", **TWO}
    code, output = launch(tiny_run(tmp_path / "run", changes))
    assert code not in (0, None)
    assert f"{path}, row 2" in output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "no config is given: name one, as in --config configs/quickstart.yaml. --help lists all keys"),
        (["--config=EMPTY"], "EMPTY is empty: write keys such as data.tasks into it"),
        (["--data.tasks=[mnli]"], "model.encoder is required: set it in the config, or give --model.encoder"),
        (
            ["--config=TASKS"],
            "data.tasks must be a list, not mnli: write --data.tasks",
        ),
        (["--seed_everything=-1"], "seed_everything is -1: it must be a whole number from 0 to 4294967295"),
    ],
)
@pytest.mark.parametrize("command", [fit, prepare])
def test_what_is_missing_or_no_list_is_said_without_pythons_terms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str, command: Any
):
    (tmp_path / "EMPTY").write_text("")
    (tmp_path / "TASKS").write_text("model: {encoder: e}\ndata: {tasks: mnli}\n")
    given = [argument.replace("=EMPTY", f"={tmp_path}/EMPTY") for argument in args]
    given = [argument.replace("=TASKS", f"={tmp_path}/TASKS") for argument in given]
    if any("seed" in argument for argument in args):
        given += ["--model.encoder=e", "--data.tasks=[mnli]"]
    assert run(given, command) == 2
    message = the_message(capsys.readouterr().err)
    assert said in message
    assert "compute_fn" not in message


def test_languages_of_an_evaluation_must_be_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "e.yaml").write_text("languages: en\n")
    assert run(["--out=o", f"--config={tmp_path}/e.yaml"], evaluate) == 2
    assert "languages must be a list, not en: write --languages '[en]'" in capsys.readouterr().err

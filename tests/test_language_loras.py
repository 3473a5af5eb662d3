"""Language LoRA: a LoRA of each test language, in place of English's, below the LoRA of a task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import REPOSITORY, Command, run
from padded import run_padded
from safetensors.torch import load_file, save_file
from test_bad_input import refused
from test_fit import weights
from torch import Tensor
from transformers import XLMRobertaModel

from xlt import tasks
from xlt.batch.batch import Batch
from xlt.data.features import Features, write_features
from xlt.data.sampling.collate import collate
from xlt.evaluate import evaluate
from xlt.evaluation.predict import EvaluationModel
from xlt.models.adapters import exchanged
from xlt.models.transfer_model import logits_of
from xlt.predict import predict

Runs = dict[str, Path]

LORA = {"model.from_scratch": None, "model.lora.rank": 2, "model.lora.targets": "[all-linear]"}
SHORT = {"trainer.max_steps": 3, "trainer.val_check_interval": 3, "model.learning_rate": 0.02}


@pytest.fixture(scope="module")
def roots(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The data roots, and a root of text that stands for English and German."""
    root = tmp_path_factory.mktemp("text")
    rows = pq.read_table(Path(samples[0]) / "nyu-mll/glue/mnli/train.parquet")
    (root / "mono").mkdir()
    for language, column in (("en", "premise"), ("de", "hypothesis")):
        pq.write_table(pa.table({"text": rows[column]}), root / "mono" / f"{language}.parquet")
    return [str(root), *samples]


@pytest.fixture(scope="module")
def args_of(tiny_run: Command, encoder_with_weights: str, roots: list[str]) -> Command:
    """Arguments of a short run with LoRA."""
    own = {"model.encoder": encoder_with_weights, "data.root": f"[{', '.join(roots)}]"}

    def arguments(path: Path, changes: dict[str, Any] | None = None) -> list[str]:
        return tiny_run(path, {**own, **LORA, **SHORT, **(changes or {})})

    return arguments


@pytest.fixture(scope="module")
def runs(args_of: Command, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The LoRA of English, that of German, and a task trained on that of English."""
    folder = tmp_path_factory.mktemp("runs")
    found = {name: folder / name for name in ("en", "de", "task")}
    for language in ("en", "de"):
        assert run(args_of(found[language], {"data.tasks": f"[mlm/{language}]"})) == 0
    changes = {"data.tasks": "[udpos]", "model.language_lora": found["en"]}
    assert run(args_of(found["task"], changes)) == 0
    return found


@pytest.fixture(scope="module")
def plain(args_of: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without LoRA."""
    path = tmp_path_factory.mktemp("plain") / "run"
    no_lora = {key: None for key in LORA if key.startswith("model.lora")}
    assert run(args_of(path, {"data.tasks": "[udpos]", **no_lora})) == 0
    return path


def product_of(path: Path) -> dict[str, Tensor]:
    """The matrices' product for each weight, from the files."""
    config = json.loads((path / "model/adapter/adapter_config.json").read_text())
    found = load_file(path / "model/adapter/adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    return {
        name.removeprefix("base_model.model.").replace(".lora_A", ""): scale
        * (found[name.replace("lora_A", "lora_B")] @ matrix)
        for name, matrix in found.items()
        if "lora_A" in name
    }


@pytest.mark.parametrize("language", [None, "en", "de"])
def test_logits_are_those_of_encoder_plus_language_plus_task(
    runs: Runs, encoder_with_weights: str, tmp_path: Path, language: str | None
):
    by_hand = XLMRobertaModel.from_pretrained(
        encoder_with_weights, add_pooling_layer=False, dtype="float32"
    ).eval()
    products = [product_of(runs[language or "en"]), product_of(runs["task"])]
    assert len(products[0]) == len(products[1]) == 12
    with torch.no_grad():
        for name, weight in by_hand.named_parameters():
            for product in products:
                if name in product:
                    assert product[name].abs().max() > 1e-3
                    weight += product[name]
    lengths = [5, 12]
    ids = np.random.default_rng(0).integers(4, 1000, sum(lengths))
    rows = [list(map(int, part)) for part in np.split(ids, lengths[:1])]
    columns = {
        "input_ids": rows,
        "lengths": [[length] for length in lengths],
        "token_indices": [[1, 2], [0, 3, 11]],
        "targets": [[0, 0], [0, 0, 0]],
    }
    task = tasks.load("udpos")
    batch = _batch(task.name, columns, tmp_path, task.inputs)
    model = EvaluationModel(str(runs["task"]), None, None if language is None else str(runs[language])).eval()
    with torch.no_grad():
        states = torch.cat(run_padded(by_hand, rows))
        head = load_file(runs["task"] / "model/heads.safetensors")
        (weight,) = (tensor for tensor in head.values() if tensor.ndim == 2)
        (bias,) = (tensor for tensor in head.values() if tensor.ndim == 1)
        read = states[[1, 2, 5, 8, 16]]
        found = logits_of(model.encoder, model.head(task), batch)
    torch.testing.assert_close(found, read @ weight.T + bias, rtol=1e-4, atol=1e-5)


def _batch(name: str, columns: Any, folder: Path, inputs: tuple[str, ...]) -> Batch:
    """The rows as a micro-batch."""
    write_features(folder / "features.arrow", [columns])
    return collate(name, Features(folder / "features.arrow"), np.arange(2), inputs, first_position=2)


def test_the_language_lora_stays_as_it_is_in_training(runs: Runs):
    assert not any("language" in name for name in weights(runs["task"]))
    path = sorted((runs["task"] / "checkpoints").glob("step-*.ckpt"))[-1]
    assert len(torch.load(path, weights_only=True)["frozen"]["language_lora"]) == 64


# Evaluation


Evaluate = Callable[..., int | str | None]


@pytest.fixture(scope="module")
def test(runs: Runs, samples: list[str], cache: str) -> Evaluate:
    """Run the evaluation of the task's run; its arguments may be replaced, added, or (None) left out."""

    def call(out: Path, **changes: Any) -> int | str | None:
        settings = {
            "out": out, "root": f"[{', '.join(samples)}]", "cache": cache, "runs": f"[{runs['task']}]",
            "tasks": "[udpos]", "languages": "[en, de, fi]", "volume": 6, "accelerator": "cpu",
            "language_loras": f"{{de: {runs['de']}}}",
        }  # fmt: skip
        chosen = settings | changes
        return run([f"--{key}={value}" for key, value in chosen.items() if value is not None], evaluate)

    return call


def predictions(out: Path, language: str) -> str:
    """The predicted tags of a language."""
    (path,) = (out / "predictions" / "udpos").glob(f"test-{language}.*")
    return path.read_text()


def test_each_language_is_tested_with_its_own_lora(
    runs: Runs, test: Evaluate, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("INFO"):
        assert test(tmp_path / "own") == 0
    assert f"{runs['task']}: en, fi keep the LoRA of the training, {runs['en']}" in caplog.text
    summary = json.loads((tmp_path / "own" / "summary.json").read_text())
    used = {"en": str(runs["en"]), "de": str(runs["de"]), "fi": str(runs["en"])}
    assert summary["language_loras"] == {str(runs["task"]): used}
    assert test(tmp_path / "english", language_loras=None) == 0
    assert "language_loras" not in json.loads((tmp_path / "english" / "summary.json").read_text())
    for language, is_same in (("en", True), ("fi", True), ("de", False)):
        one, other = (
            json.loads((tmp_path / out / "scores" / f"udpos-{language}.json").read_text())
            for out in ("own", "english")
        )
        assert (one["fingerprint"] == other["fingerprint"]) == is_same
        assert is_same <= (
            predictions(tmp_path / "own", language) == predictions(tmp_path / "english", language)
        )


def test_scores_with_another_language_lora_are_not_mixed(
    runs: Runs, test: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert test(tmp_path / "out") == 0
    assert test(tmp_path / "out", language_loras=f"{{de: {runs['en'] / 'model' / 'adapter'}}}") == 2
    assert "udpos-de.json has scores of" in capsys.readouterr().err


@pytest.fixture
def other_lora(runs: Runs, tmp_path: Path) -> Path:
    """The LoRA of German, as if it had been trained on another encoder."""
    folder = tmp_path / "other"
    folder.mkdir()
    source = runs["de"] / "model" / "adapter"
    (folder / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    facts = json.dumps({"encoder_hash": "0" * 64, "language_lora": ""})
    save_file(
        load_file(source / "adapter_model.safetensors"), folder / "adapter_model.safetensors", {"xlt": facts}
    )
    return folder


def test_language_loras_that_do_not_fit_are_refused(
    runs: Runs,
    test: Evaluate,
    other_lora: Path,
    plain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    for changes, told in (
        ({"language_loras": f"{{xx: {runs['de']}}}"}, "language_loras names xx, but no task is evaluated in"),
        (
            {"language_loras": f"{{de: {other_lora}}}"},
            f"the LoRA {other_lora} was trained on other weights than",
        ),
        ({"language_loras": f"{{de: {plain}}}"}, f"{plain} has no LoRA"),
        (
            {"language_loras": f"{{de: {runs['en']}}}"},
            "to de, but that run was trained on mlm/en: name a run",
        ),
        ({"runs": f"[{runs['de']}]", "tasks": "[udpos]"}, "the heads are"),
        (
            {"runs": None, "encoder": runs["task"], "tasks": "[tatoeba]", "languages": None},
            "set runs to runs with",
        ),
    ):
        assert test(tmp_path / "out", **changes) == 2
        assert told in capsys.readouterr().err


def test_predictions_with_a_language_lora_are_those_of_the_evaluation(
    runs: Runs, test: Evaluate, samples: list[str], tmp_path: Path
):
    assert test(tmp_path / "own", languages="[de]") == 0
    source = tmp_path / "own" / "examples" / "udpos" / "de.parquet"
    rows = pq.read_table(source).to_pylist()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"tokens": row["words"]}) + "\n" for row in rows))
    keys = {"run": runs["task"], "input": tmp_path / "rows.jsonl", "out": tmp_path / "found.parquet"}
    keys |= {"language_lora": runs["de"], "accelerator": "cpu"}
    assert run([f"--{key}={value}" for key, value in keys.items()], predict) == 0
    found = pq.read_table(tmp_path / "found.parquet").to_pylist()
    assert [row["prediction"] for row in found] == [row["prediction"] for row in rows]
    close = [pytest.approx(row["probability"], abs=1e-5) for row in rows]
    assert [row["probability"] for row in found] == close


def test_a_run_without_a_language_lora_cannot_exchange_it(
    runs: Runs, args_of: Command, test: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(args_of(tmp_path / "run", {"data.tasks": "[udpos]"})) == 0
    assert test(tmp_path / "out", runs=f"[{tmp_path / 'run'}]") == 2
    assert f"{tmp_path / 'run'} was trained without model.language_lora" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"was trained without model.language_lora, so .* cannot replace it"):
        exchanged(str(tmp_path / "run"), str(runs["de"]))


# Training


def test_language_lora_of_a_run_that_does_not_fit_is_refused(
    args_of: Command,
    other_lora: Path,
    plain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    no_lora = {key: None for key in LORA if key.startswith("model.lora")}
    for keys, told in (
        ({"model.language_lora": other_lora}, f"the LoRA {other_lora} was trained on other weights"),
        ({"model.language_lora": plain}, f"{plain} has no LoRA"),
        ({"model.language_lora": other_lora, **no_lora}, "it must be left out without model.lora"),
    ):
        args = args_of(tmp_path / "run", {"data.tasks": "[udpos]", **keys})
        assert told in refused(args, tmp_path / "run", capsys)


def test_a_folder_of_another_kind_of_adapter_is_refused(
    other_lora: Path, args_of: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = other_lora / "adapter_config.json"
    config = json.loads(path.read_text())
    args = args_of(tmp_path / "run", {"data.tasks": "[udpos]", "model.language_lora": other_lora})
    path.write_text(json.dumps({**config, "use_dora": True}))
    assert "holds more than plain LoRA (a variant in adapter_config.json)" in refused(
        args, tmp_path / "run", capsys
    )
    path.write_text("{")
    assert f"the LoRA in {other_lora} cannot be read" in refused(args, tmp_path / "run", capsys)
    path.write_text(json.dumps(config))
    found = {
        name: tensor[:, :-1] if "lora_A" in name else tensor
        for name, tensor in load_file(other_lora / "adapter_model.safetensors").items()
    }
    save_file(
        {name: tensor.contiguous() for name, tensor in found.items()},
        other_lora / "adapter_model.safetensors",
    )
    message = refused(args, tmp_path / "run", capsys)
    assert "does not fit the encoder: encoder.layer.0" in message
    assert "Name a LoRA that was trained on this encoder" in message


def test_the_configs_of_both_modules_train_one_lora_on_the_other():
    import yaml

    language, task = (
        yaml.safe_load((REPOSITORY / "configs" / "lora" / f"{name}.yaml").read_text())
        for name in ("language", "task")
    )
    assert language["model"]["encoder"] == task["model"]["encoder"]
    assert task["model"]["language_lora"] == language["trainer"]["default_root_dir"].rstrip()

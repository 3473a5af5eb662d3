"""Runs of BERT and ModernBERT: resume to the same digits, export, evaluation of retrieval."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_rows import write_root
from conftest import REPOSITORY, Command, run
from test_fit import assert_same_weights, copy, events, go_back, timeless, weights
from tiny_families import write_family, write_wordpiece
from transformers import AutoModel, AutoTokenizer

from xlt.evaluate import evaluate
from xlt.evaluation.evaluation import Evaluation
from xlt.models.encoders.agreement import run_packed
from xlt.models.encoders.text import Encoder

CHANGES = {
    "data.tasks": "[mnli]",
    "model.learning_rate": 0.003,
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 4,
    "checkpoints.every_n_steps": 2,
}


def write_bert(folder: Path) -> str:
    """A BERT with a WordPiece tokenizer, whose pairs have segment ids."""
    return write_family(folder, "bert", vocab_size=write_wordpiece(folder))


def write_modernbert(folder: Path) -> str:
    """A ModernBERT with the mini tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(REPOSITORY / "encoders" / "mini" / name, folder)
    return write_family(folder, "modernbert", vocab_size=16_384, pad_token_id=1)


@pytest.fixture(scope="module", params=[write_bert, write_modernbert])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an encoder without weights."""
    write: Callable[[Path], str] = request.param
    return write(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def arguments(encoder: str, samples: list[str], tiny_run: Command) -> Command:
    """Arguments of a short run on MNLI."""
    return lambda folder, changes=None: tiny_run(
        folder, CHANGES | {"model.encoder": encoder} | dict(changes or {})
    )


@pytest.fixture(scope="module")
def finished(arguments: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run(arguments(folder)) == 0
    return folder


def test_a_run_resumes_to_the_same_digits(finished: Path, arguments: Command, tmp_path: Path):
    undisturbed = copy(finished, tmp_path)
    go_back(finished, 2)
    shutil.rmtree(finished / "model")
    assert run(arguments(finished)) == 0
    assert timeless(events(finished)) == timeless(events(undisturbed))
    assert_same_weights(weights(finished), weights(undisturbed))


def test_transformers_loads_the_model_of_a_run(finished: Path):
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    model = AutoModel.from_pretrained(finished / "model").eval()
    inputs: Any = tokenizer("a man eats", "soup [SEP] bread", return_tensors="pt")
    segments = inputs.get("token_type_ids")
    assert (segments is not None and segments.any()) == (model.config.model_type == "bert")
    encoder = Encoder(str(finished)).eval()
    found = run_packed(encoder, inputs["input_ids"], segments)
    torch.testing.assert_close(found, model(**inputs).last_hidden_state[0], rtol=1e-4, atol=1e-5)


def test_a_run_is_evaluated_in_retrieval(finished: Path, samples: list[str], cache: str, tmp_path: Path):
    root = write_root(Path(samples[0]), tmp_path)
    settings = {"encoder": finished, "tasks": "[tatoeba]", "root": root, "cache": cache, "accelerator": "cpu"}
    settings |= {"out": tmp_path / "out", "max_length": 128, "stride": 32}
    assert run([f"--{key}={value}" for key, value in settings.items()], evaluate) == 0
    results = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert "tatoeba" in json.dumps(results)


def test_sequences_beyond_the_limit_are_refused_before_any_work(
    encoder: str, arguments: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert run(arguments(tmp_path / "run", {"data.max_length": 513})) == 2
    assert "data.max_length is 513 tokens, but" in capfd.readouterr().err
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"max_length is 513: it must be at most 512 tokens, the limit of"):
        Evaluation(out, encoder=encoder, tasks=["tatoeba"], max_length=513, accelerator="cpu")
    assert not (out / "summary.json").exists()

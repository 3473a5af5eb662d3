"""Inputs of 8,192 tokens: encoded, packed, trained on and scored like short ones."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Command, run
from test_fit import events, steps

LENGTH = 8192


@pytest.fixture(scope="module")
def long_encoder(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny encoder with one head and positions for 8,192 tokens."""
    folder = tmp_path_factory.mktemp("long") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"max_position_embeddings": LENGTH + 2, "num_attention_heads": 1, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of text: some texts longer than the limit, and short ones."""
    root = tmp_path_factory.mktemp("texts")
    (root / "mono").mkdir()
    long = [" ".join(f"Sentence {i} of document {n}." for i in range(1500)) for n in range(2)]
    short = [f"A short sentence with the number {n}." for n in range(40)]
    pq.write_table(pa.table({"text": [*long, *short]}), root / "mono" / "en.parquet")
    return root


def test_a_run_reads_sequences_of_8192_tokens(
    long_encoder: str, long_texts: Path, tiny_run: Command, tmp_path: Path
):
    keys = {
        "model.encoder": long_encoder,
        "data.tasks": "[mlm/en]",
        "data.root": long_texts,
        "data.cache": tmp_path / "cache",
        "data.max_length": LENGTH,
        "data.tokens_per_micro_batch": LENGTH,
        "data.validation_volume": 4,
        "trainer.max_steps": 3,
        "trainer.val_check_interval": 3,
        "trainer.log_every_n_steps": 1,
        "model.dropout": 0,
    }
    assert run(tiny_run(tmp_path / "run", keys)) == 0
    found = steps(tmp_path / "run")
    assert len(found) == 3
    # A step has two micro-batches of at most 8,192 tokens.
    assert LENGTH < found[-1]["train/tokens"] <= 3 * 2 * LENGTH
    figures = json.loads((tmp_path / "run" / "results.json").read_text())
    assert figures["run"]["padding_share"] < 0.1
    assert 0 < figures["mlm/en"]["loss"] < 12
    assert [event["step"] for event in events(tmp_path / "run") if "val/score" in event] == [3]


def test_a_limit_beyond_the_encoders_positions_is_refused(
    long_encoder: str, long_texts: Path, tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    keys = {"model.encoder": long_encoder, "data.tasks": "[mlm/en]", "data.root": long_texts}
    sizes = {"data.max_length": LENGTH + 1, "data.tokens_per_micro_batch": 2 * LENGTH}
    assert run(tiny_run(tmp_path / "run", keys | sizes)) == 2
    assert (
        f"data.max_length is 8193 tokens, but {long_encoder} has positions for 8192"
        in capsys.readouterr().err
    )

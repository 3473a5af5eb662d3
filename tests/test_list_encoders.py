"""`xlt encoders` lists the families, and compares an encoder with transformers' own model."""

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, run
from tiny_families import CONFIGS, write_family

import xlt.list_encoders
from xlt.list_encoders import list_encoders
from xlt.models.encoders.agreement import Agreement
from xlt.models.encoders.families import FAMILIES
from xlt.models.encoders.text import Encoder

MINI = str(REPOSITORY / "encoders" / "mini")


def test_the_table_lists_each_family_with_its_examples(capsys: pytest.CaptureFixture[str]):
    assert run([], list_encoders) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[0].split() == ["model_type", "longest", "tested", "such", "as"]
    for name in (*CONFIGS, *(example for family in FAMILIES.values() for example in family.examples)):
        assert re.search(rf"(^|\s){name}\s", output), name
    assert max(map(len, output.splitlines())) <= 110


def test_an_encoder_is_compared(capsys: pytest.CaptureFixture[str]):
    assert run([MINI], list_encoders) == 0
    output = capsys.readouterr().out
    assert f"{MINI}: xlm-roberta, 4 layers x 256, 16,384 word embeddings, at most 512 tokens" in output
    found = re.findall(r"largest difference of (\w+) +([\d.e-]+), largest \w+ ([\d.e+-]+)", output)
    assert [name for name, *_ in found] == ["states", "gradients"]
    assert all(0 < float(difference) < 1e-4 * float(largest) for _, difference, largest in found)


def test_an_encoder_that_differs_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(xlt.list_encoders, "agreement", lambda _: Agreement((1,), 1.0, 2.0, 0.0, 1.0))
    assert run([MINI], list_encoders) == 2
    assert (
        "differs from transformers' own model by more than 0.0001 of the largest" in capsys.readouterr().err
    )


def test_an_encoder_of_another_family_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.json").write_text('{"model_type": "electra"}', encoding="utf-8")
    assert run([str(tmp_path)], list_encoders) == 2
    assert "has the type electra" in capsys.readouterr().err


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_family_can_be_compared_from_a_folder(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    encoder = Encoder(write_family(tmp_path / "config", kind), from_scratch=True)
    encoder.transformer.save_pretrained(tmp_path / "model")
    assert run([str(tmp_path / "model")], list_encoders) == 0
    assert f": {kind}, 4 layers x 32" in capsys.readouterr().out

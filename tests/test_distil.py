"""Distillation: its loss, the files of the teacher's vectors, and its runs."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import launch
from conftest import REPOSITORY, Command, run
from safetensors.torch import load_file
from test_fit import DDP, assert_close, events, timeless
from transformers import AutoModel, AutoTokenizer

from xlt import tasks
from xlt.batch.packing import pack
from xlt.batch.predictions import Predictions
from xlt.data.array_store import ArrayStore
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Text
from xlt.data.teacher import TEXT_KEY, TaughtFeatures, Teacher, text_key
from xlt.datamodule import TransferData
from xlt.kinds import Distillation
from xlt.models.heads.distillation import DistillationHead
from xlt.splits import teaching
from xlt.system.checks import NotFiniteError
from xlt.system.precision import fast_precision
from xlt.training.exporting import export_run

MINI = str(REPOSITORY / "encoders" / "mini")


@pytest.fixture(scope="module")
def root(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of text: premises and hypotheses of MNLI as two languages and their pairs."""
    folder = tmp_path_factory.mktemp("text")
    rows = pq.read_table(Path(samples[0]) / "nyu-mll/glue/mnli/train.parquet").to_pydict()
    first, second = rows["premise"][:400], rows["hypothesis"][:400]
    (folder / "mono").mkdir()
    (folder / "parallel").mkdir()
    pq.write_table(pa.table({"text": first}), folder / "mono" / "aa.parquet")
    pq.write_table(pa.table({"source": first, "target": second}), folder / "parallel" / "aa-bb.parquet")
    return folder


Write = Callable[..., None]


@pytest.fixture
def write_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write the user's tasks mylab.distil and mylab.pairs, whose teacher is encoders/mini or another."""
    package = tmp_path / "mylab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(encoder: str = MINI, **settings: object) -> None:
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        for name, source in (("distil", "distil"), ("pairs", "distil_pairs")):
            sys.modules.pop(f"mylab.{name}", None)
            (package / f"{name}.py").write_text(
                "from dataclasses import replace\n"
                "from xlt.data.teacher import Teacher\n"
                f"from xlt.tasks import {source}\n"
                f"TASK = replace({source}.TASK, teacher=Teacher({encoder!r}, {given}))\n"
            )

    write()
    return write


def data_of(root: Path, cache: Path, encoder: str, name: str = "mylab.distil", **keys: Any) -> TransferData:
    """The prepared data of one task."""
    settings = {"max_length": 64, "stride": 16, "tokens_per_micro_batch": 1024, "micro_batches_per_step": 2}
    data = TransferData([name], root=str(root), cache=str(cache), encoder=encoder, **settings | keys)
    data.prepare_data()
    return data


# Loss


def columns_of(teacher: list[list[float]], negatives: list[list[float]]) -> dict[str, torch.Tensor]:
    return {"teacher": torch.tensor(teacher).flatten(), "negatives": torch.tensor(negatives)}


def test_loss_is_the_one_worked_out_by_hand():
    head = DistillationHead(2, 2, temperature=0.5, contrast=2.0)
    head.map.weight.data = torch.eye(2)
    turn = head._orthonormal()
    # Two rows of two sentences; the sums of their states point along (0.6, 0.8), (1, 0), (0, 1), (1, 0).
    states = torch.tensor([[1.0, 1.0], [2.0, 3.0], [5.0, 0.0], [0.0, 7.0], [2.0, 0.0]]) @ turn
    teacher = [[1.0, 0.0], [0.0, 1.0]]
    columns = columns_of(teacher, [[1.0, 0.0], [-1.0, 0.0]])
    packing = pack([2, 1, 1, 1])
    vectors = head(states, packing, columns)
    expected = torch.tensor([[[0.6, 0.8], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    assert torch.allclose(vectors, expected, atol=1e-6)
    # Row 0: its own vector is (1, 0). The negative (1, 0) is the same sentence, and only (-1, 0) counts.
    # Cosines with the own vector 0.6, 1; with the negative -0.6, -1; divided by 0.5.
    first = (0.4 + 2 * np.log1p(np.exp((-0.6 - 0.6) / 0.5)) + 0 + 2 * np.log1p(np.exp((-1 - 1) / 0.5))) / 2
    # Row 1: its own vector is (0, 1), and both negatives count. Cosines 1 and 0; 0 0 and 1 -1.
    one = 0 + 2 * np.log(1 + 2 * np.exp((0 - 1) / 0.5))
    other = 1 + 2 * np.log(1 + np.exp((1 - 0) / 0.5) + np.exp((-1 - 0) / 0.5))
    assert head.loss(vectors, packing, columns).item() == pytest.approx(first + (one + other) / 2, rel=1e-6)


@pytest.mark.parametrize("hidden", [3, 5])
def test_a_student_that_is_not_wider_than_its_teacher_keeps_its_cosines(hidden: int):
    torch.manual_seed(0)
    head = DistillationHead(hidden, 5, temperature=1.0, contrast=0.0)
    states = torch.randn(4, hidden)
    vectors = head(states, pack([1] * 4), {"teacher": torch.zeros(20)})[:, 0]
    lengths = states.norm(dim=1)
    assert torch.allclose(vectors @ vectors.T, states @ states.T / torch.outer(lengths, lengths), atol=1e-5)


def test_a_wider_student_is_mapped_too():
    head = DistillationHead(5, 3, temperature=1.0, contrast=1.0)
    columns = columns_of([[1.0, 0.0, 0.0]] * 2, [[0.0, 1.0, 0.0]])
    vectors = head(torch.randn(4, 5), pack([1] * 4), columns)
    assert vectors.shape == (2, 2, 3)
    head.loss(vectors, pack([1] * 4), columns).backward()
    assert head.map.weight.grad is not None
    assert head.map.weight.grad.isfinite().all()


def test_score_is_the_share_of_sentences_whose_own_vector_is_the_nearest():
    task = tasks.load("distil_pairs")
    teacher = np.eye(4, dtype=np.float32)

    class Rows:
        def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            assert column == "teacher"
            return teacher[rows].ravel(), np.full(len(rows), 4)

    student = np.stack([teacher, teacher[[0, 1, 3, 2]]], 1)  # rows 2 and 3 are confused on one side
    scores = task.score(Predictions({"vectors": student}, Rows(), np.arange(4)))
    assert scores.metrics == {"accuracy": 75.0}
    assert scores.chance == {"accuracy": 25.0}
    assert scores.details == {"cosine": 0.75}


# Rows


def test_a_pair_is_two_sequences_with_the_hash_of_the_translation():
    text = TextEncoder(load_tokenizer(MINI), 32, 8)
    columns, cut = tasks.load("distil_pairs").encode([Text("Ein Haus.", "A house.")], 3, text)
    ids = [text.tokenizer(side).input_ids for side in ("Ein Haus.", "A house.")]
    assert columns["input_ids"] == [ids[0] + ids[1]]
    assert columns["lengths"] == [[len(ids[0]), len(ids[1])]]
    assert columns[TEXT_KEY] == [text_key("A house.")]
    assert (columns["example"], cut) == ([[3]], 0)
    assert tasks.load("distil").encode([Text("A house.")], 0, text)[0][TEXT_KEY] == [text_key("A house.")]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"temperature is 0 and num_negatives is 512: temperature must be"):
        Distillation(source=(), read=Text, teacher=Teacher(MINI), temperature=0)


# The files of vectors


def test_a_write_that_was_killed_is_repaired(tmp_path: Path):
    store = ArrayStore(tmp_path, (3,))
    keys, vectors = np.array([9, 4], np.uint64), np.arange(6, dtype=np.float16).reshape(2, 3)
    store.add(keys, vectors)
    with (tmp_path / "vectors.bin").open("ab") as file:
        file.write(b"torn off")  # a vector and a bit, whose keys were not written
    store = ArrayStore(tmp_path, (3,))
    assert store.find(np.array([4, 5, 9], np.uint64)).tolist() == [1, -1, 0]
    store.add(np.array([5], np.uint64), np.full((1, 3), 7, np.float16))
    store.refresh()
    assert store.arrays.tolist() == [*vectors.tolist(), [7, 7, 7]]
    assert store.find(np.array([5], np.uint64)).tolist() == [2]


def test_vectors_are_the_means_of_the_teachers_last_layer(root: Path, tmp_path: Path, write_tasks: Write):
    write_tasks(prefix="query: ", max_length=24, precision="32-true")
    data = data_of(root, tmp_path, MINI, volume=5, validation_volume=1)
    features, rows = data.encoded["distil/aa"]["train"].features, data.rows_in_use("distil/aa", "train")
    found = features.gather("teacher", rows)[0].reshape(5, -1)
    model, tokenizer = (
        AutoModel.from_pretrained(MINI, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(MINI),
    )
    texts = {
        tuple(text_key(text)): text for text in pq.read_table(root / "mono/aa.parquet")["text"].to_pylist()
    }
    for row, vector in zip(rows, found, strict=True):
        text = texts[tuple(features.gather(TEXT_KEY, np.array([row]))[0].tolist())]
        ids = tokenizer("query: " + text, truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            mean = model(**ids).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=2e-4)


def test_a_text_is_read_once_and_only_if_a_row_in_use_has_it(
    root: Path, tmp_path: Path, write_tasks: Write, monkeypatch: pytest.MonkeyPatch
):
    read: list[str] = []
    vectors = teaching._Model.vectors

    def counted(model: teaching._Model, texts: list[str]) -> tuple[np.ndarray, int]:
        read.extend(texts)
        return vectors(model, texts)

    monkeypatch.setattr(teaching._Model, "vectors", counted)
    data = data_of(root, tmp_path, MINI, volume=20, validation_volume=2)
    assert len(read) == 22
    again = data_of(root, tmp_path, MINI, volume=20, validation_volume=2)
    longer = data_of(root, tmp_path, MINI, volume=20, validation_volume=2, max_length=48)
    assert len(read) == 22
    rows = data.rows_in_use("distil/aa", "train")
    first = [
        d.encoded["distil/aa"]["train"].features.gather("teacher", rows)[0] for d in (data, again, longer)
    ]
    assert (first[0] == first[1]).all()
    assert (first[0] == first[2]).all()
    data_of(root, tmp_path, MINI, volume=25, validation_volume=2)
    assert len(read) == len(set(read)) == 27
    # Texts of another task of the same teacher count, too: the sources of the pairs are not read.
    data_of(root, tmp_path, MINI, "mylab.pairs", volume=20, validation_volume=2)
    assert len(read) == len(set(read))
    assert set(read[27:]) <= set(pq.read_table(root / "parallel/aa-bb.parquet")["target"].to_pylist())
    # Another teacher has files of its own: another prefix, limit or precision, other weights.
    assert len(list(tmp_path.glob("teacher-*"))) == 1
    other = "32-true" if fast_precision("auto") == "bf16-mixed" else "bf16-mixed"
    for number, settings in enumerate(({"prefix": "query: "}, {"max_length": 32}, {"precision": other})):
        write_tasks(**settings)
        data_of(root, tmp_path, MINI, volume=3, validation_volume=2)
        assert len(list(tmp_path.glob("teacher-*"))) == 2 + number


def test_an_interrupted_computation_continues_with_the_same_vectors(
    root: Path, tmp_path: Path, write_tasks: Write, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(teaching, "CHUNK", 8)
    whole = data_of(root, tmp_path / "whole", MINI, volume=30, validation_volume=2)
    add, calls = ArrayStore.add, []

    def killed(store: ArrayStore, keys: np.ndarray, vectors: np.ndarray) -> None:
        calls.append(len(keys))
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(store, keys, vectors)

    monkeypatch.setattr(ArrayStore, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        data_of(root, tmp_path / "cut", MINI, volume=30, validation_volume=2)
    resumed = data_of(root, tmp_path / "cut", MINI, volume=30, validation_volume=2)
    assert calls == [8, 8, 8, 8, 6, 2]
    rows = whole.rows_in_use("distil/aa", "train")
    pair = [d.encoded["distil/aa"]["train"].features.gather("teacher", rows)[0] for d in (whole, resumed)]
    assert (pair[0] == pair[1]).all()


def test_the_teacher_is_part_of_the_fingerprint(
    root: Path, tmp_path: Path, write_tasks: Write, encoder_with_weights: str
):
    one = data_of(root, tmp_path, MINI, volume=3, validation_volume=2).fingerprint()
    same = data_of(root, tmp_path, MINI, volume=3, validation_volume=2).fingerprint()
    assert one == same
    write_tasks(encoder_with_weights)
    other = data_of(root, tmp_path, MINI, volume=3, validation_volume=2).fingerprint()
    assert {key for key in one if one[key] != other[key]} == {
        "rows of distil/aa",
        "validation rows of distil/aa",
    }


# Steps


def test_negatives_are_those_of_the_step_however_its_rows_are_divided(
    root: Path, tmp_path: Path, write_tasks: Write
):
    data = data_of(root, tmp_path, MINI, volume=200, validation_volume=2)
    halves = data_of(
        root,
        tmp_path,
        MINI,
        volume=200,
        validation_volume=2,
        tokens_per_micro_batch=512,
        micro_batches_per_step=4,
    )
    alone = data.build_steps(4, 0, 1)[1]
    shared = [batch for rank in (0, 1) for batch in data.build_steps(4, rank, 2)[1]]
    negatives = [b.columns["negatives"] for b in (*alone, *shared, *halves.build_steps(4, 0, 1)[1])]
    assert all(torch.equal(negatives[0], other) for other in negatives)
    assert 100 < len(negatives[0]) <= 200
    assert not torch.equal(negatives[0], data.build_steps(4, 0, 1)[2][0].columns["negatives"])
    features = data.encoded["distil/aa"]["train"].features
    assert isinstance(features, TaughtFeatures)
    rows = data.rows_in_use("distil/aa", "train")
    known = {vector.tobytes() for vector in features.gather("teacher", rows)[0].reshape(len(rows), -1)}
    assert all(vector.numpy().tobytes() in known for vector in negatives[0])


# Errors


def test_a_teacher_that_is_not_there_is_named(root: Path, tmp_path: Path, write_tasks: Write):
    write_tasks("encoders/nobody")
    message = r"the teacher 'encoders/nobody' of distil/aa cannot be loaded: .* or name another teacher"
    with pytest.raises(FileNotFoundError, match=message):
        data_of(root, tmp_path / "cache", MINI)
    assert not (tmp_path / "cache").exists()  # before any row was encoded


def test_a_teacher_reads_no_more_tokens_than_it_has_positions_for(
    root: Path, tmp_path: Path, write_tasks: Write
):
    write_tasks(max_length=1000)
    message = r"max_length of the teacher of distil/aa is 1000: it must be from 8 to 512 tokens"
    with pytest.raises(ValueError, match=message):
        data_of(root, tmp_path, MINI)


def test_a_teacher_whose_vectors_are_not_finite_is_refused(
    root: Path, tmp_path: Path, write_tasks: Write, monkeypatch: pytest.MonkeyPatch
):
    nan = torch.full((300, 256), torch.nan)
    monkeypatch.setattr(teaching._Model, "_means", lambda model, sequences: nan[: len(sequences)])
    with pytest.raises(
        NotFiniteError, match=r"gives vectors that are not finite in (bf16-mixed|32-true): name another"
    ):
        data_of(root, tmp_path, MINI)


def test_tasks_with_a_common_head_have_one_teacher(root: Path, tmp_path: Path, write_tasks: Write):
    pairs = tmp_path / "mylab" / "pairs.py"
    pairs.write_text(pairs.read_text().replace("Teacher(", "Teacher(prefix='query: ', encoder="))
    data = TransferData(["mylab.distil", "mylab.pairs"], root=str(root), cache=str(tmp_path), encoder=MINI)
    with pytest.raises(ValueError, match=r"distil/aa and pairs/aa-bb share a head, but have the teachers"):
        data.prepare_data()


# Runs


@pytest.fixture
def keys(root: Path, tmp_path: Path) -> dict[str, Any]:
    """Keys of a short run of both tasks."""
    return {
        "data.tasks": "[mylab.distil, mylab.pairs]",
        "data.root": str(root),
        "data.cache": str(tmp_path / "cache"),
        "data.validation_volume": 8,
        "model.learning_rate": 3e-3,
        "trainer.max_steps": 30,
        "trainer.val_check_interval": 15,
        "checkpoints.every_n_steps": 10,
    }


CHANCE = {"distil/aa": 25.0, "pairs/aa-bb": 12.5}
"""Accuracy, in percent, of a student that knows nothing: 4 and 8 held-out rows."""


@pytest.mark.usefixtures("write_tasks")
def test_a_student_comes_nearer_its_teacher_and_a_killed_run_continues_with_every_digit(
    tiny_run: Command, keys: dict[str, Any], tmp_path: Path
):
    finished = tmp_path / "run"
    assert run(tiny_run(finished, keys)) == 0
    found = events(finished)
    for task in ("distil/aa", "pairs/aa-bb"):
        losses = [event[f"train/{task}/loss"] for event in found if f"train/{task}/loss" in event]
        cosines = [event[f"val/{task}/cosine"] for event in found if f"val/{task}/cosine" in event]
        assert losses[-1] < losses[0] - 1
        assert cosines == sorted(cosines)
        assert found[-1][f"val/{task}/accuracy"] > 2 * CHANCE[task]
    folder = Path(shutil.copytree(finished, tmp_path / "again"))
    (folder / "results.json").unlink()
    (folder / "checkpoints" / "step-000000030.ckpt").unlink()
    assert run(tiny_run(folder, keys)) == 0
    assert timeless(events(folder)) == timeless(found)
    state = torch.load(folder / "checkpoints" / "step-000000030.ckpt", weights_only=True)["state_dict"]
    assert [key for key in state if key.startswith("heads.")] == ["heads.distil.map.weight"]
    export_run(finished, tmp_path / "sentences", head="distil")
    assert (tmp_path / "sentences" / "modules.json").is_file()
    best = json.loads((finished / "results.json").read_text())["run"]["best_step"]
    path = finished / "checkpoints" / f"step-{best:09d}.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    student = load_file(tmp_path / "sentences" / "model.safetensors")
    assert len(student) == sum(key.startswith("encoder.transformer.") for key in state)
    assert all(torch.equal(state[f"encoder.transformer.{name}"], tensor) for name, tensor in student.items())


@pytest.mark.slow
@pytest.mark.usefixtures("write_tasks")
def test_two_processes_train_as_one(tiny_run: Command, keys: dict[str, Any], tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(tiny_run(one, keys | {"trainer.max_steps": 12})) == 0
    # A cache of their own: the second process waits for the first one's vectors.
    changes = DDP | {"trainer.max_steps": 12, "data.cache": str(tmp_path / "other")}
    code, output = launch(tiny_run(two, keys | changes))
    assert code == 0, output
    assert_close(two, one, 2e-5, 1e-6)

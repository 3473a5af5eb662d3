"""Training of only the word embeddings that the run's data read, against training of the whole table."""

import json
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from xlt.data.features import Features, write_features
from xlt.datamodule import TransferData
from xlt.models.kernels.embedding import WordEmbedding, hold_gradients
from xlt.models.optim import adamw
from xlt.training.checkpoint_files import newest, path_of, step_of

LAW = settings(deadline=None, max_examples=40, derandomize=True, database=None)
PIECES, WIDTH, PAD = 12, 4, 1
WORDS = "encoder.transformer.embeddings.word_embeddings.weight"


def tables(ids: list[int], padding: int | None = PAD) -> tuple[WordEmbedding, nn.Embedding]:
    """A table that trains these rows only, and torch's own with the same weights."""
    torch.manual_seed(0)
    plain = nn.Embedding(PIECES, WIDTH, padding)
    ours = hold_gradients(deepcopy(plain))
    ours.train_only(torch.tensor(ids))
    return ours, plain


def train(table: nn.Embedding, steps: list[list[int]], weight_decay: float) -> Tensor:
    """Train a table on the ids of each step; return the whole table."""
    optimizer = adamw(table, 0.1, weight_decay)
    for ids in steps:
        optimizer.zero_grad()
        states = table(torch.tensor([ids]))
        (states**2 * torch.arange(1.0, states.numel() + 1).view(states.shape)).sum().backward()
        optimizer.step()
    return table.state_dict()["weight"]


read = st.lists(st.lists(st.integers(0, PIECES - 1), min_size=1, max_size=20), min_size=1, max_size=5)


@LAW
@given(read, st.sampled_from([None, PAD]), st.sets(st.integers(0, PIECES - 1)))
def test_rows_in_use_are_trained_as_in_the_whole_table(
    steps: list[list[int]], padding: int | None, more: set[int]
) -> None:
    ids = sorted({i for step in steps for i in step} | more)
    ours, theirs = tables(ids, padding)
    before = theirs.weight.detach().clone()
    found, expected = train(ours, steps, 0.01), train(theirs, steps, 0.01)
    torch.testing.assert_close(found[ids], expected[ids], rtol=1e-6, atol=1e-7)
    others = sorted(set(range(PIECES)) - set(ids))
    # No weight decay where no example reads: these rows keep every bit.
    assert torch.equal(found[others], before[others])


def test_without_weight_decay_the_whole_table_is_the_same() -> None:
    ours, theirs = tables([2, 3, 5])
    torch.testing.assert_close(train(ours, [[2, 3], [5, 5]], 0.0), train(theirs, [[2, 3], [5, 5]], 0.0))


def test_only_the_rows_in_use_are_parameters() -> None:
    ours, _ = tables([2, 3, 5])
    assert [tuple(p.shape) for p in ours.parameters()] == [(3, WIDTH)]
    assert ours.state_dict()["weight"].shape == (PIECES, WIDTH)


def test_an_id_that_is_not_in_use_is_an_error() -> None:
    ours, _ = tables([2, 3, 5])
    with pytest.raises(IndexError):
        ours(torch.tensor([4]))


def test_a_whole_table_can_be_loaded_and_saved_again() -> None:
    ours, theirs = tables([2, 3, 5])
    other = torch.randn(PIECES, WIDTH)
    ours.load_state_dict({"weight": other.clone()})
    assert torch.equal(ours.weight, other[[2, 3, 5]])
    assert torch.equal(ours.state_dict()["weight"], other)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs.weight, other)


def test_rows_can_be_chosen_again() -> None:
    ours, theirs = tables([2, 3])
    torch.testing.assert_close(train(ours, [[2, 3]], 0.0), train(theirs, [[2, 3]], 0.0))
    ours.train_only(torch.tensor([3, 7]))
    assert torch.equal(ours.weight, theirs.weight[[3, 7]])
    assert torch.equal(ours.state_dict()["weight"], theirs.weight)


def test_copies_and_pickles_have_a_table_of_their_own() -> None:
    ours, _ = tables([2, 3])
    before = ours.state_dict()["weight"].clone()
    for other in (deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        train(other, [[2, 3]], 0.1)
        assert torch.equal(ours.state_dict()["weight"], before)


def test_moments_of_all_rows_are_cut_to_the_rows_in_use() -> None:
    ours, _ = tables([2, 5])
    whole = torch.arange(float(PIECES * WIDTH)).view(PIECES, WIDTH)
    state = {"step": torch.tensor(3.0), "exp_avg": whole, "exp_avg_sq": whole[[2, 5]]}
    found = ours.moments_in_use(state)
    assert torch.equal(found["exp_avg"], whole[[2, 5]])
    assert torch.equal(found["exp_avg_sq"], whole[[2, 5]])
    assert found["step"] == 3


@LAW
@given(st.lists(st.lists(st.integers(0, 50), max_size=6), min_size=1, max_size=30), st.data())
def test_distinct_values_are_those_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, values: list[list[int]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("features") / "features.arrow"
    write_features(path, [{"input_ids": values}])
    rows = sorted(data.draw(st.sets(st.integers(0, len(values) - 1))))
    found = Features(path).distinct("input_ids", np.array(rows, np.int64))
    assert found.tolist() == sorted({value for row in rows for value in values[row]})


# Runs

RUN = {
    "data.tasks": "[mnli, squad_v1]",
    "data.volume": 40,
    "trainer.max_steps": 6,
    "trainer.val_check_interval": 3,
    "trainer.log_every_n_steps": 1,
    "checkpoints.every_n_steps": 3,
    "trainer.gradient_clip_val": 1.0,
}


def losses(folder: Path) -> list[float]:
    """Each step's loss."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event["train/loss"] for event in events if "train/loss" in event]


def checkpoint(folder: Path) -> dict[str, Any]:
    """The run's newest checkpoint."""
    return torch.load(sorted((folder / "checkpoints").glob("step-*.ckpt"))[-1], weights_only=True)


def rows_of_moments(folder: Path) -> int:
    """Number of word embeddings whose moments the newest checkpoint holds."""
    states = checkpoint(folder)["optimizer_states"][0]["state"].values()
    return max(len(state["exp_avg"]) for state in states)


@pytest.fixture(scope="module")
def ours(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained the rows in use."""
    folder = tmp_path_factory.mktemp("ours") / "run"
    assert run(tiny_run(folder, RUN)) == 0
    return folder


@pytest.fixture(scope="module")
def whole(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, which trained the whole table."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferData, "token_ids", lambda _: None)
        assert run(tiny_run(folder, RUN)) == 0
    return folder


def test_a_run_has_the_losses_and_weights_of_one_that_trains_the_whole_table(ours: Path, whole: Path) -> None:
    assert losses(ours) == pytest.approx(losses(whole), rel=1e-6)
    found, expected = checkpoint(ours)["state_dict"], checkpoint(whole)["state_dict"]
    assert found.keys() == expected.keys()
    for name in found.keys() - {WORDS}:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-7)
    assert 100 < rows_of_moments(ours) < len(found[WORDS]) / 2
    # Weight decay is the only difference of the other rows: 1e-3 * 0.01 a step at most.
    torch.testing.assert_close(found[WORDS], expected[WORDS], rtol=1e-4, atol=1e-7)


def test_a_run_that_trained_the_whole_table_continues_with_the_rows_in_use(
    whole: Path, tiny_run: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    changes = {**RUN, "checkpoints.keep_last": 5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferData, "token_ids", lambda _: None)
        assert run(tiny_run(folder, changes)) == 0
    path_of(folder / "checkpoints", 6).unlink()
    (folder / "results.json").unlink()
    assert step_of(newest(folder / "checkpoints")) == 3
    assert rows_of_moments(folder) == len(checkpoint(whole)["state_dict"][WORDS])
    assert run(tiny_run(folder, changes)) == 0
    assert step_of(newest(folder / "checkpoints")) == 6
    assert 100 < rows_of_moments(folder) < len(checkpoint(whole)["state_dict"][WORDS]) / 2
    assert losses(folder) == pytest.approx(losses(whole), rel=1e-6)


def test_a_run_starts_from_one_whose_data_had_other_pieces(
    ours: Path, tiny_run: Command, tmp_path: Path
) -> None:
    changes = {**RUN, "data.tasks": "[ccg]", "model.encoder": ours, "model.from_scratch": "false"}
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    before, after = checkpoint(ours)["state_dict"][WORDS], checkpoint(tmp_path / "run")["state_dict"][WORDS]
    same = (before == after).all(1)
    assert 100 < (~same).sum() < len(same) / 2

"""Gradient checkpointing: the same losses and gradients, bit for bit, with less memory."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import launch
from conftest import Command, run
from padded import WIDTH, random_rows, stored, write_config
from test_fit import DDP, SHORT, assert_same_weights, copy, events, go_back, timeless, weights
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.batch.batch import Batch
from xlt.data.sampling.collate import collate
from xlt.models.encoders.text import Encoder
from xlt.models.transformers_private import recompute

ON = {"model.gradient_checkpointing": "true"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a config of 6 layers with much dropout."""
    path = tmp_path_factory.mktemp("encoder")
    config = XLMRobertaConfig.from_pretrained(write_config(path))
    config.num_hidden_layers = 6
    config.hidden_dropout_prob, config.attention_probs_dropout_prob = 0.3, 0.2
    config.save_pretrained(path)
    return str(path)


def pair(folder: str) -> tuple[Encoder, Encoder]:
    """An encoder that keeps its activations, and a copy that computes them again."""
    torch.manual_seed(0)
    plain = Encoder(folder, from_scratch=True).train()
    again = deepcopy(plain)
    again.recompute_activations()
    return plain, again


def batches(path: Path) -> list[Batch]:
    """Two micro-batches."""
    columns = random_rows([9, 30, 28, 200, 1, 77], 0)
    features = stored(path, columns)
    return [
        collate("task", features, np.array(rows), (), first_position=2) for rows in ([0, 3, 1], [4, 2, 5])
    ]


def read_of(batch: Batch, read: str) -> Tensor | None:
    """Indices of the tokens that are read."""
    if read == "starts":
        return batch.packing.starts
    return None if read == "all" else torch.arange(0, batch.num_tokens, 3)


def step(encoder: Encoder, micro_batches: list[Batch], read: str) -> tuple[list[Tensor], Tensor]:
    """States and draws of a step of several micro-batches, whose gradients are left in the parameters."""
    found = []
    with encoder.words.holding():
        for number, batch in enumerate(micro_batches):
            encoder.words.is_holding = batch is not micro_batches[-1]
            torch.manual_seed(number)
            states = encoder(batch.input_ids, batch.position_ids, batch.packing, read_of(batch, read))
            found.append(states.detach())
            (states * torch.linspace(-1, 1, WIDTH)).square().sum().backward()
    return found, torch.rand(5)


@pytest.mark.parametrize("rows_in_use", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("read", ["all", "starts", "some"])
def test_states_gradients_and_random_numbers_are_the_same_bits(
    read: str, precision: torch.dtype, rows_in_use: bool, folder: str, tmp_path: Path
) -> None:
    encoders, micro_batches = pair(folder), batches(tmp_path)
    ids = torch.cat([batch.input_ids.flatten() for batch in micro_batches]).unique()
    found = []
    for encoder in encoders:
        if rows_in_use:
            encoder.words.train_only(ids)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            states, draws = step(encoder, micro_batches, read)
        gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
        found.append((states, draws, gradients))
    (states, draws, ours), (their_states, their_draws, theirs) = found
    assert all(torch.equal(one, other) for one, other in zip(states, their_states, strict=True))
    assert torch.equal(draws, their_draws)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert gradient.any() or "key.bias" in name, name
        assert torch.equal(gradient, theirs[name]), name


def kept_bytes(encoder: Encoder, batch: Batch) -> int:
    """Memory of the tensors that a forward pass keeps for the backward pass, weights left out."""
    weights, seen = {p.untyped_storage().data_ptr() for p in encoder.parameters()}, {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        states = encoder(batch.input_ids, batch.position_ids, batch.packing)
    assert states.requires_grad
    return sum(seen.values())


def test_a_layer_keeps_nothing_but_its_input(folder: str, tmp_path: Path) -> None:
    plain, again = pair(folder)
    (batch, _) = batches(tmp_path)
    row = batch.num_tokens * WIDTH * 4
    # The inputs of 6 layers, and of the embeddings the input of the norm and the mask; then ids and seeds.
    assert 8 * row < kept_bytes(again, batch) < 9 * row
    # Of each layer at least query, key, value, what attention gives, two masks, and four more that are wider.
    assert kept_bytes(plain, batch) > 6 * 10 * row


def test_evaluation_is_untouched(folder: str, tmp_path: Path) -> None:
    plain, again = pair(folder)
    (batch, _) = batches(tmp_path)
    with torch.inference_mode():
        ours, theirs = (
            encoder.eval()(batch.input_ids, batch.position_ids, batch.packing) for encoder in (plain, again)
        )
    assert torch.equal(ours, theirs)


def test_layers_of_transformers_still_compute_their_activations_again(folder: str) -> None:
    model = XLMRobertaModel(XLMRobertaConfig.from_pretrained(folder), add_pooling_layer=False).train()
    calls: list[str] = []
    recompute(model)
    model.encoder.layer[0].intermediate.register_forward_hook(lambda *_: calls.append("layer"))
    states = model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
    assert len(calls) == 1
    states.sum().backward()
    assert len(calls) == 2


# Runs


@pytest.fixture(scope="module")
def plain_run(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that keeps its activations."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert run(tiny_run(folder, {**SHORT, "checkpoints.every_n_steps": 1})) == 0
    return folder


def test_a_run_has_the_same_losses_and_weights(plain_run: Path, tiny_run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(tiny_run(folder, {**SHORT, **ON, "checkpoints.every_n_steps": 1})) == 0
    assert timeless(events(folder)) == timeless(events(plain_run))
    assert_same_weights(weights(folder), weights(plain_run))


def test_meta_learning_has_the_same_losses_and_weights(tiny_run: Command, tmp_path: Path) -> None:
    keys = {**SHORT, "model.meta.algorithm": "fomaml", "model.meta.inner_learning_rate": 0.1}
    for name, changes in (("plain", {}), ("again", ON)):
        assert run(tiny_run(tmp_path / name, {**keys, **changes, "data.micro_batches_per_step": 4})) == 0
    assert timeless(events(tmp_path / "again")) == timeless(events(tmp_path / "plain"))
    assert_same_weights(weights(tmp_path / "again"), weights(tmp_path / "plain"))


def test_a_run_may_resume_with_gradient_checkpointing(
    plain_run: Path, tiny_run: Command, tmp_path: Path
) -> None:
    folder = copy(plain_run, tmp_path)
    go_back(folder, 2)
    assert run(tiny_run(folder, {**SHORT, **ON, "checkpoints.every_n_steps": 1})) == 0
    assert timeless(events(folder)) == timeless(events(plain_run))
    assert_same_weights(weights(folder), weights(plain_run))


def test_two_processes_have_the_losses_of_one(plain_run: Path, tiny_run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, output = launch(tiny_run(folder, {**SHORT, **ON, **DDP, "checkpoints.every_n_steps": 1}))
    assert code == 0, output[-3000:]
    found = [[e["train/loss"] for e in events(path) if "train/loss" in e] for path in (folder, plain_run)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_gradient_checkpointing_and_compiled_layers_exclude_each_other(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_run(tmp_path / "run", {**SHORT, **ON, "model.compile": "true"})) == 2
    message = capsys.readouterr().err
    assert "model.gradient_checkpointing is True: it must be false with model.compile" in message

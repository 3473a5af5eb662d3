"""Frozen layers: their weights stay, no backward pass runs below them, and checkpoints leave them out."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command, run
from padded import fresh_encoder, random_rows, run_packed, stored, write_config
from safetensors.torch import load_file
from test_bad_input import refused
from test_fit import assert_same_weights, copy, events, go_back, timeless, weights

from xlt.batch.batch import Batch
from xlt.data.sampling.collate import collate
from xlt.models.encoders.text import Encoder
from xlt.models.frozen import freeze, frozen_parameters, hash_of_parameters

LENGTHS = [9, 30, 28]


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    """A packed encoder of two layers."""
    return fresh_encoder(write_config(tmp_path / "encoder"))


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Three sequences of random tokens."""
    return collate("task", stored(tmp_path, random_rows(LENGTHS, 0)), np.arange(3), (), first_position=2)


def backward_functions(states: torch.Tensor) -> list[str]:
    """Names of all functions that a backward pass from the states runs."""
    waiting, seen, names = [states.grad_fn], set(), []
    while waiting:
        function = waiting.pop()
        if function is not None and function not in seen:
            seen.add(function)
            names.append(function.name())
            waiting += [below for below, _ in function.next_functions]
    return names


@pytest.mark.parametrize(("layers", "attentions", "lookups"), [(None, 2, 1), (0, 2, 0), (1, 1, 0), (2, 0, 0)])
def test_no_backward_pass_runs_below_frozen_layers(
    encoder: Encoder, batch: Batch, layers: int | None, attentions: int, lookups: int
):
    if layers is not None:
        freeze(encoder, layers)
    names = backward_functions(run_packed(encoder, batch, batch.packing.starts))
    assert sum("_Blocks" in name for name in names) == attentions
    assert sum("_Lookup" in name for name in names) == lookups


def test_the_gradients_above_are_those_without_frozen_layers(encoder: Encoder, batch: Batch):
    run_packed(encoder, batch).square().sum().backward()
    expected = {name: p.grad for name, p in encoder.named_parameters() if ".layer.1." in name}
    encoder.zero_grad()
    freeze(encoder, 1)
    run_packed(encoder, batch).square().sum().backward()
    found = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert expected[name] is not None
        assert torch.equal(gradient, expected[name]), name


def test_the_hash_follows_every_value_and_name(encoder: Encoder):
    freeze(encoder, 1)
    frozen = frozen_parameters(encoder)
    before = hash_of_parameters(frozen.items())
    assert hash_of_parameters(reversed(frozen.items())) == before
    values = {name: p.detach().clone() for name, p in frozen.items()}
    assert hash_of_parameters(values.items()) == before
    last = list(values)[-1]
    values[last].view(-1)[-1] += 1e-6
    assert hash_of_parameters(values.items()) != before
    values = {f"{name}x" if name == last else name: p for name, p in frozen.items()}
    assert hash_of_parameters(values.items()) != before


CHANGES = {
    "model.from_scratch": None,
    "model.frozen_layers": 1,
    "model.layer_decay": 0.5,
    "data.tasks": "[mnli]",
    "trainer.max_steps": 5,
    "trainer.val_check_interval": 5,
    "checkpoints.every_n_steps": 2,
    "checkpoints.keep_last": 3,
}


@pytest.fixture(scope="module")
def frozen_args(tiny_run: Command, encoder_with_weights: str) -> Command:
    """Arguments of a short run with frozen layers."""

    def arguments(path: Path, changes: dict[str, Any] | None = None) -> list[str]:
        return tiny_run(path, {"model.encoder": encoder_with_weights, **CHANGES, **(changes or {})})

    return arguments


def is_frozen(name: str) -> bool:
    """True for a weight of the embeddings or the lowest layer."""
    return "embeddings." in name or ".layer.0." in name


def test_frozen_weights_stay_and_a_resumed_run_gives_every_digit(
    frozen_args: Command, encoder_with_weights: str, tmp_path: Path
):
    path = tmp_path / "run"
    assert run(frozen_args(path)) == 0
    assert not any(is_frozen(name) for name in weights(path))
    old = load_file(Path(encoder_with_weights) / "model.safetensors")
    for name, tensor in load_file(path / "model" / "model.safetensors").items():
        assert torch.equal(tensor, old[name]) == is_frozen(name), name
    (tmp_path / "undisturbed").mkdir()
    undisturbed = copy(path, tmp_path / "undisturbed")
    go_back(path, 2)
    shutil.rmtree(path / "model")
    assert run(frozen_args(path)) == 0
    assert timeless(events(path)) == timeless(events(undisturbed))
    assert_same_weights(weights(path), weights(undisturbed))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model.frozen_layers": -1}, "model.frozen_layers is -1: it must be a number of layers from 0 to 2"),
        ({"model.frozen_layers": 3}, "model.frozen_layers is 3: it must be a number of layers from 0 to 2"),
        ({"model.from_scratch": "true"}, "model.from_scratch is True: it must be false with model.lora or"),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    frozen_args: Command,
    keys: dict[str, Any],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert told in refused(frozen_args(tmp_path / "run", keys), tmp_path / "run", capsys)

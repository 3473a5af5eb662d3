"""Learning rates by layer: the groups of AdamW, and runs that use them."""

import shutil
from pathlib import Path

import pytest
from conftest import Command
from test_fit import assert_same_weights, copy, events, go_back, run, steps, timeless, weights
from torch import nn

from xlt.models.encoders.text import Encoder
from xlt.models.optim import adamw


class Model(nn.Module):
    """An encoder of two layers and a head, with the names of a TransferModule."""

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, from_scratch=True)
        self.heads = nn.ModuleDict({"mnli": nn.Linear(self.encoder.config.hidden_size, 3)})


@pytest.fixture
def model(tiny_encoder: str) -> Model:
    return Model(tiny_encoder)


def rates(model: Model, **settings: float) -> dict[str, float]:
    """The peak rate of each parameter by its name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = adamw(model, 0.1, 0.01, **settings).param_groups
    found = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(names)
    return found


def test_without_layer_decay_there_are_two_groups_with_one_rate(model: Model):
    groups = adamw(model, 0.1, 0.01).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.01), (0.1, 0.0)]
    ordered = [[p for p in model.parameters() if (p.ndim > 1) == decays] for decays in (True, False)]
    for group, expected in zip(groups, ordered, strict=True):
        assert all(one is other for one, other in zip(group["params"], expected, strict=True))


def test_each_layer_has_the_rate_of_the_layer_above_times_the_decay(model: Model):
    layers = model.encoder.config.num_hidden_layers
    for name, rate in rates(model, layer_decay=0.5).items():
        if name.startswith("heads."):
            expected = 0.1
        elif ".embeddings." in name:
            expected = 0.1 * 0.5**layers
        else:
            layer = int(name.split(".layer.")[1].split(".")[0])
            expected = 0.1 * 0.5 ** (layers - 1 - layer)
        assert rate == pytest.approx(expected), name


def test_the_heads_may_have_a_rate_of_their_own(model: Model):
    found = rates(model, head_learning_rate=0.7)
    assert {rate for name, rate in found.items() if name.startswith("heads.")} == {0.7}
    assert {rate for name, rate in found.items() if not name.startswith("heads.")} == {0.1}


def test_biases_and_norms_have_no_weight_decay_in_any_group(model: Model):
    for group in adamw(model, 0.1, 0.01, layer_decay=0.5, head_learning_rate=0.7).param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)


CHANGES = {
    "data.tasks": "[mnli]",
    "model.learning_rate": 0.003,
    "model.layer_decay": 0.5,
    "model.head_learning_rate": 0.01,
    "model.warmup_steps": 2,
    "trainer.max_steps": 5,
    "trainer.val_check_interval": 5,
    "checkpoints.every_n_steps": 2,
}


def test_a_run_with_rates_by_layer_resumes_to_the_same_digits(tiny_run: Command, tmp_path: Path):
    args = tiny_run(tmp_path / "run", CHANGES)
    assert run(args) == 0
    (tmp_path / "undisturbed").mkdir()
    undisturbed = copy(tmp_path / "run", tmp_path / "undisturbed")
    go_back(tmp_path / "run", 2)
    shutil.rmtree(tmp_path / "run" / "model")
    assert run(args) == 0
    assert timeless(events(tmp_path / "run")) == timeless(events(undisturbed))
    assert_same_weights(weights(tmp_path / "run"), weights(undisturbed))
    # The record holds the top layer's rate: up over two steps, at the peak, and down over the rest.
    expected = [0.003 * share for share in (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3)]
    assert [event["train/learning_rate"] for event in steps(undisturbed)] == pytest.approx(expected)

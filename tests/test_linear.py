"""Linear layers that oneDNN evaluates: against torch's own in double precision."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from padded import fresh_encoder, write_config
from torch import nn
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.models.kernels import linear
from xlt.models.kernels.linear import Intermediate, Linear, replace_linear

needs_onednn = pytest.mark.skipif(not linear.HAS_ONEDNN, reason="torch has no oneDNN for this CPU")


def layer_of(activation: str = "gelu") -> nn.Module:
    """A layer of XLM-R, with biases, for evaluation."""
    config = XLMRobertaConfig(
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=128,
        vocab_size=8,
        hidden_act=activation,
    )
    torch.manual_seed(0)
    model = XLMRobertaModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    replace_linear(model)
    return model.encoder.layer[0]


def operators(run: torch.nn.Module, states: torch.Tensor) -> set[str]:
    """Names of the operators that a module calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        run(states)
    return {event.key for event in profiled.key_averages()}


@pytest.mark.parametrize("tokens", [1, 7, 300])
@pytest.mark.parametrize("half", [False, True])
def test_an_evaluation_gives_what_exact_arithmetic_gives(tokens: int, half: bool):
    wide = layer_of().intermediate
    states = torch.randn(1, tokens, 64, generator=torch.Generator().manual_seed(tokens))
    dense = wide.dense
    operands = [
        tensor.to(torch.bfloat16 if half else torch.float32) for tensor in (states, *dense.parameters())
    ]
    exact = F.linear(*(operand.double() for operand in operands))
    with torch.inference_mode(), torch.autocast("cpu", enabled=half):
        found, activated = dense(states), wide(states)
    assert found.dtype == activated.dtype == (torch.bfloat16 if half else torch.float32)
    tolerance = 2**-8 if half else 1e-6
    for one, other in ((found, exact), (activated, F.gelu(exact))):
        assert (one.double() - other).norm() < tolerance * other.norm()


@needs_onednn
def test_onednn_evaluates_and_torch_trains():
    wide, states = layer_of().intermediate, torch.randn(1, 5, 64)
    assert isinstance(wide, Intermediate)
    assert isinstance(wide.dense, Linear)
    trained = operators(wide, states)
    with torch.no_grad():
        evaluated = operators(wide, states)
    assert "mkldnn::_linear_pointwise" in evaluated
    assert not evaluated & {"aten::addmm", "aten::gelu"}
    assert "mkldnn::_linear_pointwise" not in trained
    assert {"aten::addmm", "aten::gelu"} <= trained


@pytest.mark.parametrize("number", [torch.float64, torch.bfloat16, torch.float16])
def test_a_format_that_onednn_does_not_multiply_here_is_evaluated_by_torch(number: torch.dtype):
    wide = layer_of().to(number).intermediate
    states = torch.randn(1, 5, 64).to(number)
    with torch.no_grad():
        found = wide.dense(states)
    assert found.dtype == number
    exact = F.linear(*(tensor.double() for tensor in (states, *wide.dense.parameters())))
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 2**-8, torch.float16: 2**-10}[number]
    assert (found.double() - exact).norm() < tolerance * exact.norm()


def test_no_tokens_give_no_states():
    with torch.no_grad():
        assert layer_of().intermediate(torch.zeros(1, 0, 64)).shape == (1, 0, 128)


def test_another_activation_stays_what_it_is():
    wide, states = layer_of("relu").intermediate, torch.randn(1, 5, 64)
    with torch.no_grad():
        assert torch.equal(wide(states), torch.relu(wide.dense(states)))


def test_every_linear_layer_of_an_encoder_is_one_of_these(tmp_path: Path):
    encoder = fresh_encoder(write_config(tmp_path))
    layers = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 12
    assert all(type(module) is Linear for module in layers)

"""Linear layers that evaluate faster on an x86 CPU, by oneDNN's own product.

It adds the bias, and takes GELU, while it writes the result; torch's own copies the bias over the result
first, and in single precision multiplies by MKL, which leaves AVX512 unused on AMD's processors. Where
gradients are wanted, and on other devices, torch's own is used: there oneDNN gains nothing.

The operator is the one by which torch's compiler replaces linear layers on a CPU
(torch/_inductor/fx_passes/mkldnn_fusion.py). I inputs and O outputs of a layer.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import GELUActivation
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaIntermediate

from xlt.system.torch_private import become, linear_pointwise, onednn_takes

HAS_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith(
    "AVX"
)


def _multiplied_by_onednn() -> frozenset[torch.dtype]:
    """Return the number formats whose products oneDNN has for this CPU: halves only on newer ones."""
    halves = filter(onednn_takes, (torch.bfloat16, torch.float16))
    return frozenset({torch.float32, *halves})


FORMATS = _multiplied_by_onednn() if HAS_ONEDNN else frozenset()


def _serves(states: Tensor) -> bool:
    """Return True if oneDNN's product is to be used."""
    if states.device.type != "cpu" or torch.is_grad_enabled() or states.numel() == 0:
        return False
    in_autocast = torch.is_autocast_enabled("cpu") and states.dtype != torch.float64
    return (torch.get_autocast_dtype("cpu") if in_autocast else states.dtype) in FORMATS


def _product(
    layer: nn.Linear, states: Float[Tensor, "*N I"], then: Literal["none", "gelu"]
) -> Float[Tensor, "*N O"]:
    """The layer's output, or GELU of it, in autocast's precision where that is on."""
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled("cpu"):
        in_format = torch.get_autocast_dtype("cpu")
        states, weight, bias = (operand.to(in_format) for operand in (states, weight, bias))
    return linear_pointwise(states, weight, bias, then)


class Linear(nn.Linear):
    """`nn.Linear`, by oneDNN where that is faster."""

    def forward(self, input: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """The input times the weights, and the bias."""
        return _product(self, input, "none") if _serves(input) else super().forward(input)


class Intermediate(XLMRobertaIntermediate):
    """A layer's wide linear layer with its GELU, which oneDNN takes in the same pass."""

    def forward(self, hidden_states: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """GELU of the linear layer's output."""
        if _serves(hidden_states):
            return _product(self.dense, hidden_states, "gelu")
        return super().forward(hidden_states)


def replace_linear(model: nn.Module) -> None:
    """Make every linear layer inside the model, and GELU after it, one of this module's."""
    for module in model.modules():
        if type(module) is nn.Linear:
            become(module, Linear)
        elif type(module) is XLMRobertaIntermediate and isinstance(
            module.intermediate_act_fn, GELUActivation
        ):
            become(module, Intermediate)

"""Linear layers that evaluate faster on an x86 CPU, by the matrix product of oneDNN.

oneDNN adds the bias, and applies GELU, while it writes the result. torch first copies the bias over the
result, and in single precision multiplies by MKL, which does not use AVX512 on AMD's processors. With
gradients, and on other devices, torch's product is used, because oneDNN is not faster there.

torch's compiler replaces linear layers on a CPU by the same operator
(torch/_inductor/fx_passes/mkldnn_fusion.py). N tokens, I inputs and O outputs of a layer.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import GELUActivation
from transformers.models.bert.modeling_bert import BertIntermediate
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Intermediate
from transformers.models.roberta.modeling_roberta import RobertaIntermediate
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaIntermediate
from transformers.models.xlm_roberta_xl.modeling_xlm_roberta_xl import XLMRobertaXLIntermediate

from xlt.system.torch_private import become, linear_pointwise, onednn_takes

HAS_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith(
    "AVX"
)


def _multiplied_by_onednn() -> frozenset[torch.dtype]:
    """Return the number formats that oneDNN multiplies on this CPU. Only newer CPUs have half precision."""
    halves = filter(onednn_takes, (torch.bfloat16, torch.float16))
    return frozenset({torch.float32, *halves})


FORMATS = _multiplied_by_onednn() if HAS_ONEDNN else frozenset()


def _serves(states: Tensor) -> bool:
    """Return True if oneDNN multiplies the states."""
    if states.device.type != "cpu" or torch.is_grad_enabled() or states.numel() == 0:
        return False
    in_autocast = torch.is_autocast_enabled("cpu") and states.dtype != torch.float64
    return (torch.get_autocast_dtype("cpu") if in_autocast else states.dtype) in FORMATS


def _product(
    layer: nn.Linear, states: Float[Tensor, "*N I"], then: Literal["none", "gelu"]
) -> Float[Tensor, "*N O"]:
    """Return the layer's output, or GELU of it, in autocast's precision if autocast is on."""
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled("cpu"):
        in_format = torch.get_autocast_dtype("cpu")
        states, weight = states.to(in_format), weight.to(in_format)
        bias = None if bias is None else bias.to(in_format)
    return linear_pointwise(states, weight, bias, then)


class Linear(nn.Linear):
    """`nn.Linear` that uses oneDNN where it is faster."""

    def forward(self, input: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Return the input times the weights, plus the bias."""
        return _product(self, input, "none") if _serves(input) else super().forward(input)


class Fused(nn.Module):
    """The wide linear layer of an encoder layer with its GELU, which oneDNN computes in the same pass."""

    dense: nn.Linear

    def forward(self, hidden_states: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Return GELU of the linear layer's output."""
        # A LoRA layer of peft, which is no nn.Linear, adds its own product before GELU.
        if isinstance(self.dense, nn.Linear) and _serves(hidden_states):
            return _product(self.dense, hidden_states, "gelu")
        return super().forward(hidden_states)  # type: ignore[misc, no-any-return]


class Intermediate(Fused, XLMRobertaIntermediate):
    """XLM-R's wide layer."""


class XLIntermediate(Fused, XLMRobertaXLIntermediate):
    """XLM-R XL's wide layer."""


class WideRoberta(Fused, RobertaIntermediate):
    """RoBERTa's wide layer."""


class WideBert(Fused, BertIntermediate):
    """BERT's wide layer."""


class WideDeberta(Fused, DebertaV2Intermediate):
    """DeBERTa's wide layer."""


FUSED: Mapping[type[nn.Module], type[Fused]] = {
    kind.__bases__[1]: kind for kind in (Intermediate, XLIntermediate, WideRoberta, WideBert, WideDeberta)
}
"""For each wide layer of transformers that ends with GELU, the layer that replaces it. ModernBERT multiplies
GELU by a gate, which oneDNN has no operator for."""


def replace_linear(model: nn.Module) -> None:
    """Replace every linear layer inside the model, and the GELU after it, by this module's, in place."""
    for module in model.modules():
        if type(module) is nn.Linear:
            become(module, Linear)
        elif type(module) in FUSED and isinstance(module.intermediate_act_fn, GELUActivation):
            become(module, FUSED[type(module)])

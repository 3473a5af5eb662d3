"""XLM-R XL and XXL: norms before each part of a layer, and a norm after the last layer. N tokens, D width."""

from jaxtyping import Float
from torch import Tensor
from transformers import XLMRobertaXLForMaskedLM, XLMRobertaXLModel
from transformers.models.xlm_roberta_xl.modeling_xlm_roberta_xl import XLMRobertaXLLayer

from xlt.models.encoders.family import Family, learned_facts
from xlt.models.encoders.reading import Reading
from xlt.models.encoders.xlm_roberta import SETTINGS


class XLReadLayer(Reading, XLMRobertaXLLayer):
    """The last layer of an XLM-R XL, which computes only the states that are read."""

    def normed(self, states: Float[Tensor, "1 N D"]) -> Float[Tensor, "1 N D"]:
        """Return the states after the norm before the attention."""
        return self.attention.self_attn_layer_norm(states)


XLM_ROBERTA_XL = Family(
    model_type="xlm-roberta-xl",
    model=XLMRobertaXLModel,
    masked=XLMRobertaXLForMaskedLM,
    facts=learned_facts,
    skips_padding=True,
    read_layer=XLReadLayer,
    final_norm="encoder.LayerNorm",
    settings=SETTINGS,
    examples=("facebook/xlm-roberta-xl", "facebook/xlm-roberta-xxl"),
)

"""XLM-R and RoBERTa, which differ in their classes alone."""

from transformers import RobertaForMaskedLM, RobertaModel, XLMRobertaForMaskedLM, XLMRobertaModel
from transformers.models.roberta.modeling_roberta import RobertaLayer
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLayer

from xlt.models.encoders.family import Family, learned_facts
from xlt.models.encoders.reading import Reading

SETTINGS: dict[str, tuple[object, ...]] = {
    "hidden_act": ("gelu", "gelu_new", "relu", "silu"),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
"""Settings of a config that change the mathematics, and the tested values."""


class ReadLayer(Reading, XLMRobertaLayer):
    """The last layer of an XLM-R, which computes only the states that are read."""


class RobertaReadLayer(Reading, RobertaLayer):
    """The last layer of a RoBERTa, which computes only the states that are read."""


XLM_ROBERTA = Family(
    model_type="xlm-roberta",
    model=XLMRobertaModel,
    masked=XLMRobertaForMaskedLM,
    facts=learned_facts,
    skips_padding=True,
    read_layer=ReadLayer,
    settings=SETTINGS,
    examples=("FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large"),
)

ROBERTA = Family(
    model_type="roberta",
    model=RobertaModel,
    masked=RobertaForMaskedLM,
    facts=learned_facts,
    skips_padding=True,
    read_layer=RobertaReadLayer,
    settings=SETTINGS,
    examples=("FacebookAI/roberta-base", "FacebookAI/roberta-large"),
)

"""BERT: mBERT, multilingual-e5-small, LaBSE, Multilingual-MiniLM. N tokens, D hidden width.

Positions begin at 0, and pairs of texts have segment ids if the tokenizer gives any. The tokenizer may be
XLM-R's, whose pad token has another id than `pad_token_id` in the config. transformers trains no row of this
id, and xlt does the same.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import BertForMaskedLM, BertModel
from transformers.models.bert.modeling_bert import BertLayer

from xlt.models.encoders.family import Family, MaskedNames, counted_facts
from xlt.models.encoders.reading import Reading
from xlt.models.encoders.xlm_roberta import SETTINGS


class BertReadLayer(Reading, BertLayer):
    """The last layer of a BERT, which computes only the states that are read."""


class Positions(nn.Embedding):
    """Table of positions. A token at position -1, such as a part of an image, has the zero vector."""

    def forward(self, input: Int[Tensor, "1 N"]) -> Float[Tensor, "1 N D"]:
        """Return the vectors of the positions."""
        return super().forward(input.clamp(min=0)).masked_fill((input < 0)[..., None], 0)


MASKED_NAMES = MaskedNames(
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    bias="cls.predictions.bias",
    decoder="cls.predictions.decoder",
)
"""Names of the parts of the head for masked tokens in BERT and DeBERTa."""

BERT = Family(
    model_type="bert",
    model=BertModel,
    masked=BertForMaskedLM,
    facts=counted_facts,
    read_layer=BertReadLayer,
    positions="embeddings.position_embeddings",
    settings=SETTINGS | {"hidden_act": ("gelu",)},
    masked_names=MASKED_NAMES,
    tested="lengths 1 to 512, segment ids",
    examples=(
        "google-bert/bert-base-multilingual-cased",
        "intfloat/multilingual-e5-small",
        "sentence-transformers/LaBSE",
        "microsoft/Multilingual-MiniLM-L12-H384",
    ),
)

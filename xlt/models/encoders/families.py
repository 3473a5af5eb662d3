"""The families of encoders by the `model_type` of their configs."""

from collections.abc import Mapping

from transformers import PretrainedConfig

from xlt.models.encoders.bert import BERT
from xlt.models.encoders.family import EncoderFacts, Family
from xlt.models.encoders.modernbert import MODERNBERT
from xlt.models.encoders.xlm_roberta import ROBERTA, XLM_ROBERTA
from xlt.models.encoders.xlm_roberta_xl import XLM_ROBERTA_XL

FAMILIES: Mapping[str, Family] = {
    family.model_type: family for family in (XLM_ROBERTA, XLM_ROBERTA_XL, ROBERTA, BERT, MODERNBERT)
}
"""Each family by its `model_type`."""

PADDED_ALONE = ("deberta", "deberta-v2")
"""Types of models that do not compute attention through the interface that xlt replaces."""


def family_of(config: PretrainedConfig) -> Family:
    """Return the family of a config that `check_config` has passed."""
    return FAMILIES[config.model_type]


def facts_of(config: PretrainedConfig) -> EncoderFacts:
    """Return the first position and the longest input of an encoder whose config `check_config` has passed.

    The tokenizer tells the special ids: `xlt.data.encode.TextEncoder.special_ids`.
    """
    return family_of(config).facts(config)


def check_config(name: str, config: PretrainedConfig) -> None:
    """Check that xlt computes the same states as transformers for a config.

    Args:
        name: Name of the encoder.
        config: Its config.

    Raises:
        ValueError: The type of model, or a setting that changes the mathematics, is not tested.
    """
    kind = config.model_type
    if kind in PADDED_ALONE:
        raise ValueError(
            f"model.encoder {name!r} has the type {kind}, whose attention does not use transformers' "
            "attention interface, so xlt cannot pack its sequences. Name an encoder of similar quality, such "
            "as jhu-clsp/mmBERT-base or FacebookAI/xlm-roberta-base"
        )
    if kind not in FAMILIES:
        raise ValueError(
            f"model.encoder {name!r} has the type {kind}, but xlt packs {', '.join(FAMILIES)} alone. Name "
            "another model: `xlt encoders` lists examples"
        )
    reason = FAMILIES[kind].refusal(config)
    if reason:
        raise ValueError(f"model.encoder {name!r}: {reason}. Name another model")

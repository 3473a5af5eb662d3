"""The families of encoders by the `model_type` of their configs."""

from collections.abc import Mapping

from transformers import PretrainedConfig

from xlt.models.encoders.bert import BERT
from xlt.models.encoders.deberta import DEBERTA
from xlt.models.encoders.family import EncoderFacts, Family
from xlt.models.encoders.modernbert import MODERNBERT
from xlt.models.encoders.xlm_roberta import ROBERTA, XLM_ROBERTA
from xlt.models.encoders.xlm_roberta_xl import XLM_ROBERTA_XL

FAMILIES: Mapping[str, Family] = {
    family.model_type: family for family in (XLM_ROBERTA, XLM_ROBERTA_XL, ROBERTA, BERT, MODERNBERT, DEBERTA)
}
"""Each family by its `model_type`."""

SHORTEST = 8
"""Minimum number of tokens that an encoder must read at once."""

PADDED_ALONE = ("deberta",)
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
    check_type(name, config.model_type)
    family = FAMILIES[config.model_type]
    reason = _refusal_of_sizes(config) or family.refusal(config)
    if not reason and family.facts(config).max_tokens < SHORTEST:
        reason = (
            f"its config.json leaves {family.facts(config).max_tokens} tokens for a sequence "
            f"(max_position_embeddings), but xlt needs at least {SHORTEST}"
        )
    if reason:
        raise ValueError(f"model.encoder {name!r}: {reason}. Name another model")


def check_type(name: str, kind: str) -> None:
    """Raise ValueError if xlt packs no model of this `model_type`.

    Args:
        name: Name of the encoder.
        kind: The type.
    """
    if kind in PADDED_ALONE:
        raise ValueError(
            f"model.encoder {name!r} has the type {kind}, whose attention does not use transformers' "
            "attention interface, so xlt cannot pack its sequences. Name an encoder of similar quality, such "
            "as microsoft/mdeberta-v3-base or microsoft/deberta-v3-base"
        )
    if kind not in FAMILIES:
        raise ValueError(
            f"model.encoder {name!r} has the type {kind}, but xlt packs {', '.join(FAMILIES)} alone. Name "
            "another model: `xlt encoders` lists examples"
        )


def _refusal_of_sizes(config: PretrainedConfig) -> str:
    """Return why transformers cannot build a model of these sizes; an empty string if it can."""
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if getattr(config, name) < 1:
            return f"its config.json has {name} {getattr(config, name)}, and must have at least 1"
    hidden, heads, rows = config.hidden_size, config.num_attention_heads, config.vocab_size
    pad = config.pad_token_id
    if hidden % heads:
        return f"its config.json has hidden_size {hidden}, which {heads} attention heads cannot divide"
    if pad is None and FAMILIES[config.model_type].skips_padding:
        return "its config.json has no pad_token_id, after which the positions begin"
    if pad is not None and not 0 <= pad < rows:
        return f"its config.json has pad_token_id {pad}, but vocab_size {rows}: the id must be below it"
    if getattr(config, "quantization_config", None):
        return "its weights are quantized (quantization_config in config.json), and xlt trains full precision"
    return ""

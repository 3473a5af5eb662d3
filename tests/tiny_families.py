"""Tiny configs of each family of encoders, and a WordPiece tokenizer as BERT's, for tests."""

import string
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertTokenizer,
    DebertaV2Config,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
    XLMRobertaXLConfig,
)

from xlt.models.encoders.text import Encoder

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.15,  # attention is far from uniform
}
SHIFTED: dict[str, Any] = {
    "max_position_embeddings": 514,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
WINDOW = 32
"""Tokens of the window of ModernBERT's local layers."""

CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "xlm-roberta": (XLMRobertaConfig, SHIFTED | {"type_vocab_size": 1}),
    "xlm-roberta-xl": (XLMRobertaXLConfig, SHIFTED | {"type_vocab_size": 1}),
    "roberta": (RobertaConfig, SHIFTED | {"type_vocab_size": 1}),
    "bert": (BertConfig, {"max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0}),
    "deberta-v2": (
        DebertaV2Config,
        {"max_position_embeddings": 512, "type_vocab_size": 0, "pad_token_id": 0, "relative_attention": True}
        | {"position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
        | {"pos_att_type": "p2c|c2p", "position_biased_input": False},
    ),
    "modernbert": (
        ModernBertConfig,
        {"max_position_embeddings": 512, "local_attention": WINDOW, "pad_token_id": 0}
        | {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
    ),
}
"""Class of the config and its own settings, by `model_type`. The last layer of this ModernBERT is global."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def config_of(kind: str, **changes: Any) -> PretrainedConfig:
    """A tiny config."""
    make, own = CONFIGS[kind]
    return make(**(SIZES | own | changes))


def write_family(folder: Path, kind: str, **changes: Any) -> str:
    """Write a tiny config into a folder, and return the folder."""
    config_of(kind, **changes).save_pretrained(folder)
    return str(folder)


def encoder_of(folder: Path, kind: str, **changes: Any) -> Encoder:
    """A tiny encoder without dropout, whose biases and norms are random too."""
    torch.manual_seed(0)
    encoder = Encoder(write_family(folder, kind, **changes), from_scratch=True, dropout=0.0).eval()
    for parameter in encoder.transformer.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0 if parameter[0] == 1 else 0.0, 0.2)
    return encoder


def write_wordpiece(folder: Path, **changes: Any) -> int:
    """Write a tokenizer whose pieces are characters; return its number of pieces.

    Pairs have BERT's segment ids.
    """
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*SPECIAL, *characters, *(f"##{c}" for c in characters)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    BertTokenizer(vocabulary, **changes).save_pretrained(str(folder))
    return len(pieces)

"""An encoder as files that transformers loads: config, weights and tokenizer."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, XLMRobertaForMaskedLM, XLMRobertaModel

from xlt.models.encoder import Encoder, load_config


def save_encoder(
    encoder: Encoder,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    masked_head: Mapping[str, Tensor],
    out: Path,
    precision: Literal["float16", "float32"],
) -> None:
    """Write an encoder into a folder; each file appears whole, the weights last.

    Args:
        encoder: The encoder.
        name: Where its config came from.
        tokenizer: Written where the folder has none.
        masked_head: Weights of its head for hidden tokens; empty where it has none.
        out: The folder.
        precision: Of the weights.

    Raises:
        OSError: The folder cannot be written.
    """
    config = load_config(name)
    if masked_head:
        model = XLMRobertaForMaskedLM(config)
        model.roberta.load_state_dict(encoder.transformer.state_dict())
        table = {"decoder.weight": encoder.words.weight, "decoder.bias": masked_head["bias"]}
        model.lm_head.load_state_dict({**masked_head, **table})
    else:
        model = XLMRobertaModel(config, add_pooling_layer=False)
        model.load_state_dict(encoder.transformer.state_dict())
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".saving-") as scratch:
        model.to(getattr(torch, precision)).save_pretrained(scratch)
        if not (out / "tokenizer.json").is_file():
            tokenizer.save_pretrained(scratch)
        for path in sorted(
            Path(scratch).iterdir(), key=lambda path: (path.suffix == ".safetensors", path.name)
        ):
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(out / path.name)

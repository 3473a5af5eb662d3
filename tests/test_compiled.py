"""Layers that are compiled for GPUs: the states and gradients of the others, and few variants."""

import json
from pathlib import Path

import torch
from commands import launch
from transformers import XLMRobertaConfig

from xlt.models.encoders.text import VARIANTS


def test_compiled_layers_have_the_states_and_gradients_of_the_others(tmp_path: Path) -> None:
    XLMRobertaConfig(
        vocab_size=50,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=514,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ).save_pretrained(tmp_path)
    # Tracing a layer would trace the checks of shapes, too, that tests are under.
    code, output = launch([str(tmp_path)], "compiled")
    assert code == 0, output[-3000:]
    found = json.loads(output.splitlines()[-1])
    tolerance = 2e-2 if torch.cuda.is_available() else 1e-5
    assert found["states"] < tolerance
    assert found["gradients"] < tolerance
    assert found["graphs"] < VARIANTS

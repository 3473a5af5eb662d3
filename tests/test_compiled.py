"""Layers that are compiled for GPUs: the states and gradients of the others, and few variants."""

import json
from pathlib import Path

import pytest
import torch
from commands import launch
from tiny_families import CONFIGS, SHIFTED

from xlt.models.encoders.families import FAMILIES
from xlt.models.encoders.text import VARIANTS

OWN = {
    "xlm-roberta": SHIFTED,
    "xlm-roberta-xl": SHIFTED,
    "modernbert": {"local_attention": 16, "pad_token_id": 0},
}
"""Settings of the config of each family whose layer is computed in another way."""


@pytest.mark.parametrize("kind", OWN)
def test_compiled_layers_have_the_states_and_gradients_of_the_others(kind: str, tmp_path: Path) -> None:
    config = CONFIGS[kind][0](
        vocab_size=50,
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=256,
        **OWN[kind],
    )
    FAMILIES[kind].drop_with(config, 0.0)
    config.save_pretrained(tmp_path)
    # Tracing a layer would trace the checks of shapes, too, that tests are under.
    code, output = launch([str(tmp_path)], "compiled")
    assert code == 0, output[-3000:]
    found = json.loads(output.splitlines()[-1])
    tolerance = 2e-2 if torch.cuda.is_available() else 1e-5
    assert found["states"] < tolerance
    assert found["gradients"] < tolerance
    assert found["graphs"] < VARIANTS

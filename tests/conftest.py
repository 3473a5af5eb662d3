"""Fixtures: the repository's sample rows, the mirror beside it where there is one, a tiny encoder, a cache.

Shapes in signatures are checked in every test (jaxtyping and beartype).
"""

import os
from pathlib import Path

from jaxtyping import install_import_hook

os.environ.update(WANDB_MODE="disabled", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
os.environ.pop("XLT_DATA", None)

with install_import_hook(["xlt.models", "xlt.metrics"], "beartype.beartype"):
    import xlt.kinds  # noqa: F401  imports the models and metrics under the hook

import json
import shutil

import pytest

REPOSITORY = Path(__file__).parents[1]
NINE = ["anli_plus", "mnli", "qqp", "squad_v1", "squad_v2", "hellaswag", "ccg", "cosmosqa", "commonsenseqa"]


@pytest.fixture(scope="session")
def samples() -> list[str]:
    """The data roots of the repository; skips where the rows that can be taken out have been."""
    roots = [REPOSITORY / "samples" / "open", REPOSITORY / "samples" / "restricted"]
    if not (roots[1] / "ccg").is_dir():
        pytest.skip("samples/restricted has been taken out")
    return [str(root) for root in roots]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The larger mirror beside the repository."""
    root = REPOSITORY.parent / "shared" / "data"
    if not root.is_dir():
        pytest.skip("../shared/data is absent")
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One folder of encoded rows for the whole session."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the mini tokenizer and a config of 2 layers x 32, without weights."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    source = REPOSITORY / "encoders" / "mini"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    config = json.loads((source / "config.json").read_text())
    config |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"intermediate_size": 64}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)

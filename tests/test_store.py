"""Encoded splits: what is counted, what is refused, what is reused, and that nothing is left half-made."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from transformers import AutoTokenizer

import xlt.data.sources
import xlt.splits.encoding
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Question, TaggedWords, TextPair
from xlt.data.sources import Local, RawSplit
from xlt.kinds import Classification, SpanExtraction, Tagging
from xlt.splits.cache import key_of
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.encoding import encode_split

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")

ROWS = [
    {"a": "the man", "b": "the name", "label": 0},
    {"a": "no one knows", "b": "what", "label": -1},
    {"a": "a", "b": "b", "label": 2},
    {"a": "who is", "b": "", "label": -1},
    {"a": "the old house by the sea", "b": "is not there", "label": 1},
]


def read_pair(row: Mapping[str, Any]) -> TextPair:
    """Two texts."""
    return TextPair(row["a"], row["b"], row["label"])


PAIRS = Classification(
    name="toy", source=Local("toy", "Ask."), read=read_pair, labels=("entailment", "neutral", "contradiction")
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` prepares out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    """The mini tokenizer."""
    return TextEncoder(load_tokenizer(MINI), 64, 16)


def part_of(rows: list[dict[str, Any]], location: str = "there.parquet", fingerprint: str = "f") -> RawSplit:
    """A source's split in memory."""
    return RawSplit("toy/default/train", location, None, fingerprint, lambda: Dataset.from_list(rows))


def mirrored(root: Path, rows: list[dict[str, Any]], split: str = "train") -> Path:
    """The rows as a file of a mirror."""
    file = root / "toy" / "default" / f"{split}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def folders(root: Path) -> list[str]:
    """What the cache holds, hidden files included."""
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


# What is counted


def test_unlabelled_rows_are_dropped_and_counted(tmp_path: Path, text: TextEncoder) -> None:
    found = encode_split(PAIRS, [part_of(ROWS)], text, tmp_path / "cache" / "toy")
    assert found.meta.examples == found.meta.rows == found.features.num_rows == 3
    assert found.meta.dropped == 2
    assert found.features.scalars("targets").tolist() == [0, 2, 1]
    # Examples are numbered without the dropped.
    assert found.features.scalars("example").tolist() == [0, 1, 2]


def test_tokens_and_ids_are_those_of_transformers(tmp_path: Path, text: TextEncoder) -> None:
    found = encode_split(PAIRS, [part_of(ROWS)], text, tmp_path / "cache" / "toy")
    labelled = [row for row in ROWS if row["label"] >= 0]
    tokenizer = AutoTokenizer.from_pretrained(MINI)
    ids = tokenizer([row["a"] for row in labelled], [row["b"] for row in labelled])["input_ids"]
    assert found.meta.tokens == sum(map(len, ids))
    flat, counts = found.features.gather("input_ids", [0, 1, 2])
    assert flat.tolist() == [token for row in ids for token in row]
    assert counts.tolist() == [len(row) for row in ids]


def test_cut_examples_are_counted(tmp_path: Path, text: TextEncoder) -> None:
    rows = [{"a": "the man " * n, "b": "the", "label": 0} for n in (1, 30, 40)]
    found = encode_split(PAIRS, [part_of(rows)], text, tmp_path / "toy")
    # "the man" is two tokens; a pair has four special ones: 2n + 1 + 4 is 7, 65 and 85, of 64 allowed.
    assert found.meta.truncated == 2


def test_chunks_make_no_difference(
    tmp_path: Path, text: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [part_of(ROWS * 3), part_of(ROWS)]
    whole = encode_split(PAIRS, parts, text, tmp_path / "whole")
    monkeypatch.setattr(xlt.splits.encoding, "CHUNK", 2)
    monkeypatch.setattr(xlt.data.sources, "ROWS_AT_A_TIME", 2)
    cut = encode_split(PAIRS, parts, text, tmp_path / "cut")
    assert cut.meta == whole.meta
    assert cut.meta.examples == 12
    assert cut.features.scalars("example").tolist() == list(range(12))


def test_the_meta_file_says_where_the_rows_came_from(tmp_path: Path, text: TextEncoder) -> None:
    part = RawSplit(
        "org/name/default/train", "hub:org/name@abc", "abc", "f0", lambda: Dataset.from_list(ROWS)
    )
    encode_split(PAIRS, [part], text, tmp_path / "toy")
    meta = json.loads((tmp_path / "toy" / "meta.json").read_text())
    assert meta["sources"] == [
        {"name": "org/name/default/train", "location": "hub:org/name@abc", "revision": "abc", "hash": "f0"}
    ]
    assert meta["labels"] == ["entailment", "neutral", "contradiction"]


def test_references_are_kept_by_the_examples_number(tmp_path: Path, text: TextEncoder) -> None:
    def read(row: Mapping[str, Any]) -> Question:
        return Question("who", row["context"], tuple(row["texts"]), tuple(row["starts"]), row["id"])

    task = SpanExtraction(name="q", source=Local("q", "Ask."), read=read, null_threshold=0.0)
    rows = [
        {"id": "x", "context": "the man " * 60, "texts": ["man"], "starts": [4]},
        {"id": "y", "context": "die Straße 東京", "texts": [], "starts": []},
    ]
    found = encode_split(task, [part_of(rows)], text, tmp_path / "q")
    assert found.meta.examples == 2
    assert found.meta.rows > 2
    references = found.references()
    assert references[1] == {"id": "y", "context": "die Straße 東京", "answers": []}
    assert references[0]["answers"] == ["man"]
    assert len(references) == 2


def test_questions_without_an_answer_are_dropped_where_each_must_have_one(
    tmp_path: Path, text: TextEncoder
) -> None:
    def read(row: Mapping[str, Any]) -> Question:
        return Question("who", "the man", tuple(row["texts"]), tuple(row["starts"]), "x")

    task = SpanExtraction(name="q", source=Local("q", "Ask."), read=read)
    rows = [
        {"texts": [], "starts": []},
        {"texts": [""], "starts": [0]},
        {"texts": ["", "man"], "starts": [0, 4]},
    ]
    found = encode_split(task, [part_of(rows)], text, tmp_path / "q")
    assert (found.meta.examples, found.meta.dropped) == (1, 2)


def test_open_labels_are_those_of_the_rows_sorted(tmp_path: Path, text: TextEncoder) -> None:
    task = Tagging(
        name="tags",
        source=Local("tags", "Ask."),
        read=lambda row: TaggedWords(tuple(row["words"]), tuple(row["tags"])),
    )
    rows = [{"words": ["the", "man"], "tags": ["N/N", "N"]}, {"words": [], "tags": []}]
    rows += [{"words": ["is"], "tags": ["(S\\NP)"]}]
    found = encode_split(task, [part_of(rows)], text, tmp_path / "tags")
    assert list(found.meta.labels) == ["(S\\NP)", "N", "N/N"]
    assert found.features.gather("targets", [0, 1])[0].tolist() == [2, 1, 0]
    assert found.meta.dropped == 1
    # The validation split has the labels of training; a tag beyond them has no class.
    fixed = task.settled(found.meta.labels)
    unseen = [{"words": ["the", "man"], "tags": ["N", "PP"]}]
    other = encode_split(fixed, [part_of(unseen)], text, tmp_path / "validation")
    assert list(other.meta.labels) == ["(S\\NP)", "N", "N/N"]
    assert other.features.gather("targets", [0])[0].tolist() == [1, -1]


# What is refused


def changed(number: int, **values: Any) -> list[dict[str, Any]]:
    """Rows of which one has other values."""
    return [row | (values if i == number else {}) for i, row in enumerate(ROWS)]


def refusal(rows: list[dict[str, Any]], tmp_path: Path, text: TextEncoder, task: Any = PAIRS) -> str:
    """The message for rows that cannot be read."""
    with pytest.raises(ValueError, match="toy") as caught:
        encode_split(task, [part_of(rows)], text, tmp_path / "cache" / "toy")
    assert folders(tmp_path / "cache") == []
    return str(caught.value)


def test_a_missing_column_is_named_beside_those_there(tmp_path: Path, text: TextEncoder) -> None:
    rows = [{"sentence1": "x", "b": "y", "label": 0}]
    message = refusal(rows, tmp_path, text)
    assert "there.parquet, row 0 (task toy)" in message
    assert "column 'a' is missing" in message
    assert "sentence1, b, label" in message
    assert "Rename the column" in message


def test_a_value_of_the_wrong_type_is_named_with_its_row(tmp_path: Path, text: TextEncoder) -> None:
    message = refusal(changed(2, b=None), tmp_path, text)
    assert "there.parquet, row 2 (task toy)" in message
    assert "second must be text, not None" in message
    assert "Correct the row, or the task's read function" in message


@pytest.mark.parametrize("label", [3, -2, 10**9])
def test_a_label_out_of_range_is_named_with_the_classes(
    label: int, tmp_path: Path, text: TextEncoder
) -> None:
    message = refusal(changed(4, label=label), tmp_path, text)
    assert "there.parquet, row 4 (task toy)" in message
    assert f"label {label}" in message
    assert "0 entailment, 1 neutral, 2 contradiction" in message
    assert "Correct the row" in message


def test_labels_of_the_wrong_type_are_refused(tmp_path: Path, text: TextEncoder) -> None:
    for label, words in ((0.5, "0.5"), (True, "True"), ("neither", "'neither'")):
        rows = [row | {"label": label} for row in ROWS]
        message = refusal(rows, tmp_path, text)
        assert "row 0" in message
        assert words in message


def test_labels_may_be_names(tmp_path: Path, text: TextEncoder) -> None:
    rows = [row | {"label": name} for row, name in zip(ROWS, ["neutral", "entailment"], strict=False)]
    found = encode_split(PAIRS, [part_of(rows)], text, tmp_path / "toy")
    assert found.features.scalars("targets").tolist() == [1, 0]


def test_an_answer_that_is_not_in_its_place_is_refused(tmp_path: Path, text: TextEncoder) -> None:
    task = SpanExtraction(
        name="toy",
        source=Local("q", "Ask."),
        read=lambda row: Question("who", row["context"], (row["answer"],), (row["start"],)),
    )
    rows = [{"context": "the man", "answer": "man", "start": start} for start in (4, 3)]
    message = refusal(rows, tmp_path, text, task)
    assert "row 1" in message
    assert "'man' is not at character 3" in message


@pytest.mark.parametrize("error", [IndexError, AttributeError, TypeError, ValueError, KeyError])
def test_whatever_read_stumbles_over_is_named_with_its_row(
    error: type[Exception], tmp_path: Path, text: TextEncoder
) -> None:
    def read(row: Mapping[str, Any]) -> TextPair:
        if row["label"] == 2:
            raise error("this")
        return read_pair(row)

    message = refusal(ROWS, tmp_path, text, replace(PAIRS, read=read))
    assert "there.parquet, row 2 (task toy)" in message
    assert "this" in message


def test_the_row_is_counted_within_its_own_file(
    tmp_path: Path, text: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlt.splits.encoding, "CHUNK", 2)
    monkeypatch.setattr(xlt.data.sources, "ROWS_AT_A_TIME", 2)
    parts = [part_of(ROWS, "first.parquet"), part_of(changed(3, label=9), "second.parquet")]
    with pytest.raises(ValueError, match=r"second\.parquet, row 3 "):
        encode_split(PAIRS, parts, text, tmp_path / "cache" / "toy")


def test_rows_without_a_single_label_are_refused(tmp_path: Path, text: TextEncoder) -> None:
    message = refusal([row | {"label": -1} for row in ROWS], tmp_path, text)
    assert "there.parquet" in message
    assert "no row has a label" in message


# What is reused


def no_reading(part: RawSplit) -> RawSplit:
    """The part, if nobody reads its rows."""

    def load() -> Dataset:
        raise AssertionError("read again")

    return replace(part, load=load)


def test_a_second_time_no_row_is_read(tmp_path: Path, text: TextEncoder) -> None:
    part = part_of(ROWS)
    first = encode_split(PAIRS, [part], text, tmp_path / "toy")
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    second = encode_split(PAIRS, [no_reading(part)], text, tmp_path / "toy")
    assert second.meta == first.meta
    assert {path.name: path.stat().st_mtime_ns for path in second.folder.iterdir()} == before
    assert set(before) == {"features.arrow", "references.jsonl", "meta.json"}


def key(rows: list[dict[str, Any]], root: Path, text: TextEncoder, task: Any = PAIRS, code: str = "") -> str:
    """The key of these rows in a mirror under the root."""
    mirrored(root, rows)
    (root / "code.py").write_text(code)
    return key_of(task, task.source.open("train", [root]), text, [root / "code.py"])


def test_the_key_depends_on_everything_that_features_depend_on(tmp_path: Path) -> None:
    text, larger = TextEncoder(load_tokenizer(MINI), 64, 16), load_tokenizer(MINI)
    larger.add_tokens(["manname"])
    keys = [
        key(ROWS, tmp_path, text),
        key(ROWS[:-1], tmp_path, text),
        key(ROWS[::-1], tmp_path, text),
        key(ROWS, tmp_path, replace(text, max_length=63)),
        key(ROWS, tmp_path, replace(text, stride=15)),
        key(ROWS, tmp_path, replace(text, tokenizer=larger)),
        key(ROWS, tmp_path, text, replace(PAIRS, labels=("a", "b", "c"))),
        key(ROWS, tmp_path, text, code="x = 1"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(found) == 16 for found in keys)


def test_the_key_does_not_depend_on_where_the_rows_lie(tmp_path: Path, text: TextEncoder) -> None:
    assert key(ROWS, tmp_path / "one", text) == key(ROWS, tmp_path / "two", text)


@pytest.mark.parametrize(
    "use",
    [
        lambda text: text.pairs([("the man", "the name")]),
        lambda text: text.windows(["who"], ["the man"]),
        lambda text: text.words([["the", "man"]]),
    ],
)
def test_the_key_does_not_depend_on_what_was_encoded_before(
    use: Callable[[TextEncoder], object], tmp_path: Path
) -> None:
    fresh = TextEncoder(load_tokenizer(MINI), 64, 16)
    before = key(ROWS, tmp_path, fresh)
    use(fresh)
    assert key(ROWS, tmp_path, fresh) == before


# What is left behind


class BreaksHalfWay:
    """A read that fails after some rows."""

    def __init__(self, after: int, error: type[BaseException]) -> None:
        self.after, self.error = after, error

    def __call__(self, row: Mapping[str, Any]) -> TextPair:
        self.after -= 1
        if self.after < 0:
            raise self.error("pulled out")
        return read_pair(row)


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError, KeyboardInterrupt])
def test_nothing_is_left_where_encoding_fails_half_way(
    error: type[BaseException], tmp_path: Path, text: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlt.splits.encoding, "CHUNK", 2)
    monkeypatch.setattr(xlt.data.sources, "ROWS_AT_A_TIME", 2)
    task = replace(PAIRS, read=BreaksHalfWay(7, error))
    with pytest.raises(error):
        encode_split(task, [part_of(ROWS * 2)], text, tmp_path / "cache" / "toy")
    assert folders(tmp_path / "cache") == []
    # And then as if nothing had been.
    assert encode_split(PAIRS, [part_of(ROWS * 2)], text, tmp_path / "cache" / "toy").meta.examples == 6
    assert folders(tmp_path / "cache") == ["toy"]


def test_a_failure_leaves_what_was_encoded_before(tmp_path: Path, text: TextEncoder) -> None:
    first = encode_split(PAIRS, [part_of(ROWS)], text, tmp_path / "cache" / "one")
    with pytest.raises(ValueError, match="pulled out"):
        encode_split(
            replace(PAIRS, read=BreaksHalfWay(3, ValueError)),
            [part_of(ROWS)],
            text,
            tmp_path / "cache" / "two",
        )
    assert folders(tmp_path / "cache") == ["one"]
    assert EncodedSplit(first.folder).meta == first.meta


def test_of_two_that_encode_at_once_the_first_to_finish_stays(
    tmp_path: Path, text: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache" / "toy"
    other = encode_split(PAIRS, [part_of(ROWS)], text, tmp_path / "other").folder
    fill = xlt.splits.encoding._write

    def overtaken(*args: Any) -> None:
        fill(*args)
        shutil.copytree(other, folder)

    monkeypatch.setattr(xlt.splits.encoding, "_write", overtaken)
    found = encode_split(PAIRS, [part_of(ROWS)], text, folder)
    assert found.meta.examples == 3
    assert folders(tmp_path / "cache") == ["toy"]


def test_the_folder_has_the_permissions_of_any_new_folder(tmp_path: Path, text: TextEncoder) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    found = encode_split(PAIRS, [part_of(ROWS)], text, tmp_path / "cache" / "toy")
    assert oct(found.folder.stat().st_mode) == oct(plain.stat().st_mode)

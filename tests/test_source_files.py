"""Rows in files of a user's own: CSV, TSV, JSON Lines and parquet, by language and split; bad files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from xlt.data.files import Files
from xlt.data.languages import hint
from xlt.data.sources import RawSplit
from xlt.data.text_files import TextRows

REVIEWS = [
    {"text": "Good, very good", "label": "good", "lang": "en", "part": "train"},
    {"text": 'They said "bad"', "label": "bad", "lang": "en", "part": "train"},
    {"text": "Two\nlines", "label": "good", "lang": "en", "part": "test"},
    {"text": "Schön", "label": "good", "lang": "de", "part": "test"},
    {"text": "不好", "label": "bad", "lang": "zh-CN", "part": "test"},
]
"""Rows of three languages with what CSV must quote."""


def quoted(value: str) -> str:
    """A value of a CSV file, written by hand."""
    return '"' + value.replace('"', '""') + '"'


def as_csv(rows: list[dict[str, str]], separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(map(quoted, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def write_csv(path: Path) -> None:
    path.write_text(as_csv(REVIEWS), encoding="utf-8")


def write_tsv(path: Path) -> None:
    path.write_text(as_csv(REVIEWS, "\t"), encoding="utf-8")


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in REVIEWS), encoding="utf-8")


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(REVIEWS), path)


def rows_of(raw_splits: list[RawSplit]) -> list[dict[str, Any]]:
    """The rows that the splits keep."""
    return [row for raw in raw_splits for row in raw.rows() if raw.keeps is None or raw.keeps(row)]


@pytest.mark.parametrize("write", [write_csv, write_tsv, write_jsonl, write_parquet])
def test_every_format_gives_the_rows_of_a_language_and_a_split(tmp_path: Path, write: Callable[[Path], None]):
    suffix = write.__name__.partition("_")[2]
    write(tmp_path / f"reviews.{suffix}")
    source = Files(f"reviews.{suffix}", language="lang", split="part", names={"zh": "zh-CN"})
    assert rows_of(source.open("train", [tmp_path])) == REVIEWS[:2]
    assert rows_of(source.open("test", [tmp_path], "en")) == REVIEWS[2:3]
    assert rows_of(source.open("test", [tmp_path], "de")) == REVIEWS[3:4]
    assert rows_of(source.open("test", [tmp_path], "zh")) == REVIEWS[4:]


def test_a_file_for_each_language_and_split_with_names_of_their_own(tmp_path: Path):
    (tmp_path / "massive").mkdir()
    for locale in ("en-US", "zh-CN"):
        lines = [{"utt": locale, "partition": part} for part in ("train", "dev", "test")]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "massive" / f"{locale}.jsonl").write_text(text, encoding="utf-8")
    names, splits = {"en": "en-US", "zh": "zh-CN"}, {"validation": "dev"}
    source = Files("massive/{language}.jsonl", split="partition", names=names, splits=splits)
    assert rows_of(source.open("validation", [tmp_path])) == [{"utt": "en-US", "partition": "dev"}]
    assert rows_of(source.open("test", [tmp_path], "zh")) == [{"utt": "zh-CN", "partition": "test"}]
    (tmp_path / "de-dev.csv").write_text("text\nGut\n", encoding="utf-8")
    source = Files("{language}-{split}.csv", splits=splits)
    assert rows_of(source.open("validation", [tmp_path], "de")) == [{"text": "Gut"}]


def test_a_path_is_absolute_or_in_a_root_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    here, root = tmp_path / "here", tmp_path / "root"
    for folder in (here, root):
        folder.mkdir()
        (folder / "a.csv").write_text(f"text\n{folder.name}\n", encoding="utf-8")
    monkeypatch.chdir(here)
    for source, roots, found in (
        (Files("a.csv", only="test"), [root], "root"),
        (Files("a.csv", only="test"), [], "here"),
        (Files(str(here / "a.csv"), only="test"), [root], "here"),
    ):
        assert rows_of(source.open("test", roots)) == [{"text": found}]


def test_classes_that_a_parquet_file_names_tell_language_and_split(tmp_path: Path):
    features = Features({"lang": ClassLabel(names=["de", "en"]), "text": Value("string")})
    Dataset.from_dict({"lang": [1, 0], "text": ["a", "b"]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    (row,) = rows_of(Files("a.parquet", language="lang", only="test").open("test", [tmp_path], "de"))
    assert row["text"] == "b"


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_not_text(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftext,lang\r\nGood,en\r\n\r\nGut,de\r\n")
    assert [*TextRows(path).iter(10)] == [{"text": ["Good", "Gut"], "lang": ["en", "de"]}]


def test_values_of_csv_are_texts_and_rows_come_in_chunks(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("id,label\n007,1\n8,\n9,0\n", encoding="utf-8")
    chunks = [*TextRows(path).iter(2)]
    assert chunks == [{"id": ["007", "8"], "label": ["1", ""]}, {"id": ["9"], "label": ["0"]}]


def test_quotation_marks_may_be_text(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlang\n"Good\ten\n', encoding="utf-8")
    assert [*TextRows(path, quotes=False).iter(2)] == [{"text": ['"Good'], "lang": ["en"]}]
    with pytest.raises(ValueError, match=r"a\.tsv, line 2: .*set quotes=False in the task's file"):
        [*TextRows(path).iter(2)]


def test_a_changed_file_or_setting_has_another_fingerprint(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("text;lang\nGood;en\n", encoding="utf-8")
    source = Files("a.csv", language="lang", separator=";", only="test")
    other = Files("a.csv", language="lang", separator=";", only="test", quotes=False)
    found = {source.open("test", [tmp_path])[0].fingerprint, other.open("test", [tmp_path])[0].fingerprint}
    path.write_text("text;lang\nBad;en\n", encoding="utf-8")
    assert len(found | {source.open("test", [tmp_path])[0].fingerprint}) == 3


# Bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.csv has no first line: it must name the columns"),
        (b"text;lang\nGood;en\n", r"single column 'text;lang'. If ';' separates .* set separator=';'"),
        (b"text\tlang\nGood\ten\n", r"single column .* set separator='\\t'"),
        (b"text,lang,text\nGood,en,x\n", r"a\.csv: the first line names the column 'text' twice"),
        (b"text,,lang\nGood,x,en\n", r"a\.csv: the first line has a column without a name"),
        (b"text,lang\nGood, very,en\n", r"a\.csv, line 2 has 3 values, but the first line names 2 columns"),
        ("text,lang\nSchön,de\n".encode("latin-1"), r"a\.csv, line 2 is not UTF-8 text .*Save the file"),
        ("text,lang\nGood,en\n".encode("utf-16"), r"a\.csv, line 1 is not UTF-8 text .*Save the file"),
        (b'text,lang\n"Go"od,en\n', r"a\.csv, line 2: .*Double each quotation mark"),
    ],
)
def test_a_table_that_cannot_be_read_names_file_line_and_mend(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Files("a.csv", language="lang", only="test").open("test", [tmp_path])


@pytest.mark.parametrize("line", ['{"text": "Good"', '["Good"]', "{}"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2 is .*Each line must hold an object"):
        rows_of(Files("a.jsonl", only="test").open("test", [tmp_path]))


def test_a_source_that_cannot_be_read_is_refused_with_the_task():
    with pytest.raises(ValueError, match=r"'a\.json': the suffix must be one of \.csv, \.tsv, \.jsonl"):
        Files("a.json", only="test")
    with pytest.raises(ValueError, match=r"'a\.csv': nothing names the split of the rows"):
        Files("a.csv", language="lang")


def test_a_missing_column_is_named(tmp_path: Path):
    write_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r"a\.csv has no column language; its columns are text, label, lang"):
        Files("a.csv", language="language", split="part").open("test", [tmp_path])


def test_a_row_without_a_language_is_named(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,lang\nGood,en\nGut,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.csv, row 1, column lang: '' names no language"):
        Files("a.csv", language="lang", only="test").open("test", [tmp_path])


def test_what_a_file_lacks_is_told_with_what_it_has(tmp_path: Path):
    write_csv(tmp_path / "a.csv")
    source = Files("a.csv", language="lang", split="part")
    for split, language, message in (
        ("test", "sw", r"a\.csv has no row in sw, but in de, en, zh-CN\. Add rows"),
        ("test", "zh", r"no row in zh, but .*\. If zh-CN is zh, write names=\{\"zh\": \"zh-CN\"\}"),
        ("train", "de", r"no row in de with part train, but with test\. Add rows, or map .* splits"),
        ("validation", "", r"no row in en with part validation, but with test, train\."),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            source.open(split, [tmp_path], language)
    (tmp_path / "empty.csv").write_text("text,lang\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"empty\.csv has no row, in no language: add rows"):
        Files("empty.csv", language="lang", only="test").open("test", [tmp_path], "en")
    with pytest.raises(FileNotFoundError, match=r"a\.csv has test rows only, no train rows"):
        Files("a.csv", only="test").open("train", [tmp_path])
    with pytest.raises(FileNotFoundError, match=r"has no rows in de: nothing names their language"):
        Files("a.csv", only="test").open("test", [tmp_path], "de")


def test_a_missing_file_lists_the_languages_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r").mkdir()
    for name in ("r-en", "r-zh_Hans"):
        (tmp_path / "r" / f"{name}.csv").write_text("text\nx\n", encoding="utf-8")
    source = Files("r/r-{language}.csv", only="test")
    with pytest.raises(
        FileNotFoundError, match=r"r/r-zh\.csv is in none of .* en, zh_Hans\. If zh_Hans is zh"
    ):
        source.open("test", [], "zh")
    with pytest.raises(FileNotFoundError, match=r"no\.csv is in none of .*\. Put the file there"):
        Files("no.csv", only="test").open("test", [])


@pytest.mark.parametrize("name", ["zh-CN", "zh_Hans", "ZH", "zho", "cmn", "Chinese"])
def test_other_names_of_a_language_are_recognised(name: str):
    assert (
        hint("zh", ["de", name]) == f' If {name} is zh, write names={{"zh": "{name}"}} in the task\'s source'
    )
    assert hint("sw", ["de", name]) == ""

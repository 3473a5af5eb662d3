"""Plain text: languages found in a root, what is held out, and what is left out."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import xlt.data.sources
from xlt.data.sources import Hub
from xlt.data.texts import HELD_OUT, Texts, is_held_out
from xlt.splits.reading import read_examples
from xlt.tasks import load as load_task

SENTENCES = [f"Sentence number {i} says nothing of interest." for i in range(2000)]
PAIRS = ("source", "target")


def write(path: Path, **columns: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def texts_of(task_name: str, root: Path, language: str, split) -> list:
    task = load_task(task_name)
    (source,) = task.sources
    return list(read_examples(task, source.open(split, [root], language)))


def test_every_text_is_in_one_split_and_the_held_out_share_is_as_said(tmp_path: Path):
    write(tmp_path / "mono/en.parquet", text=SENTENCES, origin=["x"] * 2000)
    train, validation = (texts_of("mlm", tmp_path, "en", split) for split in ("train", "validation"))
    assert sorted(e.text for e in train + validation) == sorted(SENTENCES)
    assert len(validation) == pytest.approx(2000 / HELD_OUT, abs=20)


def test_a_sentence_held_out_alone_is_held_out_beside_its_translation(tmp_path: Path):
    write(tmp_path / "mono/en.parquet", text=SENTENCES, origin=["x"] * 2000)
    others = [f"Satz Nummer {i} ist ohne Belang." for i in range(2000)]
    # The same sentences in other case, spacing and punctuation.
    varied = [f"  {text.upper()}!" for text in SENTENCES]
    write(tmp_path / "parallel/de-en.parquet", source=others, target=varied, origin=["x"] * 2000)
    held = {e.text.lower().strip(" .!") for e in texts_of("mlm", tmp_path, "en", "validation")}
    trained = texts_of("tlm", tmp_path, "de-en", "train")
    assert held
    assert len(trained) > 1800
    assert not held & {e.translation.lower().strip(" .!") for e in trained}
    assert not any(is_held_out(e.text) for e in trained)


def test_rows_of_a_forbidden_origin_are_in_no_split(tmp_path: Path):
    write(tmp_path / "mono/en.parquet", text=SENTENCES, origin=["ted", "bible"] * 1000)
    read = [e.text for split in ("train", "validation") for e in texts_of("mlm", tmp_path, "en", split)]
    assert sorted(read) == sorted(SENTENCES[1::2])


def test_text_without_an_origin_is_read(tmp_path: Path):
    write(tmp_path / "mono/xx.parquet", text=SENTENCES)
    assert texts_of("mlm", tmp_path, "xx", "train")


def test_languages_are_those_of_all_roots_and_the_first_root_wins(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one / "mono/sw.parquet", text=SENTENCES[:1000])
    write(other / "mono/sw.parquet", text=SENTENCES[1000:])
    write(other / "mono/de.parquet", text=SENTENCES)
    source = Texts("mono", ("text",))
    assert source.languages([one, other]) == ["de", "sw"]
    (part,) = source.open("train", [one, other], "sw")
    assert part.location == str(one / "mono/sw.parquet")


def test_splits_have_fingerprints_of_their_own(tmp_path: Path):
    write(tmp_path / "mono/en.parquet", text=SENTENCES)
    every = [
        Texts("mono", ("text",), without=without).open(split, [tmp_path], "en")[0].fingerprint
        for split in ("train", "validation")
        for without in ((), ("ted",))
    ]
    assert len(set(every)) == 4


def test_a_language_that_no_root_has_comes_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def load(*args, **kwargs):
        asked.append((args, kwargs["split"]))
        return Dataset.from_dict({"title": ["x"] * 2000, "text": SENTENCES})

    monkeypatch.setattr(xlt.data.sources, "load_dataset", load)
    task = replace(
        load_task("mlm"), source=Texts("mono", ("text",), hub=Hub("org/encyclopedia", "2023.{language}"))
    )
    both = [
        [e.text for e in read_examples(task, task.sources[0].open(split, [tmp_path], "sw"))]
        for split in ("train", "validation")
    ]
    assert sorted(both[0] + both[1]) == sorted(SENTENCES)
    assert set(asked) == {(("org/encyclopedia", "2023.sw"), "train")}
    write(tmp_path / "mono/sw.parquet", text=SENTENCES[:10])
    (part,) = task.sources[0].open("train", [tmp_path], "sw")
    assert part.location == str(tmp_path / "mono/sw.parquet")


def test_an_absent_language_and_an_absent_folder_say_what_there_is(tmp_path: Path):
    source = load_task("mlm").sources[0]
    message = r"no mono/<language>.parquet in .*: set data.root .* Or name the languages, such as mlm/sw"
    with pytest.raises(FileNotFoundError, match=message):
        source.languages([tmp_path])
    with pytest.raises(FileNotFoundError, match=r"no parallel/<language>.parquet in .*: set data.root"):
        texts_of("tlm", tmp_path, "de-en", "train")
    write(tmp_path / "parallel/sw-en.parquet", source=SENTENCES, target=SENTENCES)
    with pytest.raises(FileNotFoundError, match=r"no parallel/de-en.parquet in .*, only text in sw-en\."):
        texts_of("tlm", tmp_path, "de-en", "train")


def test_a_missing_column_is_named_with_the_row(tmp_path: Path):
    write(tmp_path / "parallel/sw-en.parquet", source=SENTENCES)
    with pytest.raises(ValueError, match=r"sw-en.parquet, row 0 \(task tlm\): column 'target' is missing"):
        texts_of("tlm", tmp_path, "sw-en", "train")

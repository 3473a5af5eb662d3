"""Sources of rows with images: files of a data root, copies of the hub's repositories, and the hub."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from PIL import Image as Picture

import xlt.data.sources
from xlt import tasks
from xlt.data import image_rows
from xlt.data.image_rows import ImageRows, Join
from xlt.data.image_sources import BySplit, FirstOf, Illustrated, LanguageSplits, RootFile, place_of
from xlt.data.images import key_of
from xlt.data.parquet import ParquetColumn
from xlt.data.sources import Hub, RawSplit, Split, open_parquet
from xlt.splits.reading import read_examples


def png(number: int) -> bytes:
    """A small picture, each number another."""
    content = io.BytesIO()
    Picture.new("RGB", (4, 4), (number, 0, 0)).save(content, "PNG")
    return content.getvalue()


PNGS = [png(number) for number in range(5)]


def write(root: Path, path: str, rows: list[dict[str, Any]], group: int = 2) -> Path:
    """A parquet file with row groups of few rows."""
    file = root / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=group)
    return file


def rows_of(raw_splits: list[RawSplit]) -> list[dict[str, Any]]:
    """The rows that the splits keep."""
    return [row for raw in raw_splits for row in raw.rows() if raw.keeps is None or raw.keeps(row)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Read few rows at a time, and keep what `datasets` prepares out of the user's cache."""
    monkeypatch.setattr(image_rows, "ROWS_WITH_IMAGES", 2)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    yield
    image_rows._INDICES.clear()


# Values of image columns


@pytest.mark.parametrize("form", ["bytes", "struct", "path"])
def test_images_are_read_in_each_form_when_needed(tmp_path: Path, form: str):
    for i, content in enumerate(PNGS):
        (tmp_path / f"{i}.png").write_bytes(content)
    values = {
        "bytes": PNGS,
        "struct": [{"bytes": content, "path": None} for content in PNGS],
        "path": [f"{i}.png" for i in range(len(PNGS))],
    }[form]
    write(tmp_path, "rows", [{"image": value, "label": i} for i, value in enumerate(values)])
    found = rows_of(Illustrated(RootFile("rows", only="train")).open("train", [tmp_path]))
    assert [row["label"] for row in found] == [0, 1, 2, 3, 4]
    assert [row["image"].key for row in found] == list(map(key_of, PNGS))
    for i in (4, 0, 3, 1, 2, 2):
        assert found[i]["image"].read() == PNGS[i]
    assert pickle.loads(pickle.dumps(found[3]["image"])) == found[3]["image"]


def test_images_apart_are_joined_without_their_contents(tmp_path: Path):
    file = write(tmp_path, "images", [{"id": i, "image": content} for i, content in enumerate(PNGS)])
    write(tmp_path, "rows", [{"of": i, "text": str(i)} for i in (3, 0, 3, 4)])
    source = Illustrated(RootFile("rows", only="train"), images=RootFile("images"), on="of", image_id="id")
    found = rows_of(source.open("train", [tmp_path]))
    assert [row["image"].read() for row in found] == [PNGS[i] for i in (3, 0, 3, 4)]
    (index,) = image_rows._INDICES.values()
    held = {image.read.args[0] for image in index.values()}  # type: ignore[attr-defined]
    assert len(held) == 1, "one column serves all images"
    (column,) = held
    assert isinstance(column, ParquetColumn)
    assert column._group is not None
    assert column._group[1].to_pylist() == [PNGS[4]], "only the last row group is in memory"
    assert open_parquet(file, "images").fingerprint in source.open("train", [tmp_path])[0].fingerprint


def test_each_text_of_an_image_is_a_row(tmp_path: Path):
    rows = [
        {"image": PNGS[0], "many": ["a", "b"], "one": "x"},
        {"image": PNGS[1], "many": [], "one": None},
        {"image": PNGS[2], "many": ["c"], "one": "z"},
    ]
    write(tmp_path, "rows", rows)
    source = Illustrated(RootFile("rows", only="train"), texts={"en": "many", "de": "one"})
    english, german = (rows_of(source.open("train", [tmp_path], code)) for code in ("en", "de"))
    assert [row["caption"] for row in english] == ["a", "b", "", "c"]
    assert [row["image"].read() for row in english] == [PNGS[i] for i in (0, 0, 1, 2)]
    assert [row["caption"] for row in german] == ["x", "", "z"]
    with pytest.raises(FileNotFoundError, match=r"rows\.parquet has no rows in fr, but in en, de"):
        source.open("train", [tmp_path], "fr")


def test_class_names_of_the_schema_are_kept(tmp_path: Path):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_dict({"image": [{"bytes": c} for c in PNGS[:2]], "label": [1, 0]}, features)
    rows.to_parquet(tmp_path / "rows.parquet")
    found = rows_of(Illustrated(RootFile("rows", only="train")).open("train", [tmp_path]))
    assert [row["label"].name for row in found] == ["yes", "no"]
    assert [row["image"].read() for row in found] == PNGS[:2]


# Bad input


def test_a_file_of_rows_must_name_its_split():
    with pytest.raises(ValueError, match=r"path 'rows': nothing names the split .*Put \{split\}"):
        Illustrated(RootFile("rows", "language"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"rows\.parquet, row 2, column image: the image must be the bytes .* not int\. Put the image"),
        (b"", r"row 2, column image: the image must be .* not bytes without content"),
        (None, r"row 2, column image: the image must be .* not NoneType without content"),
        (
            "9.png",
            r"row 2, column image: the image 9\.png cannot be read at .*9\.png .*\. Put the image there",
        ),
        ({"bytes": None, "path": None}, r"row 2, column image: the image must be"),
    ],
)
def test_a_value_that_is_no_image_is_named_with_file_row_and_column(tmp_path: Path, value: Any, message: str):
    (tmp_path / "0.png").write_bytes(PNGS[0])
    good = {int: 7, bytes: PNGS[0], dict: {"bytes": PNGS[0], "path": None}}.get(type(value), "0.png")
    rows = [{"image": good}, {"image": good}, {"image": value}]
    if isinstance(value, int):
        rows, message = [{"image": value}], message.replace("row 2", "row 0")
    write(tmp_path, "rows", rows)
    with pytest.raises(ValueError, match=message):
        rows_of(Illustrated(RootFile("rows", only="train")).open("train", [tmp_path]))


def test_missing_columns_images_and_files_are_named(tmp_path: Path):
    write(tmp_path, "rows", [{"of": "a", "text": "x"}, {"of": "b", "text": "y"}])
    with pytest.raises(ValueError, match=r"rows\.parquet has no column image; its columns are of, text"):
        rows_of(Illustrated(RootFile("rows", only="train")).open("train", [tmp_path]))
    apart = Illustrated(RootFile("rows", only="train"), images=RootFile("images"), on="of")
    with pytest.raises(
        ValueError, match=r"rows\.parquet needs its images, but images\.parquet is not in .* Add this file"
    ):
        apart.open("train", [tmp_path])
    write(tmp_path, "images", [{"image_id": "a", "image": PNGS[0]}])
    with pytest.raises(
        ValueError,
        match=r"rows\.parquet, row 1: of 'b' is not in the column image_id of .*images\.parquet\. Add",
    ):
        rows_of(apart.open("train", [tmp_path]))
    with pytest.raises(
        ValueError, match=r"rows\.parquet has no column language for the language of its rows"
    ):
        RootFile("rows", "language").open("test", [tmp_path])
    with pytest.raises(FileNotFoundError, match=r"other\.parquet is not in data\.root, which is not set"):
        RootFile("other").open("train", [])


def test_all_images_that_are_none_are_named_at_once(tmp_path: Path):
    (tmp_path / "0.png").write_bytes(PNGS[0])
    names = ["0.png", *(f"no{i}.png" for i in range(12)), "0.png"]
    write(tmp_path, "rows", [{"image": name} for name in names])
    source = Illustrated(RootFile("rows", only="train"))
    with pytest.raises(
        ValueError, match=r"12 images of .*rows\.parquet cannot be used\. The first 10:"
    ) as raised:
        rows_of(source.open("train", [tmp_path]))
    _, *lines = str(raised.value).splitlines()
    assert [f"row {i}, column image: the image no{i - 1}.png" in line for i, line in enumerate(lines, 1)] == (
        [True] * 10
    )
    write(tmp_path, "rows", [{"of": name} for name in ("a", "b", "c")])
    write(tmp_path, "images", [{"image_id": "b", "image": PNGS[0]}])
    with pytest.raises(
        ValueError, match=r"2 images of .*cannot be used:\n.*row 0: of 'a' .*\n.*row 2: of 'c'"
    ):
        rows_of(
            Illustrated(RootFile("rows", only="train"), images=RootFile("images"), on="of").open(
                "train", [tmp_path]
            )
        )


@pytest.mark.parametrize("address", ["http://a.org/1.jpg", "HTTPS://a.org/1.jpg"])
def test_addresses_of_the_web_give_one_message(tmp_path: Path, address: str):
    write(tmp_path, "rows", [{"image": address}] * 3)
    message = (
        rf"rows\.parquet, row 0, column image: the image {address} is an address of the web, but images must"
    )
    with pytest.raises(ValueError, match=message) as raised:
        rows_of(Illustrated(RootFile("rows", only="train")).open("train", [tmp_path]))
    assert len(str(raised.value).splitlines()) == 1


# Which rows


def languages(*codes: str) -> list[dict[str, Any]]:
    """A row in each language."""
    return [{"text": code, "language": code, "image": PNGS[i]} for i, code in enumerate(codes)]


def test_a_root_file_has_a_language_a_row(tmp_path: Path):
    write(tmp_path, "rows", languages("en", "de", "en"))
    source = RootFile("rows", "language")
    assert [row["text"] for row in rows_of(source.open("test", [tmp_path]))] == ["en", "en"]
    assert [row["text"] for row in rows_of(source.open("test", [tmp_path], "de"))] == ["de"]
    one, other = (source.open("test", [tmp_path], code)[0] for code in ("en", "de"))
    assert one.fingerprint != other.fingerprint
    with pytest.raises(FileNotFoundError, match=r"rows\.parquet has no row in fr, but in de, en"):
        source.open("test", [tmp_path], "fr")


def test_test_rows_are_no_training_rows(tmp_path: Path):
    write(tmp_path, "rows", languages("en"))
    source = RootFile("rows", "language", only="test")
    assert len(source.open("test", [tmp_path])) == 1
    with pytest.raises(FileNotFoundError, match=r"rows\.parquet has test rows only, no train rows"):
        source.open("train", [tmp_path])
    for name in ("xvnli", "xflickrco"):
        write(tmp_path, name, languages("en"))
        with pytest.raises(
            FileNotFoundError, match=rf"{name}\.parquet has test rows only, no validation rows"
        ):
            tasks.load(name).sources[0].open("validation", [tmp_path])


def test_root_files_precede_copies_of_the_hub_whose_splits_are_languages(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, "org/name/default/de", languages("de-hub"))
    write(other, "rows", languages("en", "de"))
    source = FirstOf((RootFile("rows", "language"), LanguageSplits(Hub("org/name"))))
    assert [r["text"] for r in rows_of(source.open("test", [one, other], "de"))] == ["de"]
    assert [r["text"] for r in rows_of(source.open("test", [one], "de"))] == ["de-hub"]
    with pytest.raises(
        FileNotFoundError, match=r"rows\.parquet is not in .*; .*holds de, but not ar\.parquet"
    ):
        source.open("test", [one], "ar")
    with pytest.raises(FileNotFoundError, match="org/name has test rows only, no train rows"):
        source.open("train", [one], "de")


def test_dev_rows_are_english_in_every_language(tmp_path: Path):
    write(tmp_path, "train", languages("en", "de"))
    write(tmp_path, "validation", languages("en", "de"))
    source = BySplit(RootFile("{split}", "language"), RootFile("{split}", "language"))
    assert [r["text"] for r in rows_of(source.open("train", [tmp_path], "de"))] == ["de"]
    assert [r["text"] for r in rows_of(source.open("validation", [tmp_path], "de"))] == ["en"]
    with pytest.raises(FileNotFoundError, match=r"data root: \{split\}\.parquet has no test rows"):
        source.open("test", [tmp_path], "de")
    assert place_of(source) == "data root: {split}.parquet"


def test_the_hub_gives_the_bytes_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = datasets.Features({"image": datasets.Image(), "id": datasets.Value("string")})
    given = {"image": [{"bytes": content} for content in PNGS], "id": list("abcde")}
    dataset = datasets.Dataset.from_dict(given, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: dataset)
    monkeypatch.setattr(xlt.data.sources, "_UNREACHABLE", set())
    own = Illustrated(Hub("org/name"))
    (raw,) = own.open("train", [])
    found = list(raw.rows())
    assert [row["image"].key for row in found] == list(map(key_of, PNGS))
    assert [found[i]["image"].read() for i in (4, 1)] == [PNGS[4], PNGS[1]]
    assert raw.fingerprint == own.open("train", [])[0].fingerprint
    write(tmp_path, "rows", [{"of": "e"}, {"of": "b"}])
    apart = Illustrated(RootFile("rows", only="train"), images=Hub("org/name"), on="of", image_id="id")
    assert [r["image"].read() for r in rows_of(apart.open("train", [tmp_path]))] == [PNGS[4], PNGS[1]]


def test_rows_of_a_users_own_source_keep_their_images():
    class Own:
        def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
            yield {"image": PNGS[:2]}
            yield {"image": PNGS[2:]}

    raw = RawSplit("own", "nowhere", None, "1", Own)
    (rows,) = [list(ImageRows(raw, ["image"]).iter(10))]
    assert [image.read() for chunk in rows for image in chunk["image"]] == PNGS
    (joined,) = list(
        ImageRows(
            RawSplit("r", "r", None, "2", IdRows), ["image"], Join([raw_ids()], "of", "id", "image")
        ).iter(9)
    )
    assert [image.read() for image in joined["image"]] == [PNGS[1], PNGS[0]]


class IdRows:
    """Rows that name images."""

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        yield {"of": ["b", "a"]}


def raw_ids() -> RawSplit:
    """Images with ids."""

    class Own:
        def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
            yield {"image": PNGS[:2], "id": ["a", "b"]}

    return RawSplit("own", "nowhere", None, "3", Own)


def test_a_column_is_read_by_row_over_row_groups(tmp_path: Path):
    file = write(tmp_path, "rows", [{"a": i, "b": str(i)} for i in range(11)], group=3)
    column = ParquetColumn(file, "b")
    order = np.random.default_rng(0).integers(0, 11, 50).tolist()
    assert [column[i] for i in order] == list(map(str, order))


# The mirror's photos


@pytest.fixture(scope="module")
def photos() -> Path:
    """The photos with captions beside the repository."""
    root = REPOSITORY.parent / "shared" / "multimodal"
    if not root.is_dir():
        pytest.skip("../shared/multimodal is absent")
    return root


SIZES: list[tuple[str, Split, int, int]] = [
    ("snli_ve", "train", 1832, 1605),
    ("snli_ve", "validation", 207, 205),
    ("xvnli_premise", "train", 1832, 1605),
    ("flickr_captions/de", "train", 6916, 6915),  # a photo stands there under two ids
    ("flickr_captions/cs", "validation", 237, 237),
    ("flickr_captions/fr", "test", 243, 243),
    *((f"xvnli/{code}", "test", 297, 95) for code in ("en", "ar", "es", "fr", "ru")),
    *((f"xflickrco/{code}", "test", 243, 243) for code in ("en", "de", "es", "id", "ja", "ru", "tr", "zh")),
]
"""Task, split, rows and distinct images, from the README of the mirror."""


@pytest.mark.parametrize(("name", "split", "rows", "images"), SIZES)
def test_the_mirror_has_the_rows_that_its_readme_counts(
    photos: Path, name: str, split: Split, rows: int, images: int
):
    task = tasks.load(name)
    raw_splits = [raw for source in task.sources for raw in source.open(split, [photos], task.language)]
    found = list(read_examples(task, raw_splits))
    assert len(found) == rows
    assert len({image.key for example in found for image in example.images}) == images
    assert all(map(task.is_labelled, found))
    for example in found[:: rows // 3]:
        content = example.images[0].read()
        assert key_of(content) == example.images[0].key
        assert content.startswith(b"\xff\xd8"), "JPEG"


def test_every_caption_of_a_photo_is_an_example(photos: Path):
    task = tasks.load("flickr_captions")
    found = list(read_examples(task, task.sources[0].open("validation", [photos])))
    table = pq.read_table(photos / "flickr" / "validation.parquet", columns=["captions_en", "image"])
    wanted = [(c, key_of(row["image"])) for row in table.to_pylist() for c in row["captions_en"]]
    assert [(e.text, e.image.key) for e in found] == wanted

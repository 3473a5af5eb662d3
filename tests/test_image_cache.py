"""The cache of image features: one array for each distinct image, computed once, and read by rows."""

import io
import logging
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image as Pillow
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from benchmarks import images
from xlt.data.array_store import ArrayStore
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import ImageTextPair
from xlt.data.features import Columns, Features, write_features
from xlt.data.image_store import IMAGE_KEY, IllustratedFeatures, Imagery, image_keys, keys_of
from xlt.data.images import image_of, key_of
from xlt.data.sources import Hub, RawSplit
from xlt.kinds import Classification
from xlt.models.encoders.vision import VisionEncoder
from xlt.splits import illustrating
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.encoding import encode_split
from xlt.splits.illustrating import ImageCache, size_of
from xlt.system.checks import NotFiniteError
from xlt.system.encoder_files import quietly


@dataclass(frozen=True, kw_only=True)
class Seen(Classification):
    """A class for a text and its images."""

    negatives: int = 0
    as_tokens: bool = True

    def encode(self, examples: Sequence[Any], first: int, text: TextEncoder) -> tuple[Columns, int]:
        columns, num_cut = super().encode(examples, first, text)
        return {**columns, IMAGE_KEY: [image_keys(example.images) for example in examples]}, num_cut

    def imagery(self) -> Imagery:
        return Imagery(self.as_tokens, self.negatives)


SEEN = Seen(
    source=Hub("lab/seen"),
    read=lambda row: ImageTextPair(row["text"], None, row["label"], images=tuple(row["images"])),
    labels=("no", "yes"),
    single_text=True,
    name="seen",
)


def photo(number: int) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    Pillow.new("RGB", (40, 30), (number * 37 % 256, number * 11 % 256, number % 256)).save(file, "PNG")
    return file.getvalue()


ROWS = [[0], [1], [0], [], [2, 3], [3, 1], [4]]
"""Numbers of the photos of each row."""


def write(root: Path, photos: Sequence[Sequence[bytes]], labels: Sequence[str] | None = None) -> None:
    folder = root / "lab" / "seen" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    texts = [f"text {i}" for i in range(len(photos))]
    images = pa.array([list(row) for row in photos], pa.list_(pa.binary()))
    table = pa.table({"text": texts, "label": labels or ["yes"] * len(photos), "images": images})
    pq.write_table(table, folder / "train.parquet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "root", [[photo(n) for n in row] for row in ROWS])
    return tmp_path / "root"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random image model: 4 x 4 patches, 16 numbers wide."""
    folder = str(tmp_path_factory.mktemp("vit"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    with quietly():
        ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)
        ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


class Opened(NamedTuple):
    task: Seen
    raw_splits: list[RawSplit]
    encoded: EncodedSplit

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.encoded.meta.rows)

    def illustrate(self, cache: ImageCache, rows: np.ndarray | None = None) -> IllustratedFeatures:
        cache.illustrate(self.task, self.raw_splits, self.encoded, self.rows if rows is None else rows)
        assert isinstance(self.encoded.features, IllustratedFeatures)
        return self.encoded.features


def opened(root: Path, cache: Path, task: Seen = SEEN, raw_splits: list[RawSplit] | None = None) -> Opened:
    text = TextEncoder(load_tokenizer(str(REPOSITORY / "encoders" / "mini")), 16, 4)
    raw_splits = raw_splits or task.sources[0].open("train", [root])
    folder = cache / f"rows-{len(list(cache.glob('rows-*')))}"
    return Opened(task, raw_splits, encode_split(task, raw_splits, text, folder))


def features_of(vit: str, tokens: int, *numbers: int) -> np.ndarray:
    """Features of photos by the vision encoder itself, one photo at a time."""
    encoder = VisionEncoder(vit, tokens)
    with torch.inference_mode():
        pixels = [torch.from_numpy(encoder.prepare(photo(n)))[None] for n in numbers]
        return np.concatenate([encoder(image).half().numpy() for image in pixels])


# What rows get


def test_rows_get_the_tokens_of_their_images(root: Path, tmp_path: Path, vit: str):
    features = opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))
    found = features.images(np.array([4, 3, 5, 0]), key=1)
    assert found.counts.tolist() == [2, 0, 2, 1]
    assert found.features.dtype == np.float16
    assert found.features.shape == (5, 4, 16)
    assert (found.features == features_of(vit, 4, 2, 3, 3, 1, 0)[:, 1:]).all()
    assert found.ids.dtype == np.int64
    assert found.ids[1] == found.ids[2]
    assert len(set(found.ids.tolist())) == 4
    assert found.negatives is None
    assert found.negative_ids is None
    none = features.images(np.array([3]), key=1)
    assert none.features.shape == (0, 4, 16)
    assert none.counts.tolist() == [0]


@pytest.mark.parametrize(("tokens", "as_tokens"), [(1, True), (1, False), (4, False)])
def test_rows_get_the_global_vector_of_their_images(
    root: Path, tmp_path: Path, vit: str, tokens: int, as_tokens: bool
):
    one = opened(root, tmp_path, replace(SEEN, as_tokens=as_tokens))
    found = one.illustrate(ImageCache(vit, tokens, False, tmp_path)).images(np.array([1, 6]), key=1)
    assert (found.features == features_of(vit, tokens, 1, 4)[:, :1]).all()


def test_a_trained_encoder_gets_pixels(
    root: Path, tmp_path: Path, vit: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    one = opened(root, tmp_path, replace(SEEN, negatives=2))
    found = one.illustrate(ImageCache(vit, 4, True, tmp_path)).images(np.array([4]), key=1)
    encoder = VisionEncoder(vit)
    assert found.features.dtype == np.uint8
    assert (found.features == np.stack([encoder.prepare(photo(n)) for n in (2, 3)])).all()
    assert found.negatives is None
    assert "num_negatives does not apply" in caplog.text


def test_text_columns_and_rows_stay_as_they_are(root: Path, tmp_path: Path, vit: str):
    one = opened(root, tmp_path)
    before, rows = one.encoded.features, one.rows
    after = one.illustrate(ImageCache(vit, 4, False, tmp_path))
    assert type(before) is Features
    for column in before.columns:
        assert (before.gather(column, rows)[0] == after.gather(column, rows)[0]).all()


def test_the_content_names_the_store(root: Path, tmp_path: Path, vit: str):
    contents = set()
    for tokens, is_trained in ((1, False), (4, False), (4, True)):
        one = opened(root, tmp_path)
        contents.add(one.encoded.meta.content)
        one.illustrate(ImageCache(vit, tokens, is_trained, tmp_path))
        contents.add(one.encoded.meta.content)
    assert len(contents) == 4


# Negatives


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[Path, list[Any]]:
    """Encoded rows with 40 images in 100 rows, without contents."""
    images = [image_of(photo(n)) for n in range(40)]
    columns = {"input_ids": [[0]] * 100, IMAGE_KEY: [image_keys([images[i * 7 % 40]]) for i in range(100)]}
    write_features(tmp_path / "features.arrow", [columns])
    return tmp_path / "features.arrow", images


def store_of(folder: Path, images: Sequence[Any], order: Sequence[int]) -> ArrayStore:
    """A store that got the images in some order. The feature of an image is its number."""
    folder.mkdir()
    store = ArrayStore(folder, (1, 1))
    for part in np.array_split(np.array(order), 3):
        keys = np.array([images[i].key for i in part], np.uint64)
        store.add(keys, np.array(part, np.float16)[:, None, None])
    store.refresh()
    return store


def test_the_draw_depends_on_the_step_alone(drawn: tuple[Path, list[Any]], tmp_path: Path):
    path, images = drawn
    rows = np.arange(0, 100, 2)
    first = IllustratedFeatures(
        path, store_of(tmp_path / "a", images, range(40)), rows, Imagery(False, 16), 1
    )
    order = np.random.default_rng(0).permutation(40)
    other = IllustratedFeatures(path, store_of(tmp_path / "b", images, order), rows, Imagery(False, 16), 1)
    in_use = {i * 7 % 40 for i in rows.tolist()}
    seen = set()
    for step in range(50):
        one, two = first.images(rows[:3], step), other.images(rows[7:30], step)
        assert one.negatives is not None
        assert one.negative_ids is not None
        assert two.negatives is not None
        assert (one.negatives == two.negatives).all()
        assert one.negatives.shape == (len(one.negative_ids), 1)
        assert len(set(one.negative_ids.tolist())) == len(one.negative_ids) <= 16
        # In this store, the number of an image is its place.
        assert (one.negatives[:, 0] == one.negative_ids).all()
        seen |= set(one.negative_ids.tolist())
    assert seen == in_use
    assert len({tuple(first.images(rows, step).negative_ids) for step in range(9)}) == 9  # type: ignore[arg-type]
    assert first.images(rows[:0], 0).negatives is not None


def test_rows_without_images_have_no_negatives(tmp_path: Path):
    write_features(tmp_path / "features.arrow", [{"input_ids": [[0]] * 3, IMAGE_KEY: [[]] * 3}])
    store = ArrayStore(tmp_path, (1, 1))
    features = IllustratedFeatures(tmp_path / "features.arrow", store, np.arange(3), Imagery(False, 4), 1)
    assert features.images(np.arange(3), 0).negatives is None


# Computed once


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keys of the images that encoders prepare, in order."""
    keys: list[int] = []
    prepare = VisionEncoder.prepare

    def counted(encoder: VisionEncoder, content: bytes) -> np.ndarray:
        keys.append(key_of(content))
        return prepare(encoder, content)

    monkeypatch.setattr(VisionEncoder, "prepare", counted)
    return keys


def test_an_image_is_read_once_by_all_runs(root: Path, tmp_path: Path, vit: str, prepared: list[int]):
    opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path), np.array([0, 2]))
    assert prepared == [key_of(photo(0))]
    cache = ImageCache(vit, 4, False, tmp_path)
    opened(root, tmp_path).illustrate(cache)
    assert sorted(prepared) == sorted(key_of(photo(n)) for n in range(5))
    write(tmp_path / "other", [[photo(3)], [photo(9)]])
    opened(tmp_path / "other", tmp_path).illustrate(cache)
    assert len(prepared) == len(set(prepared)) == 6
    assert len(list(tmp_path.glob("images-*"))) == 1
    assert cache.store.num_arrays == 6


def test_each_encoder_and_number_of_tokens_has_a_store(root: Path, tmp_path: Path, vit: str):
    with quietly():
        ViTModel.from_pretrained(vit).save_pretrained(tmp_path / "vit")
        ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.4] * 3).save_pretrained(
            tmp_path / "vit"
        )
    settings = [
        (vit, 1, False),
        (vit, 4, False),
        (vit, 4, True),
        (vit, 1, True),
        (str(tmp_path / "vit"), 4, False),
    ]
    names = [ImageCache(*setting, tmp_path).store.folder.name for setting in settings]
    assert names[2] == names[3]  # pixels do not depend on tokens
    assert len(set(names)) == 4
    assert ImageCache(vit, 4, False, tmp_path).store.folder.name == names[1]


def test_a_build_that_was_killed_continues(
    root: Path, tmp_path: Path, vit: str, prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(illustrating, "SAVED", 2)
    add, calls = ArrayStore.add, []

    def killed(store: ArrayStore, keys: np.ndarray, arrays: np.ndarray) -> None:
        calls.append(len(keys))
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(store, keys, arrays)

    monkeypatch.setattr(ArrayStore, "add", killed)
    cache = ImageCache(vit, 4, False, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        opened(root, tmp_path).illustrate(cache)
    with (cache.store.folder / "vectors.bin").open("ab") as file:
        file.write(b"torn off")
    prepared.clear()
    features = opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))
    assert calls == [2, 2, 2, 1]
    assert prepared == [key_of(photo(n)) for n in (2, 3, 4)]
    found = features.images(np.array([0, 1, 4, 6]), key=0)
    assert (found.features == features_of(vit, 4, 0, 1, 2, 3, 4)[:, 1:]).all()


def _illustrate(root: Path, cache: Path, vit: str, name: str) -> None:
    """Complete the store in a process of its own."""
    torch.set_num_threads(1)
    one = opened(root, cache / name)
    one.illustrate(ImageCache(vit, 4, False, cache))


@pytest.mark.slow
def test_processes_share_the_work(root: Path, tmp_path: Path, vit: str):
    write(root, [[photo(n)] for n in range(60)])
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_illustrate, args=(root, tmp_path, vit, name)) for name in "ab"]
    for name in "ab":
        (tmp_path / name).mkdir()
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    store = ImageCache(vit, 4, False, tmp_path).store
    assert store.num_arrays == 60
    assert (store.find(np.array([key_of(photo(n)) for n in range(60)], np.uint64)) >= 0).all()


def test_features_do_not_depend_on_the_other_images(root: Path, tmp_path: Path, vit: str):
    together = opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))
    write(tmp_path / "alone", [[photo(3)]])
    (tmp_path / "b").mkdir()
    alone = opened(tmp_path / "alone", tmp_path / "b").illustrate(ImageCache(vit, 4, False, tmp_path / "b"))
    assert (alone.images(np.array([0]), 0).features == together.images(np.array([4]), 0).features[1:]).all()


def test_batches_are_filled_up(tmp_path: Path, root: Path, vit: str, monkeypatch: pytest.MonkeyPatch):
    """As on CUDA, where batches are larger."""
    monkeypatch.setattr(illustrating, "BATCH", {"cpu": 3, "cuda": 3})
    sizes, forward = [], VisionEncoder.forward
    monkeypatch.setattr(VisionEncoder, "forward", lambda self, x: sizes.append(len(x)) or forward(self, x))
    features = opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))
    assert sizes == [3, 3]
    found = features.images(np.array([0, 1, 4, 6]), key=0).features.astype(np.float32)
    assert np.allclose(found, features_of(vit, 4, 0, 1, 2, 3, 4)[:, 1:], atol=1e-3)


# Perturbed rows


def test_images_of_other_rows_are_found_in_the_clean_rows(root: Path, tmp_path: Path, vit: str):
    pool = [replace(image_of(photo(n)), read=lambda: b"") for n in range(5)]

    def other(example: ImageTextPair) -> ImageTextPair:
        """The next photo, of which the perturbation knows the key alone."""
        return replace(example, images=tuple(pool[(pool.index(image) + 1) % 5] for image in example.images))

    perturbed = [replace(part, perturb=other) for part in SEEN.sources[0].open("train", [root])]
    features = opened(root, tmp_path, raw_splits=perturbed).illustrate(ImageCache(vit, 4, False, tmp_path))
    found = features.images(np.array([4, 6]), 0).features
    assert (found == features_of(vit, 4, 3, 4, 0)[:, 1:]).all()


def test_new_images_of_perturbed_rows_are_added(root: Path, tmp_path: Path, vit: str):
    def darker(example: ImageTextPair) -> ImageTextPair:
        return replace(
            example, images=tuple(image_of(photo(image.key % 50 + 10)) for image in example.images)
        )

    cache = ImageCache(vit, 4, False, tmp_path)
    opened(root, tmp_path).illustrate(cache)
    perturbed = [replace(part, perturb=darker) for part in SEEN.sources[0].open("train", [root])]
    features = opened(root, tmp_path, raw_splits=perturbed).illustrate(cache)
    number = key_of(photo(4)) % 50 + 10
    assert (features.images(np.array([6]), 0).features == features_of(vit, 4, number)[:, 1:]).all()


# Errors, before any training


def test_a_bad_image_names_file_row_and_task(tmp_path: Path, vit: str):
    write(tmp_path, [[photo(0)], [photo(1)], [photo(2)[:60]]])
    message = r"train.parquet, row 2 \(task seen\): the image file is damaged or cut off .*leave the row out"
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))


def test_all_bad_images_are_named_at_once_and_the_others_are_kept(tmp_path: Path, vit: str):
    write(tmp_path, [[photo(n) if n % 2 else b"no image %d" % n] for n in range(24)])
    cache = ImageCache(vit, 4, False, tmp_path)
    with pytest.raises(ValueError, match=r"12 images of seen cannot be used\. The first 10:") as raised:
        opened(tmp_path, tmp_path).illustrate(cache)
    _, *lines = str(raised.value).splitlines()
    assert len(lines) == 10
    for row, line in zip(range(0, 24, 2), lines, strict=False):
        assert f"train.parquet, row {row} (task seen): the image file is not of a known format" in line
    good = np.array([key_of(photo(n)) for n in range(1, 24, 2)], np.uint64)
    assert (ImageCache(vit, 4, False, tmp_path).store.find(good) >= 0).all()


def test_a_bad_image_of_a_row_that_is_not_used_does_no_harm(tmp_path: Path, vit: str):
    write(tmp_path, [[photo(0)], [b"no image"], [b"nor this"]], ["yes", "yes", ""])
    opened(tmp_path, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path), np.array([0]))
    with pytest.raises(ValueError, match=r"row 1 \(task seen\): the image file is not of a known format"):
        opened(tmp_path, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path), np.array([0, 1]))


def test_a_feature_that_is_not_finite_names_its_row(
    root: Path, tmp_path: Path, vit: str, monkeypatch: pytest.MonkeyPatch
):
    forward = VisionEncoder.forward

    def overflow(encoder: VisionEncoder, pixels: torch.Tensor) -> torch.Tensor:
        is_third = bool((pixels[:, 2] == 2).all())  # the blue of photo 2
        return forward(encoder, pixels) * (1e6 if is_third else 1)

    monkeypatch.setattr(VisionEncoder, "forward", overflow)
    message = r"row 4 \(task seen\): the vision encoder .* not finite in half precision.*model.vision_encoder"
    with pytest.raises(NotFiniteError, match=message):
        opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))


def test_images_that_have_changed_since_are_missed(root: Path, tmp_path: Path, vit: str):
    one = opened(root, tmp_path)
    write(root, [[photo(n + 20) for n in row] for row in ROWS])
    again = SEEN.sources[0].open("train", [root])
    message = r"5 images of the encoded rows of seen are not in .*train.parquet: .*data\.cache"
    with pytest.raises(ValueError, match=message):
        one._replace(raw_splits=again).illustrate(ImageCache(vit, 4, False, tmp_path))


class Usage(NamedTuple):
    free: int


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    root: Path, tmp_path: Path, vit: str, monkeypatch: pytest.MonkeyPatch, prepared: list[int]
):
    monkeypatch.setattr(illustrating.shutil, "disk_usage", lambda _: Usage(illustrating.SPARE + 800))
    cache = ImageCache(vit, 4, False, tmp_path)
    # 5 images of 5 x 16 half-precision numbers and a key of 8 bytes: 840 bytes.
    message = (
        r"5 images of seen do not fit on the disk of data.cache, .*\(840 bytes, 160 bytes each, 67.1 MB f"
    )
    with pytest.raises(OSError, match=message):
        opened(root, tmp_path).illustrate(cache)
    assert prepared == []
    assert not (cache.store.folder / "vectors.bin").exists()


def test_the_size_is_said_before_writing(
    root: Path, tmp_path: Path, vit: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    opened(root, tmp_path).illustrate(ImageCache(vit, 4, False, tmp_path))
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("illustrating")]
    assert "features by" in lines[0]
    assert "of 5 new images into" in lines[0]
    assert "840 bytes, 160 bytes each" in lines[0]
    assert lines[1].startswith("seen: 5 of 5 images, ")
    assert len(lines) == 2


def test_sizes_are_readable():
    assert [size_of(n) for n in (0, 999, 1000, 2_200_000_000, 3 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.2 GB",
        "3,000.0 TB",
    ]


def test_keys_come_back_from_the_columns(tmp_path: Path):
    images = [[image_of(photo(n)) for n in row] for row in ROWS]
    write_features(tmp_path / "f", [{IMAGE_KEY: [image_keys(row) for row in images]}])
    keys, counts = keys_of(Features(tmp_path / "f"), np.arange(len(ROWS)))
    assert counts.tolist() == [len(row) for row in ROWS]
    assert keys.tolist() == [image.key for row in images for image in row]


def test_the_benchmark_counts_bytes_and_draws_different_photos(vit: str):
    assert len({*images.photos(5)}) == 5
    found = images.measure(5, vit, 4, str(REPOSITORY / "encoders" / "mini"))
    assert found.num_bytes == 5 * (5 * 16 * 2 + 8)
    assert found.seconds > 0
    assert 0 <= found.growth < found.peak

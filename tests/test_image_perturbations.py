"""Perturbed images: their names, their keys and content, which image another one takes the place of."""

import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corrupt_tta import corrupt, corruption_dict
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures
from PIL import ImageDraw
from test_perturbations import BY_PLACE

from benchmarks.corruptions import measure
from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import ImageCaption, ImageTextPair, TextPair
from xlt.data.image_store import Imagery
from xlt.data.images import Image, image_of
from xlt.data.parallel import joined
from xlt.data.sources import Hub
from xlt.evaluation.perturbations import corruption
from xlt.evaluation.perturbations.code_mixing import CodeMixing, Translations
from xlt.evaluation.perturbations.corruption import KINDS, corrupted, corrupted_pixels, seeded
from xlt.evaluation.perturbations.images import (
    Corruption,
    ImageName,
    NoImage,
    OtherImage,
    image_name,
    why_not,
    with_images,
)
from xlt.evaluation.perturbations.noise import Noise
from xlt.evaluation.perturbations.perturbations import Inapplicable, Name, Perturbations, names_of
from xlt.kinds.classification import Classification
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits

FAST = [kind for kind in KINDS if kind not in ("glass_blur", "zoom_blur", "elastic_transform")]


def drawn(number: int, width: int = 60, height: int = 40, form: str = "PNG") -> bytes:
    """An image file with a rectangle and a line, other ones for each number."""
    picture = Pictures.new("RGB", (width, height), (40, 90, 200 - number % 100))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((3, 3, 20 + number % 30, 30), fill=(number * 37 % 256, 200, number * 91 % 256))
    pen.line((0, 0, width, number % height), fill=(255, 255, 255))
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def image(number: int) -> Image:
    return image_of(drawn(number))


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Pictures.open(io.BytesIO(content)))


def pair(*numbers: int) -> ImageTextPair:
    return ImageTextPair("A dog runs.", "An animal moves.", "yes", "7", tuple(map(image, numbers)))


# Names


def test_images_have_names_of_their_own_beside_noise_and_mixes():
    names = names_of(["corrupt-fog-3", "noise-5", "no-image", "other-image", "no-image"], 2)
    assert list(map(str, names)) == ["corrupt-fog-3", "noise-5", "no-image", "other-image"]
    assert [name.level for name in names] == list(map(str, names))
    assert names[0] == ImageName("corrupt", "fog", 3)
    assert image_name("corrupt-jpeg_compression-5") == ImageName("corrupt", "jpeg_compression", 5)


def test_the_kinds_are_those_of_the_library():
    assert set(KINDS) == set(corruption_dict)
    assert len(KINDS) == 19


@pytest.mark.parametrize(
    "name", ["corrupt-fogg-3", "corrupt-fog-0", "corrupt-fog-6", "corrupt-fog", "corrupt", "corrupt-fog-3-1"]
)
def test_an_unknown_corruption_is_refused_with_the_kinds(name: str):
    with pytest.raises(ValueError, match=f"perturbations names '{name}'.*severity of 1 to 5.*gaussian_noise"):
        names_of([name], 1)


def test_an_unknown_perturbation_is_refused_with_all_forms():
    with pytest.raises(ValueError, match=r"noise-PERCENT.*corrupt-KIND-SEVERITY.*no-image, or other-image"):
        names_of(["no-images"], 1)


@pytest.mark.parametrize(
    ("missing", "said"), [("corrupt_tta", "import of corrupt_tta halted"), ("cv2", "import of cv2 halted")]
)
def test_a_corruption_without_its_library_is_refused(
    missing: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("corrupt_tta", "corrupt_tta.corruptions"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=rf"{said}.*pip install -e '\.\[vision\]'.*libGL.*headless"):
        names_of(["corrupt-fog-3"], 1)
    assert names_of(["no-image"], 1) == [ImageName("no-image")]


# Corruptions


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("kind", FAST)
def test_a_kind_gives_the_image_that_the_library_gives_with_the_same_seed(kind: str, severity: int):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found = corrupted_pixels(pixels, kind, severity, 5)
    assert found.shape == pixels.shape
    assert not np.array_equal(found, pixels)
    np.random.seed([5, 0])
    if kind != "impulse_noise":
        expected = np.asarray(corrupt(pixels, severity, kind), float)
        np.testing.assert_allclose(found, expected, atol=0.5001)


def test_impulse_noise_replaces_its_share_of_the_values_and_can_be_repeated():
    grey = np.full((100, 100, 3), 128, np.uint8)
    for severity, share in enumerate((0.03, 0.06, 0.09, 0.17, 0.27), 1):
        found = corrupted_pixels(grey, "impulse_noise", severity, 1)
        assert (found != 128).mean() == pytest.approx(share, abs=0.01)
        assert (found == 255).mean() == pytest.approx(share / 2, abs=0.01)
        assert (found == 0).mean() == pytest.approx(share / 2, abs=0.01)
        np.testing.assert_array_equal(found, corrupted_pixels(grey, "impulse_noise", severity, 1))


def test_the_state_of_the_global_generator_is_restored():
    np.random.seed(3)
    expected = np.random.random_sample(4)
    np.random.seed(3)
    corrupted(drawn(1), "gaussian_noise", 1, 9)
    first = np.random.random_sample(2)
    with pytest.raises(ZeroDivisionError), seeded(4):
        _ = 1 // np.random.random_sample(0).size
    np.testing.assert_array_equal([*first, *np.random.random_sample(2)], expected)


def test_large_seeds_differ_in_every_half():
    draws = []
    for seed in (0, 1, 2**32, 2**64 - 1):
        with seeded(seed):
            draws.append(np.random.random_sample())
    assert len(set(draws)) == 4


CODE = """
import hashlib, sys
from xlt.evaluation.perturbations.corruption import corrupted
content = sys.stdin.buffer.read()
for kind in sys.argv[1:]:
    print(hashlib.sha256(corrupted(content, kind, 3, 2**40 + 11)).hexdigest())
"""


def test_another_process_makes_the_same_images():
    expected = [hashlib.sha256(corrupted(drawn(2), kind, 3, 2**40 + 11)).hexdigest() for kind in KINDS]
    found = subprocess.run(
        [sys.executable, "-c", CODE, *KINDS],
        input=drawn(2),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert found.stdout.decode().split() == expected
    assert len(set(expected)) == len(KINDS)


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((60, 40), (336, 224)),
        ((640, 480), (299, 224)),
        ((8, 8), (224, 224)),
        ((900, 20), (896, 224)),
        ((20, 900), (224, 896)),
    ],
)
def test_an_image_of_any_size_is_scaled_before_it_is_corrupted(
    size: tuple[int, int], scaled: tuple[int, int]
):
    file = Pictures.open(io.BytesIO(corrupted(drawn(1, *size), "pixelate", 5, 0)))
    assert file.size == scaled
    assert (file.format, file.mode) == ("PNG", "RGB")


def test_every_kind_takes_images_that_are_not_square():
    for kind in KINDS:
        for size in ((60, 40), (40, 73)):
            found = opened(corrupted(drawn(1, *size), kind, 2, 0))
            assert min(found.shape[:2]) == 224


def test_a_file_that_is_no_image_cannot_be_corrupted():
    with pytest.raises(ValueError, match="image"):
        corrupted(b"no image", "fog", 1, 0)


def test_corrupted_images_have_keys_that_need_no_content():
    def refuse() -> bytes:
        raise AssertionError

    unread = [Image(key, refuse) for key in (1, 2, 2**64 - 1)]
    made = [
        Corruption(kind, severity, seed).image(image).key
        for image in unread
        for kind, severity, seed in (("fog", 1, 0), ("fog", 2, 0), ("snow", 1, 0), ("fog", 1, 1))
    ]
    assert len({*made, *(image.key for image in unread)}) == 15
    assert made[0] == Corruption("fog", 1, 0).image(unread[0]).key


def test_a_corrupted_example_keeps_its_text_and_reads_corrupted_images(monkeypatch: pytest.MonkeyPatch):
    example, corruptor = pair(1, 2), Corruption("contrast", 5, 0)
    found = corruptor(example)
    assert replace(found, images=example.images) == example
    for before, after in zip(example.images, found.images, strict=True):
        assert opened(after.read()).std((0, 1)).max() < 0.2 * opened(before.read()).std((0, 1)).max()
        assert after.read() == corruptor.image(before).read()
        assert pickle.loads(pickle.dumps(after)) == after
    caption = ImageCaption(image(1), "A dog.", "3")
    assert corruptor(caption) == replace(caption, image=found.images[0])
    monkeypatch.setattr(corruption, "VERSION", 0)
    corruption.definition.cache_clear()
    assert corruptor.image(example.images[0]).key != found.images[0].key
    corruption.definition.cache_clear()


def test_the_draws_depend_on_the_image_and_the_seed():
    example = pair(1, 1, 2)
    one, same, other = (opened(i.read()) for i in Corruption("speckle_noise", 3, 0)(example).images)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    again = opened(Corruption("speckle_noise", 3, 1)(pair(1)).images[0].read())
    assert not np.array_equal(one, again)


def test_perturbations_have_fingerprints_of_their_own():
    found = [
        Corruption("fog", 1, 0), Corruption("fog", 2, 0), Corruption("fog", 1, 1), Corruption("snow", 1, 0),
        NoImage(), OtherImage(0, "a", list), OtherImage(1, "a", list), OtherImage(0, "b", list),
    ]  # fmt: skip
    assert len({perturb.fingerprint for perturb in found}) == len(found)
    assert OtherImage(0, "a", list).fingerprint == OtherImage(0, "a", tuple).fingerprint


# No image, another image


def test_an_example_without_images_keeps_everything_else():
    assert NoImage()(pair(1, 2)) == replace(pair(1, 2), images=())


def test_examples_without_images_are_refused():
    for perturb in (NoImage(), Corruption("fog", 1, 0), OtherImage(0, "", lambda: [pair(1), pair(2)])):
        with pytest.raises(TypeError, match="a TextPair has no images"):
            perturb(TextPair("one", "two", "yes"))


def other(examples: Sequence[Any], seed: int = 0) -> OtherImage:
    return OtherImage(seed, "rows", lambda: examples)


def keyed(*keys: int) -> ImageTextPair:
    return ImageTextPair("one", "two", "yes", "", tuple(Image(key, lambda: b"") for key in keys))


def keys(example: ImageTextPair) -> list[int]:
    return [image.key for image in example.images]


KEYS = st.integers(0, 2**64 - 1)


@given(st.lists(KEYS, min_size=2), st.integers(0, 3), st.randoms())
def test_one_image_a_row_gives_a_derangement_whatever_the_order_of_the_rows(
    numbers: list[int], seed: int, draws: Any
):
    assume(len(set(numbers)) > 1)
    rows = [keyed(number) for number in numbers]
    assert why_not(ImageName("other-image"), rows) == ""
    swapped = {keys(row)[0]: keys(other(rows, seed)(row))[0] for row in rows}
    assert all(before != after for before, after in swapped.items())
    assert set(swapped) == set(swapped.values())
    shuffled = draws.sample(rows, len(rows))
    assert swapped == {keys(row)[0]: keys(other(shuffled, seed)(row))[0] for row in shuffled}


@settings(max_examples=200)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=2), min_size=1, max_size=8))
def test_two_images_a_row_give_none_of_the_rows_own_images(rows: list[list[int]]):
    examples = [keyed(*row) for row in rows]
    if why_not(ImageName("other-image"), examples):
        distinct, most = len({key for row in rows for key in row}), max(len(set(row)) for row in rows)
        assert distinct < 2 + most * (most - 1)
        return
    first = next(n for n in range(1, 9) if not why_not(ImageName("other-image"), examples[:n]))
    for example in examples[:first]:  # a later row may have more images than those that were looked at
        found = keys(other(examples)(example))
        assert not set(found) & set(keys(example))
        assert len(set(found)) == len(set(keys(example)))


def test_the_seed_draws_the_order():
    rows = [keyed(key) for key in range(20)]
    found = [[keys(other(rows, seed)(row)) for row in rows] for seed in range(3)]
    assert found[0] != found[1] != found[2]
    assert found[0] == [keys(other(rows)(row)) for row in rows]


def test_a_swapped_image_is_read_from_the_row_that_has_it():
    rows = [pair(1), pair(2), pair(3)]
    contents = {row.images[0].key: row.images[0].read() for row in rows}
    for row in rows:
        (found,) = other(rows)(row).images
        assert found.read() == contents[found.key]


def test_a_row_with_too_many_images_of_its_own_is_refused():
    rows = [keyed(1), keyed(1, 2)]
    with pytest.raises(ValueError, match="2 distinct images, too few to give the row others than its own 2"):
        other(rows)(rows[1])


@pytest.mark.parametrize(
    ("name", "examples", "reason"),
    [
        ("no-image", [TextPair("one", None, "yes")], "its examples have no images"),
        ("no-image", [ImageCaption(image(1), "A dog.")], "nothing to match without images"),
        ("other-image", [ImageCaption(image(1), "A dog.")], "With another image no answer is right"),
        ("other-image", [keyed(1), keyed(1)], r"its rows have 1 distinct image\(s\)"),
        ("other-image", [keyed(1, 2), keyed(2, 3)], r"its rows have 3 distinct image\(s\)"),
        ("other-image", [keyed(1), keyed(2)], "^$"),
        ("corrupt", [ImageCaption(image(1), "A dog.")], "^$"),
        ("corrupt", [], "^$"),
    ],
)
def test_images_that_cannot_be_perturbed_have_a_reason(name: str, examples: list[Any], reason: str):
    found = why_not(ImageName(name), examples)
    assert re.search(reason, found)


# Texts of examples with images


def test_noise_changes_the_text_of_examples_with_images():
    noise = Noise(100, 0)
    plain = noise(TextPair("A dog runs.", "An animal moves.", "yes", "7"))
    assert noise(pair(1)) == ImageTextPair(plain.first, plain.second, "yes", "7", pair(1).images)
    caption = noise(ImageCaption(image(1), "A dog runs.", "3"))
    assert caption == ImageCaption(image(1), plain.first, "3")


def test_code_mixing_changes_the_text_of_examples_with_images(tmp_path: Path):
    english = [ImageCaption(image(n), f"dog number {n} runs", str(n)) for n in range(4)]
    german = [ImageCaption(image(n), f"hund nummer {n} rennt", str(n)) for n in range(4)]
    assert joined(english, german) == list(zip(english, german, strict=True))
    by_language: dict[str, list[Any]] = {"en": english, "de": german}
    translations = Translations(by_language.__getitem__, tmp_path, BY_PLACE)
    mixing = CodeMixing(100, 0, 0, "en", ("de",), "", translations)
    assert [mixing(example) for example in english] == german
    pairs = [ImageTextPair(e.text, None, "yes", e.id, (e.image,)) for e in english]
    by_language |= {"en": pairs, "de": [replace(p, first=g.text) for p, g in zip(pairs, german, strict=True)]}
    mixing = replace(mixing, translations=Translations(by_language.__getitem__, tmp_path, BY_PLACE))
    assert [mixing(example) for example in pairs] == by_language["de"]


# Rows


@dataclass(frozen=True, kw_only=True)
class WithImages(Classification):
    def imagery(self) -> Imagery:
        return Imagery(True)


def read(row: Any) -> ImageTextPair:
    return ImageTextPair(row["first"], row["second"], row["label"], "", (row["image"],))


@pytest.fixture
def task() -> WithImages:
    return WithImages(
        source=Hub("drawn/pairs"), read=read, labels=("yes", "no"), languages=("en",), name="drawn/en"
    )


@pytest.fixture
def splits(tmp_path: Path, tiny_encoder: str) -> Splits:
    rows = [{"first": f"dog {n}", "second": "cat", "label": n % 2, "image": drawn(n // 2)} for n in range(8)]
    path = tmp_path / "root" / "en" / "drawn" / "pairs" / "default" / "validation.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return Splits([tmp_path / "root"], tmp_path / "cache", TextEncoder(load_tokenizer(tiny_encoder), 64, 16))


@pytest.mark.parametrize("name", ["corrupt-fog-2", "no-image", "other-image"])
def test_rows_are_read_with_perturbed_images(name: str, task: WithImages, splits: Splits):
    raw = splits.raw_splits(task, "validation")
    parts = Perturbations({}, splits, Path(), BY_PLACE, 0).perturbed(
        names_of([name], 1)[0], task, "validation", raw
    )
    clean, found = (list(read_examples(task, rows)) for rows in (raw, parts))
    assert [replace(e, images=()) for e in found] == [replace(e, images=()) for e in clean]
    assert {e.images == f.images for e, f in zip(clean, found, strict=True)} == {False}
    assert len({e.images for e in found}) == (1 if name == "no-image" else 4)
    assert splits.folder(task, "validation", raw) != splits.folder(task, "validation", parts)
    assert splits.open(task, "validation", parts).meta.examples == 8
    assert str(parts[0].name).endswith(f" {name}")


def test_text_tasks_and_rows_with_a_single_image_are_missing_with_a_reason(
    task: WithImages, splits: Splits, tmp_path: Path
):
    perturbations = Perturbations({}, splits, Path(), BY_PLACE, 0)
    with pytest.raises(Inapplicable, match="its examples have no images"):
        perturbations.perturbed(ImageName("corrupt", "fog", 3), tasks.load("xnli/de"), "validation", [])
    path = tmp_path / "root" / "en" / "drawn" / "pairs" / "default" / "validation.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([{**row, "image": drawn(0)} for row in rows]), path)
    with pytest.raises(Inapplicable, match="its rows have 1 distinct image"):
        perturbations.perturbed(
            ImageName("other-image"), task, "validation", splits.raw_splits(task, "validation")
        )
    assert perturbations.perturbed(
        Name("noise", 5), task, "validation", splits.raw_splits(task, "validation")
    )


def test_other_types_have_no_images():
    with pytest.raises(TypeError, match="a str has no images"):
        with_images("text", ())


# Times


def test_the_benchmark_sorts_the_kinds_by_their_time():
    found = measure(["glass_blur", "brightness"])
    assert list(found) == ["brightness", "glass_blur"]
    assert all(len(times) == 5 and min(times) > 0 for times in found.values())

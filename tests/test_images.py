"""Image files: which are used, what becomes of each format, and which are refused."""

import io
import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from xlt.data.examples import ImageTextPair
from xlt.data.images import Image, decode, image_of, images_beside, key_of
from xlt.data.sources import Hub
from xlt.kinds import Classification
from xlt.splits.reading import read_examples

SIDES = 24, 16


def photo(mode: str = "RGB") -> Pillow.Image:
    """A drawn photo: colours change from corner to corner."""
    across, down = np.meshgrid(np.arange(SIDES[0]), np.arange(SIDES[1]))
    pixels = np.stack([across * 10, down * 15, 255 - across * 10], axis=-1).astype(np.uint8)
    return Pillow.fromarray(pixels).convert(mode)


def saved(image: Pillow.Image, kind: str = "PNG", **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def close(found: Pillow.Image, expected: Pillow.Image, within: int = 0) -> bool:
    assert found.mode == "RGB"
    difference = np.asarray(found).astype(int) - np.asarray(expected.convert("RGB"))
    return found.size == expected.size and bool((abs(difference) <= within).all())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG", "JPEG2000", "AVIF"])
def test_every_format_is_read(kind: str):
    settings = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind in ("JPEG", "AVIF") else {}
    assert close(
        decode(saved(photo(), kind, **settings)), photo(), {"JPEG": 25, "AVIF": 25, "GIF": 40}.get(kind, 0)
    )


@pytest.mark.parametrize("mode", ["L", "1", "P", "YCbCr", "CMYK", "LAB"])
def test_other_colours_become_rgb(mode: str):
    kind = "TIFF" if mode in ("CMYK", "YCbCr", "LAB") else "PNG"
    image = photo("RGB").convert(mode) if mode != "LAB" else Pillow.merge("LAB", photo().split())
    found = decode(saved(image, kind))
    assert found.mode == "RGB"
    if mode != "LAB":
        assert close(found, image.convert("RGB"), 2)


def test_cmyk_jpeg_has_the_colours_of_the_photo():
    assert close(decode(saved(photo("CMYK"), "JPEG", quality=100)), photo(), 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(mode: str):
    grey = Pillow.new("L", SIDES, 100)
    alpha = Pillow.new("L", SIDES, 0)
    alpha.paste(255, (0, 0, 12, 16))
    image = Pillow.merge("LA", (grey, alpha))
    image = image.convert("RGBA") if mode == "RGBA" else image
    found = np.asarray(decode(saved(image, "TIFF" if mode == "PA" else "PNG")))
    assert (found[:, :12] == 100).all()
    assert (found[:, 12:] == 255).all()


def test_a_transparent_colour_of_a_palette_is_white():
    image = Pillow.new("P", SIDES, 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 4, 16))
    found = np.asarray(decode(saved(image, transparency=0)))
    assert found[0, 0].tolist() == [200, 100, 50]
    assert found[0, 10].tolist() == [255, 255, 255]


def test_sixteen_bits_become_eight():
    values = np.linspace(0, 65535, 24 * 16).reshape(16, 24).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        found = np.asarray(decode(saved(Pillow.fromarray(values), kind)))
        assert (found[..., 0] == np.round(values / 65535 * 255)).all()
        assert (found[..., 0] == found[..., 1]).all()


def png_of_16_bit_colours(values: np.ndarray) -> bytes:
    """A PNG with 16 bits for each of red, green and blue, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bits_of_colour_become_eight():
    values = np.full((16, 24, 3), (0x1234, 0x8000, 0xFFFF), np.uint16)
    assert np.asarray(decode(png_of_16_bit_colours(values)))[3, 5].tolist() == pytest.approx(
        [0x12, 0x80, 0xFF], abs=1
    )


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused(mode: str):
    with pytest.raises(ValueError, match=f"32 bits per pixel .*mode {mode}.* save it with 8 or 16 bits"):
        decode(saved(photo("L").convert(mode), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(kind: str):
    frames = [Pillow.new("RGB", SIDES, colour) for colour in ("red", "blue", "lime")]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert close(decode(content), frames[0], 4)


def test_a_rotation_in_the_exif_data_is_applied():
    exif = Pillow.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to see it upright
    found = decode(saved(photo(), "PNG", exif=exif))
    assert close(found, photo().transpose(Pillow.Transpose.ROTATE_270))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the image file is empty"),
        (b"no image at all", "not of a known format; it begins with b'no image'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n", "not of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not of a known format"),
    ],
)
def test_other_files_are_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        decode(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_that_is_cut_off_is_refused(kind: str):
    noise = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    content = saved(noise, kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ValueError, match=r"damaged or cut off|not of a known format"):
            decode(content[: int(len(content) * share)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF"])
@pytest.mark.filterwarnings("ignore")  # of Pillow, on damaged metadata
def test_a_damaged_file_gives_an_image_or_a_value_error(kind: str):
    content, draw = saved(photo(), kind), random.Random(0)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with suppress(ValueError):
            assert decode(bytes(damaged)).mode == "RGB"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 1), "1 x 1 pixels: each side must have at least 8"),
        ((300, 7), "300 x 7 pixels: each side must have at least 8"),
        ((408, 8), "408 x 8 pixels: the longer side may be at most 50 times the shorter"),
    ],
)
def test_sizes_out_of_range_are_refused(size: tuple[int, int], message: str):
    with pytest.raises(ValueError, match=message):
        decode(saved(Pillow.new("RGB", size)))
    assert decode(saved(Pillow.new("RGB", (8, 400)))).size == (8, 400)


@pytest.mark.parametrize("side", [9_460, 13_000, 20_000])
def test_a_decompression_bomb_is_refused_before_its_pixels_are_read(side: int):
    bomb = saved(Pillow.new("1", (side, side)))
    assert len(bomb) < 60_000
    with pytest.raises(ValueError, match="more than 89,478,485"):
        decode(bomb)


# Values of rows


def test_bytes_structs_and_paths_of_a_file_are_the_same_image(tmp_path: Path):
    content = saved(photo())
    (tmp_path / "a.png").write_bytes(content)
    path = tmp_path / "a.png"
    values = [
        content,
        {"bytes": content, "path": "gone.png"},
        {"bytes": None, "path": str(path)},
        str(path),
        path,
    ]
    images = [image_of(value) for value in values] + [image_of("a.png", tmp_path)]
    assert {image.key for image in images} == {key_of(content)}
    assert {image.read() for image in images} == {content}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "not int"),
        (None, "not NoneType without content"),
        (b"", "not bytes without content"),
        ("", "not str without content"),
        ({"bytes": None, "path": None}, "not NoneType without content"),
        ({"image": b"x"}, "not dict"),
        (["a.png"], "not list"),
    ],
)
def test_other_values_are_refused(value: object, message: str):
    with pytest.raises(TypeError, match="the image must be the bytes of an image file.*" + message):
        image_of(value)


def task_of(source: Hub) -> Classification:
    return Classification(
        source=source,
        read=lambda row: ImageTextPair("a", None, row["label"], images=(row["image"],)),
        labels=("no", "yes"),
        single_text=True,
        name="seen",
    )


def write(folder: Path, images: list[Any]) -> Classification:
    (folder / "lab" / "set" / "default").mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": images, "label": ["yes"] * len(images)})
    pq.write_table(table, folder / "lab" / "set" / "default" / "train.parquet")
    return task_of(Hub("lab/set"))


def read(task: Classification, root: Path) -> list[Image]:
    examples = read_examples(task, task.sources[0].open("train", [root]))
    return [image for example in examples for image in example.images]  # type: ignore[union-attr]


def test_relative_paths_are_beside_the_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = saved(photo())
    task = write(tmp_path / "root", ["photos/a.png"])
    photos = tmp_path / "root" / "lab" / "set" / "default" / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert [image.read() for image in read(task, tmp_path / "root")] == [content]
    assert [i.key for i in read(write(tmp_path, [{"bytes": content, "path": "x"}]), tmp_path)] == [
        key_of(content)
    ]
    with (
        images_beside("lab/set at 1a2b3c"),
        pytest.raises(FileNotFoundError, match=r"the image photos/a\.png cannot"),
    ):
        image_of("photos/a.png")


def test_a_missing_image_names_file_row_and_task(tmp_path: Path):
    content = saved(photo())
    task = write(tmp_path, [{"bytes": content, "path": None}, {"bytes": None, "path": "b.png"}])
    where = r"default/train.parquet, row 1 \(task seen\): the image b.png cannot be read at .*default/b.png"
    with pytest.raises(ValueError, match=where):
        read(task, tmp_path)


def test_a_value_of_another_type_names_file_row_and_task(tmp_path: Path):
    with pytest.raises(ValueError, match=r"train.parquet, row 0 \(task seen\): the image must be the bytes"):
        read(write(tmp_path, [3]), tmp_path)

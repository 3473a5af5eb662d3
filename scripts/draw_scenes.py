"""Draw scenes of coloured shapes with captions in 11 languages, as a data root of the multimodal tasks.

    python -m scripts.draw_scenes OUT

A scene has two shapes, either side by side or stacked. Templates make the captions and the statements. The
files contain nothing from other data sets, so they may be shared. Tests and quick runs use the scenes in
place of photos. The same seed gives the same scenes.

    flickr/{train,validation,test}.parquet     image, image_id, captions_en (list), caption_de, _fr, _cs
    xflickrco.parquet, xflickrco_images.parquet    the test scenes, captions in 8 languages
    xvnli.parquet, xvnli_images.parquet            statements about further scenes in 5 languages
    xvnli_train.parquet                            statements about the training scenes in the same languages
    xvnli_validation.parquet                       English statements about some training scenes
"""

import io
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jsonargparse import auto_cli
from PIL import Image, ImageDraw

from scripts.scene_words import LANGUAGES, THINGS, Scene, Thing, all_scenes, english

SIDE = 96
"""Width and height of a scene, in pixels."""

RGB = {
    "red": (220, 30, 30),
    "blue": (30, 60, 220),
    "green": (20, 150, 50),
    "yellow": (240, 210, 20),
    "black": (20, 20, 20),
    "brown": (130, 80, 40),
}

XFLICKRCO = ("en", "de", "es", "id", "ja", "ru", "tr", "zh")
"""Languages of xFlickr&CO."""
XVNLI = ("en", "ar", "es", "fr", "ru")
"""Languages of XVNLI."""


def draw_scenes(out: Path, train: int = 400, validation: int = 60, test: int = 60, seed: int = 0) -> None:
    """Draw the scenes, and write the data root.

    Args:
        out: Folder of the data root. Files of the same names are replaced.
        train: Number of training scenes.
        validation: Number of dev scenes.
        test: Number of test scenes of the captions, and also of XVNLI. No scene occurs twice. There are 1,104
            different scenes.
        seed: Seed of the scenes, the positions and the statements.

    Raises:
        ValueError: A number is below 1, or the numbers exceed the number of different scenes.
    """
    rng = random.Random(seed)
    scenes = all_scenes()
    sizes = {"train": train, "validation": validation, "test": test, "xvnli": test}
    if min(sizes.values()) < 1 or sum(sizes.values()) > len(scenes):
        raise ValueError(
            f"train {train}, validation {validation}, test {test}: each number must be at least 1, and "
            f"train + validation + 2 × test at most {len(scenes)}"
        )
    rng.shuffle(scenes)
    drawn = {split: [_drawn(scenes.pop(), rng) for _ in range(size)] for split, size in sizes.items()}
    numbered = {
        split: [(f"{split}-{i}", *pair) for i, pair in enumerate(own)] for split, own in drawn.items()
    }
    for split in ("train", "validation", "test"):
        _write(out / "flickr" / f"{split}.parquet", [_photo(*scene) for scene in numbered[split]])
    _write(
        out / "xflickrco.parquet", [row for code in XFLICKRCO for row in _captions(numbered["test"], code)]
    )
    _write(out / "xflickrco_images.parquet", [_image(name, content) for name, _, content in numbered["test"]])
    _write(out / "xvnli.parquet", _pairs(numbered["xvnli"], XVNLI, rng))
    _write(out / "xvnli_images.parquet", [_image(name, content) for name, _, content in numbered["xvnli"]])
    _write(out / "xvnli_train.parquet", _pairs(numbered["train"], XVNLI, rng))
    _write(out / "xvnli_validation.parquet", _pairs(numbered["train"][:validation], ["en"], rng))
    print(f"{sum(sizes.values()):,} scenes are in {out}")


def _drawn(scene: Scene, rng: random.Random) -> tuple[Scene, bytes]:
    """Return a scene with its PNG file. The positions and sizes of the shapes vary a little."""
    picture = Image.new("RGB", (SIDE, SIDE), (250, 250, 250))
    pen = ImageDraw.Draw(picture)
    for thing, place in zip(scene.things, (0.25, 0.75), strict=True):
        along, across = SIDE * place + rng.uniform(-4, 4), SIDE / 2 + rng.uniform(-12, 12)
        x, y = (along, across) if scene.is_side_by_side else (across, along)
        _draw(pen, thing, x, y, rng.uniform(13, 19))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return scene, content.getvalue()


def _draw(pen: ImageDraw.ImageDraw, thing: Thing, x: float, y: float, radius: float) -> None:
    """Draw a thing around the point (x, y), in pixels."""
    colour = RGB[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        return
    corners, inner = {"square": (4, 1.0), "triangle": (3, 1.0), "star": (10, 0.45)}[thing.shape]
    turn = math.pi / 4 if thing.shape == "square" else math.pi / 2
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    lengths = [radius * (inner if i % 2 else 1.0) for i in range(corners)]
    points = [(x + r * math.cos(a), y - r * math.sin(a)) for a, r in zip(angles, lengths, strict=True)]
    pen.polygon(points, fill=colour)


def _image(name: str, content: bytes) -> dict[str, Any]:
    """Return the row of an image."""
    return {"image_id": name, "image": content}


def _photo(name: str, scene: Scene, content: bytes) -> dict[str, Any]:
    """Return the row of an image with its captions."""
    others = {f"caption_{code}": LANGUAGES[code].caption(scene) for code in ("de", "fr", "cs")}
    return {**_image(name, content), "captions_en": english(scene), **others}


def _captions(scenes: Sequence[tuple[str, Scene, bytes]], code: str) -> list[dict[str, Any]]:
    """Return one row per scene, with its caption in a language."""
    return [
        {"image_id": name, "captions": [LANGUAGES[code].caption(scene)], "language": code}
        for name, scene, _ in scenes
    ]


def _pairs(
    scenes: Sequence[tuple[str, Scene, bytes]], languages: Sequence[str], rng: random.Random
) -> list[dict[str, Any]]:
    """Return one row per language, scene and label, with a statement about the scene."""
    rows: dict[str, list[dict[str, Any]]] = {code: [] for code in languages}
    for name, scene, _ in scenes:
        absent = [thing for thing in THINGS if thing not in scene.things]
        about = (rng.choice(scene.things), rng.choice(THINGS), rng.choice(absent))
        for label, thing in enumerate(about):
            for code in languages:
                language = LANGUAGES[code]
                text = {
                    "premise": language.caption(scene),
                    "hypothesis": language.statement(thing, label == 1),
                }
                row = {"pair_id": f"{name}#{label}", "image_id": name, **text, "label": label}
                rows[code].append({**row, "language": code})
    return [row for own in rows.values() for row in own]


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(map(dict, rows))), path, row_group_size=100)


if __name__ == "__main__":
    auto_cli(draw_scenes)

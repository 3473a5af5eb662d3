"""Draw images with the captions that a model retrieves for them, in several languages.

    python -m scripts.retrieval_figure --run runs/small/scenes --root scenes --out captions.png

The model is a run that was trained on captions. The images are the first test images of xFlickr&CO. A caption
is green if it belongs to the image. --boxes true draws boxes in place of images that may not be shown.
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from PIL import Image

from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import ImageCaption
from xlt.data.languages import name_of
from xlt.data.sources import roots_of
from xlt.evaluation.image_caches import ImageCaches
from xlt.evaluation.predict import EvaluationModel, open_device, predict
from xlt.splits.cache import cache_folder
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits
from xlt.tasks import load

TASK = "xflickrco"
RIGHT, WRONG = "#1a7f37", "#b42318"
"""Colours of right and wrong captions."""
WIDTH = 24
"""Maximum number of characters in a line of a caption."""


class Retrieved(NamedTuple):
    """Captions that a model retrieves in a language.

    Args:
        captions: Retrieved caption of each image.
        are_right: True for each caption that belongs to its image.
    """

    captions: list[str]
    are_right: list[bool]


def retrieval_figure(
    run: str,
    root: str,
    out: Path,
    languages: Sequence[str] = ("en", "de", "es", "ru"),
    num_images: int = 5,
    boxes: bool = False,
    cache: str | None = None,
) -> None:
    """Draw the images with the retrieved captions, and write the figure.

    Args:
        run: Folder of the run.
        root: Data root with xflickrco.parquet and xflickrco_images.parquet.
        out: File to write, such as captions.png.
        languages: Languages of the captions. The font needs a Latin, Greek or Cyrillic script.
        num_images: Number of images.
        boxes: True to draw boxes in place of the images.
        cache: Folder of encoded rows. Defaults to XLT_CACHE, or ~/.cache/xlt.
    """
    found: dict[str, Retrieved] = {}
    images: list[bytes] = []
    model = EvaluationModel(run).eval()
    for language in languages:
        found[language], images = _retrieve(model, root, language, num_images, cache)
    _draw(images, found, boxes).savefig(out, dpi=150, bbox_inches="tight")
    print(f"wrote {out}")


def _retrieve(
    model: EvaluationModel, root: str, language: str, num_images: int, cache: str | None
) -> tuple[Retrieved, list[bytes]]:
    """Return the captions that a model retrieves for the first images, and the content of the image files.

    Raises:
        ValueError: The model was not trained on images.
    """
    task = replace(load(TASK), name=f"{TASK}/{language}")
    folder, text = cache_folder(cache), TextEncoder(load_tokenizer(model.name), 128, 0)
    splits = Splits(roots_of(root), folder, text)
    raw_splits = splits.raw_splits(task, "test")
    stored = splits.open(task, "test", raw_splits)
    rows = np.arange(stored.meta.rows)
    images = ImageCaches(folder).of(task, model.name)
    if images is None:
        raise ValueError(f"{model.name} reads only text: give --run a run that was trained on images")
    images.illustrate(task, raw_splits, stored, rows)
    fabric = open_device("auto", "32-true")
    fabric.to_device(model)
    outputs = predict(model, task, stored, rows, 16384, fabric).outputs
    examples = [example for example in read_examples(task, raw_splits) if isinstance(example, ImageCaption)]
    nearest = np.asarray(outputs["image"])[:num_images] @ np.asarray(outputs["text"]).T
    chosen = nearest.argmax(1).tolist()
    right = [examples[i].image.key == examples[n].image.key for n, i in enumerate(chosen)]
    return Retrieved([examples[i].text for i in chosen], right), [
        example.image.read() for example in examples[:num_images]
    ]


def _draw(images: Sequence[bytes], found: dict[str, Retrieved], boxes: bool) -> Figure:
    """Return a figure with a column for each image."""
    figure = Figure(figsize=(2.3 * len(images), 2.1 + 0.8 * len(found)))
    grid = figure.subplots(1 + len(found), len(images), height_ratios=[3] + [1.2] * len(found), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for column, content in enumerate(images):
        if boxes:
            grid[0, column].axis("on")
            grid[0, column].set(xticks=[], yticks=[])
            grid[0, column].text(0.5, 0.5, f"image {column + 1}", ha="center", va="center")
        else:
            grid[0, column].imshow(Image.open(io.BytesIO(content)).convert("RGB"))
        for row, retrieved in enumerate(found.values(), 1):
            colour = RIGHT if retrieved.are_right[column] else WRONG
            caption = "\n".join(textwrap.wrap(retrieved.captions[column], WIDTH)[:4])
            grid[row, column].text(0.5, 0.5, caption, ha="center", va="center", fontsize=9, color=colour)
    for row, language in enumerate(found, 1):
        grid[row, 0].text(-0.15, 0.5, name_of(language), ha="right", va="center", fontsize=9, weight="bold")
    return figure


if __name__ == "__main__":
    auto_cli(retrieval_figure, as_positional=False)

"""Measure the image cache with a hundred to ten thousand images: `python -m benchmarks.images`.

The command draws JPEG photos of 320 x 240 pixels and writes them as rows of a data set. It completes the
cache for these rows on this machine's best device, as `xlt prepare` does. Each number of images has a process
of its own and starts with an empty cache. The command prints:

- images per second
- milliseconds of CPU time per image, which other programs hardly change
- bytes per image on the disk
- peak memory of the process, and its growth during the work
"""

import io
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jsonargparse import auto_cli
from PIL import Image as Pillow

from benchmarks.machine import machine
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import ImageTextPair
from xlt.data.features import Columns
from xlt.data.image_store import IMAGE_KEY, Imagery, image_keys
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification
from xlt.splits.encoding import encode_split
from xlt.splits.illustrating import ImageCache
from xlt.system.tables import aligned
from xlt.training.results import peak_rss_bytes

WIDTH, HEIGHT = 320, 240
"""Size of a photo in pixels."""

ROW_GROUP = 100
"""Number of rows in a row group of the parquet file."""


@dataclass(frozen=True, kw_only=True)
class _Seen(Classification):
    """Classification of a text with an image."""

    def encode(self, examples: Sequence[Any], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode the texts, and add the keys of the images."""
        columns, num_cut = super().encode(examples, first, text)
        return {**columns, IMAGE_KEY: [image_keys(example.images) for example in examples]}, num_cut

    def imagery(self) -> Imagery:
        """Return the use of the images: they become tokens."""
        return Imagery(as_tokens=True)


def _read(row: Row) -> ImageTextPair:
    """Return the image of a row with a fixed text and class, which do not matter."""
    return ImageTextPair("a photo", None, "yes", images=(row["image"],))


class Measured(NamedTuple):
    """Measurements for one number of images.

    Args:
        seconds: Time to complete the cache, in seconds.
        processor: CPU time of all threads together, in seconds.
        num_bytes: Size of the cache in bytes.
        peak: Peak memory of the process in bytes.
        growth: Growth of the peak memory during the completion of the cache, in bytes.
    """

    seconds: float
    processor: float
    num_bytes: int
    peak: int
    growth: int


def photos(num: int) -> Iterator[bytes]:
    """Yield JPEG files of smooth noise, all different."""
    draw = np.random.Generator(np.random.Philox(0))
    for _ in range(num):
        coarse = Pillow.fromarray(draw.integers(0, 256, (12, 16, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((WIDTH, HEIGHT), Pillow.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        yield file.getvalue()


def measure(num: int, vision_encoder: str, image_tokens: int, encoder: str) -> Measured:
    """Draw images, complete the cache for them, and return the measurements.

    Args:
        num: Number of images.
        vision_encoder: Name of the vision encoder.
        image_tokens: Number of tokens per image.
        encoder: Text encoder whose tokenizer encodes the rows.
    """
    with tempfile.TemporaryDirectory() as name:
        root, drawn = Path(name), photos(num)
        folder = root / "drawn" / "photos" / "default"
        folder.mkdir(parents=True)
        schema = pa.schema({"image": pa.binary()})
        with pq.ParquetWriter(folder / "train.parquet", schema) as file:
            for first in range(0, num, ROW_GROUP):
                rows = [next(drawn) for _ in range(min(ROW_GROUP, num - first))]
                file.write_table(pa.table({"image": rows}, schema))
        source = Hub("drawn/photos")
        task = _Seen(source=source, read=_read, labels=("no", "yes"), single_text=True, name="photos")
        raw_splits = source.open("train", [root])
        text = TextEncoder(load_tokenizer(encoder), 16, 4)
        encoded = encode_split(task, raw_splits, text, root / "rows")
        cache = ImageCache(vision_encoder, image_tokens, False, root)
        before, start, worked = peak_rss_bytes(), perf_counter(), process_time()
        cache.illustrate(task, raw_splits, encoded, np.arange(num))
        seconds, processor, peak = perf_counter() - start, process_time() - worked, peak_rss_bytes()
        assert cache.store.num_arrays == num
        size = sum(path.stat().st_size for path in cache.store.folder.glob("*.bin"))
        return Measured(seconds, processor, size, peak, peak - before)


def main(
    sizes: tuple[int, ...] = (100, 1000, 10_000),
    vision_encoder: str = "efficientnet-lite0",
    image_tokens: int = 49,
    encoder: str = "encoders/mini",
) -> None:
    """Print a line of measurements for each number of images.

    Args:
        sizes: Numbers of images.
        vision_encoder: Name of the vision encoder, such as openai/clip-vit-base-patch32.
        image_tokens: Number of tokens per image.
        encoder: Text encoder whose tokenizer encodes the rows.
    """
    lines: list[Sequence[str]] = [
        ("images", "images/s", "CPU ms/image", "bytes/image", "peak MB", "growth MB")
    ]
    for num in sizes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found = process.submit(measure, num, vision_encoder, image_tokens, encoder).result()
        figures = num / found.seconds, found.processor / num * 1e3, found.num_bytes / num
        memory = found.peak / 1e6, found.growth / 1e6
        cells = [f"{value:,.1f}" for value in figures] + [f"{value:,.0f}" for value in memory]
        lines.append((f"{num:,}", *cells))
    print(aligned(lines))
    print(vision_encoder, image_tokens, "tokens;", machine())


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))

"""Compute the features of images that the cache lacks, and add images to encoded splits.

An image is read once by each vision encoder, however many rows, splits, tasks and runs share the image. One
process computes, under a lock, and saves every SAVED images. Other processes wait for the lock, and find the
features then. I images, T tokens, C width, h x w pixels.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from xlt.data.array_store import ArrayStore, distinct
from xlt.data.image_store import IllustratedFeatures, keys_of
from xlt.data.images import Image
from xlt.data.sources import RawSplit
from xlt.kinds.task import Task
from xlt.models.encoders.vision import VisionEncoder
from xlt.splits.encoded_split import FEATURES, EncodedSplit
from xlt.splits.reading import place_of, read_rows
from xlt.system.checks import NotFiniteError, at_once
from xlt.system.lock import locked

log = logging.getLogger(__name__)

CHUNK = 512
"""Number of images that are read in the order of their file."""

SAVED = 64
"""Number of images that are saved at a time."""

BATCH = {"cpu": 1, "cuda": 64}
"""Number of images that the encoder reads at a time, by the type of the device. It is fixed, because products
of other sizes round otherwise: on a CPU, features of EfficientNet-Lite0 differ by 1e-5 from 16 images on.
There, single images are fastest, too."""

SPARE = 64 * 2**20
"""Bytes that must stay free on the disk of the cache."""

SECONDS_BETWEEN_LINES = 30.0
"""Seconds between two lines of progress where there is no terminal."""

PATIENCE = 7 * 24 * 3600.0
"""Seconds to wait for another process that computes features."""


class ImageCache:
    """Features of images by a vision encoder, on disk.

    Args:
        vision_encoder: Name of the vision encoder, see `VisionEncoder`.
        image_tokens: Number of tokens of each image.
        is_trained: True if the encoder is trained. Its features change then, and the cache holds pixels.
        cache: Folder of encoded rows.

    Raises:
        FileNotFoundError: The vision encoder cannot be found.
        ValueError: The vision encoder cannot be used, or not with this number of tokens.
    """

    def __init__(self, vision_encoder: str, image_tokens: int, is_trained: bool, cache: Path) -> None:
        self._name, self._num_tokens, self._is_trained = vision_encoder, image_tokens, is_trained
        self._encoder = VisionEncoder(vision_encoder, image_tokens)
        if is_trained:
            key, shape, dtype = self._encoder.processing, (3, *self._encoder.size), np.uint8
        else:
            num_tokens = 1 if image_tokens == 1 else 1 + image_tokens
            key, shape, dtype = self._encoder.definition, (num_tokens, self._encoder.width), np.float16
        self.store = ArrayStore(cache / f"images-{key[:16]}", shape, dtype)

    @property
    def width(self) -> int:
        """Width of a feature."""
        return self._encoder.width

    @property
    def name(self) -> str:
        """Name of the folder, which depends on everything that the features depend on."""
        return self.store.folder.name

    def illustrate(
        self, task: Task[Any], raw_splits: Sequence[RawSplit], encoded: EncodedSplit, rows: np.ndarray
    ) -> None:
        """Add images to the encoded rows of a split, if the task has images.

        Args:
            task: The task.
            raw_splits: The rows of the split, as they were encoded. Rows that a perturbation changed may show
                images that only the unchanged rows hold.
            encoded: The encoded rows, whose features become `IllustratedFeatures`.
            rows: Numbers of the rows in use, ascending.

        Raises:
            OSError: The disk is too small.
            ValueError: An image cannot be read, or its features are not finite.
        """
        imagery = task.imagery()
        if imagery is None:
            return
        if imagery.num_negatives and self._is_trained:
            log.warning(
                "%s: num_negatives does not apply, because the vision encoder is trained "
                "(model.vision_trainable). Wrong answers are only the other images of the micro-batch",
                task.name,
            )
        keys = keys_of(encoded.features, rows)[0]
        keys = keys[distinct(keys)]
        if (self.store.find(keys) < 0).any():
            self._complete(task, raw_splits, keys)
        encoded.features = IllustratedFeatures(
            encoded.folder / FEATURES, self.store, rows, imagery, self._num_tokens
        )
        # A resume with another vision encoder is refused, as with other rows.
        content = f"{encoded.meta.content} {self.store.folder.name}"
        encoded.meta.content = hashlib.sha256(content.encode()).hexdigest()

    def _complete(self, task: Task[Any], raw_splits: Sequence[RawSplit], keys: np.ndarray) -> None:
        """Compute the features that images lack."""
        folder = self.store.folder
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock", PATIENCE, "data.cache"):
            self.store.refresh()  # another process may have computed them meanwhile
            lacking = {int(key) for key in keys[self.store.find(keys) < 0]}
            if not lacking:
                return
            self._check_disk(task.name, len(lacking))
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            self._encoder.to(device)
            try:
                # Convolutions must round as on a CPU, and in the same way each time.
                with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
                    self._add(task.name, images_of(task, raw_splits, lacking), len(lacking), device)
            finally:
                self._encoder.to("cpu")
                self.store.refresh()

    def _check_disk(self, name: str, num_images: int) -> None:
        """Log the size of the new features, and check that the disk has room for them.

        Raises:
            OSError: The disk is too small.
        """
        needed, folder = num_images * (self.store.nbytes + 8), self.store.folder
        free = shutil.disk_usage(folder).free
        sizes = f"{size_of(needed)}, {self.store.nbytes:,} bytes each, {size_of(free)} free"
        if needed + SPARE > free:
            raise OSError(
                f"{num_images:,} images of {name} do not fit on the disk of data.cache, {folder} ({sizes}). "
                "Free some space, set data.cache to a folder on another disk, or lower data.image_tokens"
            )
        what = "pixels" if self._is_trained else f"features by {self._name}"
        log.info("%s: %s of %s new images into %s: %s", name, what, f"{num_images:,}", folder, sizes)

    def _add(
        self, name: str, images: Iterator[tuple[Image, str]], num_images: int, device: torch.device
    ) -> None:
        """Compute the features of new images, and save them chunk by chunk.

        Raises:
            ValueError: Images cannot be read. The features of all others are saved.
        """
        start = said = time.perf_counter()
        bad: list[str] = []
        with (
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads,
            tqdm(total=num_images, desc=f"{name}: images", unit="image", disable=None, leave=False) as bar,
        ):
            done = 0
            # Files are read in their order, by a single thread, and decoded by several.
            while chunk := sorted(islice(images, CHUNK), key=lambda found: found[0].row):
                for first in range(0, len(chunk), SAVED):
                    part = chunk[first : first + SAVED]
                    bad += self._save(part, threads, device)
                    done += len(part)
                    bar.update(len(part))
                    now = time.perf_counter()
                    if done == num_images or (bar.disable and now - said > SECONDS_BETWEEN_LINES):
                        said, counts = now, f"{done:,} of {num_images:,} images"
                        log.info("%s: %s, %.1f per second", name, counts, done / (now - start))
        if bad:
            raise ValueError(at_once(f"images of {name} cannot be used", bad))

    def _save(
        self, images: Sequence[tuple[Image, str]], threads: ThreadPoolExecutor, device: torch.device
    ) -> list[str]:
        """Compute and save the features of images; return an error for each image that cannot be read."""
        contents = [_content_of(image) for image, _ in images]
        prepared = list(threads.map(self._prepare, contents))
        pairs = zip(images, prepared, strict=True)
        good = [(image, pixels) for image, pixels in pairs if isinstance(pixels, np.ndarray)]
        if good:
            kept, pixels = [image for image, _ in good], np.stack([pixels for _, pixels in good])
            arrays = pixels if self._is_trained else self._features(pixels, kept, device)
            self.store.add(np.array([image.key for image, _ in kept], np.uint64), arrays)
        return [
            f"{where}: {error}"
            for error, (_, where) in zip(prepared, images, strict=True)
            if isinstance(error, Exception)
        ]

    def _prepare(self, content: bytes | OSError) -> np.ndarray | Exception:
        """Return the pixels of an image file, shape (3, h, w) uint8, or the error for a bad image."""
        if isinstance(content, OSError):
            return content
        try:
            return self._encoder.prepare(content)
        except (ValueError, OSError) as error:
            return error

    @torch.inference_mode()
    def _features(
        self, pixels: np.ndarray, images: Sequence[tuple[Image, str]], device: torch.device
    ) -> np.ndarray:
        """Return the features of images, shape (I, T, C) float16.

        Raises:
            NotFiniteError: A feature is not finite.
        """
        found, size = [], BATCH[device.type]
        for first in range(0, len(pixels), size):
            batch = pixels[first : first + size]
            # The last batch is filled up, so that all batches have the same size.
            filled = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.uint8)])
            features = self._encoder(torch.from_numpy(filled).to(device))[: len(batch)]
            found.append(features.half().cpu().numpy())
        features = np.concatenate(found)
        is_finite = np.isfinite(features).all((1, 2))
        if not is_finite.all():
            _, where = images[int(np.argmin(is_finite))]
            raise NotFiniteError(
                f"{where}: the vision encoder {self._name!r} gives features that are not finite in half "
                "precision. Name another in model.vision_encoder, or leave the row out"
            )
        return features


def _content_of(image: Image) -> bytes | OSError:
    """Return the content of an image file, or the error for a file that cannot be read."""
    try:
        return image.read()
    except OSError as error:
        return error


def images_of(
    task: Task[Any], raw_splits: Sequence[RawSplit], wanted: Iterable[int]
) -> Iterator[tuple[Image, str]]:
    """Yield each wanted image once, with its file, row and task.

    Rows that a perturbation changes are first read unchanged: a perturbation that shows the image of another
    row need not keep its content.

    Args:
        task: The task.
        raw_splits: The rows.
        wanted: Keys of the images.

    Raises:
        ValueError: An image is not in the rows.
    """
    lacking = set(wanted)
    clean = [replace(split, perturb=None) for split in raw_splits if split.perturb is not None]
    for parts in (clean, raw_splits):
        for example, split, number in read_rows(task, parts):
            if not lacking:
                return
            for image in example.images if task.is_labelled(example) else ():
                if image.key in lacking:
                    lacking.remove(image.key)
                    yield image, place_of(task, split, number)
    if lacking:
        names = ", ".join(split.location for split in raw_splits)
        raise ValueError(
            f"{len(lacking):,} images of the encoded rows of {task.name} are not in {names}: the images have "
            "changed since the rows were encoded. Restore them, or set data.cache to a new folder"
        )


def size_of(num_bytes: int) -> str:
    """Return a number of bytes as text, such as `940.0 MB`."""
    size, units = float(num_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:,.{0 if units[0] == 'bytes' else 1}f} {units[0]}"

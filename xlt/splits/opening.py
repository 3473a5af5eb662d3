"""Open both splits of all tasks of a run, with what a teacher or a vision encoder adds to the rows."""

from collections.abc import MutableMapping
from typing import Any

from xlt.data.sources import Split
from xlt.kinds.task import Task
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.illustrating import ImageCache
from xlt.splits.splits import Splits, reader_of, with_labels
from xlt.splits.teaching import Teachers
from xlt.splits.volumes import Volumes

SPLITS: tuple[Split, Split] = ("train", "validation")


def open_all(
    tasks: MutableMapping[str, Task[Any]], splits: Splits, volumes: Volumes, images: ImageCache | None
) -> dict[str, dict[Split, EncodedSplit]]:
    """Return both splits of each task, and give each task the labels of its training rows.

    Args:
        tasks: The tasks by name.
        splits: Opens and encodes the rows.
        volumes: The rows in use, for which features of images and vectors of a teacher are computed.
        images: Features of images. None for a run without images.

    Raises:
        FileNotFoundError: Rows or a teacher cannot be found.
        ValueError: A file, a row or an image cannot be read.
    """
    teachers = Teachers(tasks, splits.cache)
    found: dict[str, dict[Split, EncodedSplit]] = {}
    for name in tasks:
        found[name] = {}
        for split in SPLITS:
            encoded = found[name][split] = splits.for_training(tasks[name], split)
            tasks[name] = with_labels(tasks[name], encoded)
            reader, rows = reader_of(tasks[name], split), volumes.rows(tasks[name], split, encoded)
            raw_splits = splits.raw_splits(reader, split)
            teachers.teach(reader, raw_splits, encoded, rows)
            if images is not None and reader.imagery() is not None:
                images.illustrate(reader, raw_splits, encoded, rows)
    return found

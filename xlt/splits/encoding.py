"""Encode a split: read its rows, encode them in chunks, and write the features to a folder."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from xlt.data.encode import TextEncoder
from xlt.data.features import FeatureWriter
from xlt.data.sources import RawSplit
from xlt.kinds.task import Task
from xlt.splits.cache import is_complete, new_folder
from xlt.splits.encode_workers import Pool, encode_chunks
from xlt.splits.encoded_split import FEATURES, META, REFERENCES, EncodedSplit, Meta
from xlt.splits.reading import read_examples

log = logging.getLogger(__name__)

CHUNK = 1000
"""Number of examples that are encoded and written at a time."""


class Unlabelled(ValueError):
    """Raised when a split has rows, but no row has a label."""


def encode_split(
    task: Task[Any],
    raw_splits: Sequence[RawSplit],
    text: TextEncoder,
    folder: Path,
    pool: Pool | None = None,
    reason: str = "",
) -> EncodedSplit:
    """Encode raw splits into a folder, unless the folder is complete already, and open the folder.

    Args:
        task: The task that reads and encodes the rows.
        raw_splits: The rows.
        text: The tokenizer and its limits.
        folder: The folder to write.
        pool: Processes to encode with. If None, a large split starts its own.
        reason: Name of the task that needs the rows, for the log. Defaults to the task itself.

    Raises:
        ValueError: A row cannot be read, or no row has a label.
        OSError: The folder cannot be written.
    """
    if not is_complete(folder):
        with new_folder(folder) as scratch:
            what = f"{reason} (rows of {task.name})" if reason else task.name
            log.info("encoding %s: %s", what, ", ".join(split.name for split in raw_splits))
            _write(task, raw_splits, text, scratch, pool)
    return EncodedSplit(folder)


def _write(
    task: Task[Any], raw_splits: Sequence[RawSplit], text: TextEncoder, folder: Path, pool: Pool | None
) -> None:
    """Write the features, the references and the meta file."""
    task = task.with_labels_of(read_examples(task, raw_splits))
    meta = Meta(labels=task.labels, sources=[_describe(split) for split in raw_splits])
    examples = _labelled(task, raw_splits, meta)
    chunks = iter(lambda: list(islice(examples, CHUNK)), [])
    with (folder / REFERENCES).open("w", encoding="utf-8") as references:
        with FeatureWriter(folder / FEATURES) as features:
            for chunk, columns, num_cut in encode_chunks(task, text, chunks, pool):
                features.add(columns)
                references.writelines(json.dumps(task.reference(example)) + "\n" for example in chunk)
                meta.examples += len(chunk)
                meta.truncated += num_cut
                meta.tokens += sum(map(len, columns["input_ids"]))
            if meta.examples == 0:
                raise _nothing_to_encode(task, raw_splits, meta)
        meta.rows, meta.content = features.num_rows, features.content
    (folder / META).write_text(json.dumps(asdict(meta), indent=1), encoding="utf-8")


def _describe(split: RawSplit) -> dict[str, str | None]:
    """Return the facts about a raw split that are kept with its encoded rows."""
    return {
        "name": split.name,
        "location": split.location,
        "revision": split.revision,
        "hash": split.fingerprint,
    }


def _labelled(task: Task[Any], raw_splits: Sequence[RawSplit], meta: Meta) -> Iterator[Any]:
    """Yield the examples that have a label, and count the others."""
    for example in read_examples(task, raw_splits):
        if task.is_labelled(example):
            yield example
        else:
            meta.dropped += 1


def _nothing_to_encode(task: Task[Any], raw_splits: Sequence[RawSplit], meta: Meta) -> ValueError:
    """Return the error for a split without a labelled example."""
    where = f"{', '.join(split.location for split in raw_splits)} (task {task.name})"
    if any(split.keeps for split in raw_splits) and not meta.dropped:
        return ValueError(
            f"{where}: none of its texts is in this split. Few texts are held out, and texts of some "
            "origins are left out. Add text, or name the languages in data.tasks, such as mlm/sw"
        )
    return Unlabelled(f"{where}: no row has a label, so there is nothing to learn from or to score")

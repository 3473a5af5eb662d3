"""Encoded splits on disk: made once for their content, found again by it.

    <cache>/<task>-<split>-<key>/features.arrow   encoded rows
                                 references.jsonl what scoring needs of each example
                                 meta.json        counts, labels, sources, hash of the content

The key is a hash of everything that the features depend on: the rows, the code that reads and encodes them,
the tokenizer and its limits. A folder appears under its name only when it is complete.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from xlt.data.class_names import ClassMismatch, ReadRow, check_names
from xlt.data.encode import TextEncoder
from xlt.data.features import Columns, Features, write_features
from xlt.data.sampling.batches import subset_by_identity
from xlt.data.sources import RawSplit, Row
from xlt.splits.encode_workers import Pool, spread
from xlt.splits.user_code import held_by

log = logging.getLogger(__name__)

CHUNK = 1000
"""Rows read, encoded and written at a time."""


def cache_folder(cache: str | None) -> Path:
    """The folder of encoded rows: as given, else XLT_CACHE, else ~/.cache/xlt."""
    return Path(cache or os.environ.get("XLT_CACHE") or Path.home() / ".cache" / "xlt")


class Readable(Protocol):
    """What the store needs of a task."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes."""
        ...

    def with_labels_of(self, examples: Any) -> "Readable":
        """The task with its open labels filled in."""
        ...

    def read(self, row: Row, /) -> Any:
        """Row to example."""
        ...

    def by_name(self, example: Any) -> Any:
        """The example with its file's classes numbered as the task's."""
        ...

    def classes(self, example: Any) -> Sequence[str]:
        """Names of the example's classes."""
        ...

    def check(self, example: Any) -> None:
        """Raise ValueError for an example that does not fit."""
        ...

    def is_labelled(self, example: Any) -> bool:
        """Whether the example is used."""
        ...

    def encode(self, examples: Any, first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Examples to columns."""
        ...

    def reference(self, example: Any) -> Any:
        """What scoring needs."""
        ...


@dataclass
class Meta:
    """What is known of an encoded split."""

    examples: int = 0
    """Labelled examples."""
    dropped: int = 0
    """Rows without a label, left out."""
    truncated: int = 0
    """Examples that lost text to the length limit."""
    rows: int = 0
    """Rows of features; a long passage makes several."""
    tokens: int = 0
    content: str = ""
    """SHA-256 of the features."""
    labels: Sequence[str] = ()
    """The task's classes, those found in the training rows included."""
    sources: Sequence[Mapping[str, str | None]] = ()
    """Name, location, revision and fingerprint of each source's split."""


class EncodedSplit:
    """An encoded split, opened.

    Args:
        folder: Where `store` put it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = Meta(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        self.features = Features(folder / "features.arrow")
        self.identify: Callable[[], Sequence[int | str]] = lambda: range(self.meta.examples)
        """Return the identity of each example, shared by all languages of its task; by default its number."""
        self._identities: Sequence[int | str] | None = None

    def subset(self, volume: int | None, *key: object) -> np.ndarray:
        """The examples of a volume, sorted: translations of each other in all languages, as far as known.

        Args:
            volume: Examples wanted; None or more than there are means all.
            key: What the draw depends on: the seed and the task's name.
        """
        if volume is None or volume >= self.meta.examples:
            return np.arange(self.meta.examples)
        if self._identities is None:
            self._identities = self.identify()
            assert len(self._identities) == self.meta.examples
        return subset_by_identity(self._identities, volume, *key)

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """Numbers of the rows that belong to some examples, whose numbers ascend; ascending."""
        if len(examples) == self.meta.rows:
            return examples
        return np.flatnonzero(np.isin(self.features.scalars("example"), examples))

    def references(self) -> list[Any]:
        """What scoring needs of each example, by its number."""
        with (self.folder / "references.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


def read_examples(task: Readable, parts: Sequence[RawSplit]) -> Iterator[tuple[Any, str, int]]:
    """Every example with its file and row number.

    Raises:
        ValueError: A column is missing or of the wrong type, or a value out of range.
    """
    for part in parts:
        number = 0
        for chunk in part.chunks(CHUNK):
            for values in zip(*chunk.values(), strict=True):
                row = dict(zip(chunk, values, strict=True))
                if _keeps(task, row, part, number):
                    yield _read(task, row, part, number), part.location, number
                number += 1


def _keeps(task: Readable, row: Row, part: RawSplit, number: int) -> bool:
    """Whether the row belongs to the split, or an error that says where the row is."""
    if part.keeps is None:
        return True
    with _placed(task, row, part, number):
        return part.keeps(row)


def _read(task: Readable, row: Row, part: RawSplit, number: int) -> Any:
    """The row's example, or an error that says where the row is."""
    with _placed(task, row, part, number):
        read = ReadRow(row)
        example = task.by_name(task.read(read))
        task.check(example)
        if not task.is_labelled(example):
            return example
        if read.classes and task.labels:
            check_names(read.classes, task.classes(example), task.labels)
        return example if part.perturb is None else part.perturb(example)


@contextmanager
def _placed(task: Readable, row: Row, part: RawSplit, number: int) -> Iterator[None]:
    """Turn what is wrong with a row into an error that says where it is."""
    where = f"{part.location}, row {number} (task {task.name})"
    try:
        yield
    except KeyError as error:
        raise ValueError(
            f"{where}: column {error} is missing; the columns are {', '.join(row)}. Rename it in the "
            "data, or read the right one in the task's file"
        ) from error
    except ClassMismatch as error:
        raise ValueError(f"{where}: {error}") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{where}: {error}. Mend the row, or how the task reads it") from error


def key_of(task: Readable, parts: Sequence[RawSplit], text: TextEncoder, code: Sequence[Path]) -> str:
    """Hash of everything the features depend on.

    Args:
        task: The task, whose settings count.
        parts: Its opened sources.
        text: The tokenizer and its limits.
        code: Files whose text counts.
    """
    digest = hashlib.sha256()
    for path in code:
        digest.update(path.read_bytes())
    for part in parts:
        digest.update(f"{part.name} {part.fingerprint}\n".encode())
    settings: dict[str, Any] = {k: repr(v) for k, v in vars(task).items() if k not in ("read", "source")}
    settings["held by read"] = held_by(task.read)
    digest.update(json.dumps([settings, text.max_length, text.stride]).encode())
    digest.update(text.definition.encode())
    return digest.hexdigest()[:16]


def store(
    task: Readable, parts: Sequence[RawSplit], text: TextEncoder, folder: Path, pool: Pool | None = None
) -> EncodedSplit:
    """Encode the parts into the folder, unless it is there already.

    Args:
        task: Reads and encodes them.
        parts: Its opened sources.
        text: The tokenizer and its limits.
        folder: Where they are kept.
        pool: Processes that encode other splits, too.

    Raises:
        ValueError: A row cannot be read, or none has a label.
        OSError: The folder cannot be written.
    """
    if not (folder / "meta.json").is_file():
        scratch = folder.with_name(f".{folder.name}-{os.getpid()}-{uuid4().hex[:8]}")
        try:
            scratch.mkdir(parents=True)
        except OSError as error:
            raise OSError(
                f"the cache {folder.parent} cannot be written ({error.strerror}): set data.cache (or "
                "XLT_CACHE) to a folder that can"
            ) from error
        log.info("encoding %s: %s", task.name, ", ".join(part.name for part in parts))
        try:
            _fill(task, parts, text, scratch, pool)
            _publish(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return EncodedSplit(folder)


def _fill(
    task: Readable, parts: Sequence[RawSplit], text: TextEncoder, folder: Path, pool: Pool | None
) -> None:
    """Write the features, the references and the meta file."""
    task = task.with_labels_of(example for example, *_ in read_examples(task, parts))
    meta = Meta(labels=task.labels)
    meta.sources = [
        {"name": p.name, "location": p.location, "revision": p.revision, "hash": p.fingerprint} for p in parts
    ]
    with (folder / "references.jsonl").open("w", encoding="utf-8") as references:
        chunks = _encoded(task, parts, text, meta, references, pool)
        meta.rows, meta.content = write_features(folder / "features.arrow", chunks)
    (folder / "meta.json").write_text(json.dumps(asdict(meta), indent=1), encoding="utf-8")


class Unlabelled(ValueError):
    """A split has rows, but none with a label."""


def _encoded(
    task: Readable,
    parts: Sequence[RawSplit],
    text: TextEncoder,
    meta: Meta,
    references: Any,
    pool: Pool | None,
) -> Iterator[Columns]:
    """Chunks of columns; counts and references are written on the way."""
    for chunk, columns, truncated in spread(task, text, _chunks(task, parts, meta), pool):
        meta.examples += len(chunk)
        meta.truncated += truncated
        meta.tokens += sum(map(len, columns["input_ids"]))
        for example in chunk:
            references.write(json.dumps(task.reference(example)) + "\n")
        yield columns
    if meta.examples == 0:
        names = ", ".join(part.location for part in parts)
        if any(part.keeps for part in parts) and not meta.dropped:
            raise ValueError(
                f"{names} (task {task.name}): none of its texts is in this split, for few are held out "
                "and some origins left out: add text, or name the languages in data.tasks, such as mlm/sw"
            )
        raise Unlabelled(f"{names} (task {task.name}): no row has a label, nothing to learn from or to score")


def _chunks(task: Readable, parts: Sequence[RawSplit], meta: Meta) -> Iterator[list[Any]]:
    """Labelled examples, CHUNK at a time."""
    chunk: list[Any] = []
    for example, _, _ in read_examples(task, parts):
        if not task.is_labelled(example):
            meta.dropped += 1
            continue
        chunk.append(example)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _publish(scratch: Path, folder: Path) -> None:
    """Give the complete folder its name; one that another process finished first stays."""
    for path in scratch.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    try:
        scratch.rename(folder)
    except OSError:
        if not (folder / "meta.json").is_file():
            raise

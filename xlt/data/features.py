"""Encoded rows on disk: one memory-mapped Arrow file for each split, read in bulk.

Every column holds a list of int32 for each row. Every record batch holds ROWS_PER_BATCH rows (the last may
hold fewer), so the position of a row follows from its number. One int32 view of the file serves all record
batches: reading any rows takes a few numpy operations, without Python work or memory for each row. R rows, V
values.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

Columns = Mapping[str, list[list[int]]]
"""Column name to a list of integers for each row."""

FIRST_SEGMENTS = "first_segments"
"""Column of the number of tokens of segment 0 of each sequence, if the tokenizer gives segment ids."""

FEATURES_VERSION = 1
"""Version of the file format. Raise it when the file of the same columns changes."""

ROWS_PER_BATCH = 4096


class ImageRows(NamedTuple):
    """Images of some rows. I images, R rows, T tokens of an image, C width, K negatives.

    Args:
        features: Features of the images in the order of the rows, shape (I, T, C) float16; or pixels for a
            trained vision encoder, shape (I, 3, height, width) uint8.
        counts: Number of images of each row, shape (R,).
        ids: Numbers that are equal for equal images, shape (I,).
        num_tokens: Number of tokens of the packed sequence that stand for an image. 0 if the kind reads a
            single vector.
        negatives: Features of images that are drawn for the step, shape (K, C). None if the kind draws none.
        negative_ids: Their numbers, as in `ids`, shape (K,).
    """

    features: np.ndarray
    counts: np.ndarray
    ids: np.ndarray
    num_tokens: int
    negatives: np.ndarray | None = None
    negative_ids: np.ndarray | None = None


class FeatureWriter:
    """Writes rows to an Arrow file, chunk by chunk. Memory holds a chunk and ROWS_PER_BATCH rows at most.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._sink, self._digest = path, pa.OSFile(str(path), "wb"), hashlib.sha256()
        self._writer: pa.RecordBatchFileWriter | None = None
        self._pending: pa.Table | None = None
        self.num_rows = 0
        """Number of rows written; complete once the file is closed."""

    @property
    def content(self) -> str:
        """Return the SHA-256 of the rows; complete once the file is closed."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the last rows and close the file. After an error, only close the file.

        Raises:
            ValueError: No rows were added.
        """
        with self._sink:
            if kind is not None:
                return
            if self._writer is None or self._pending is None:
                raise ValueError(f"{self._path.parent.name}: no rows to write")
            if self._pending.num_rows:
                self._write(self._writer, self._pending)
            self._writer.close()

    def add(self, chunk: Columns) -> None:
        """Add a chunk of rows."""
        joined = pa.table({name: pa.array(rows, pa.list_(pa.int32())) for name, rows in chunk.items()})
        self._writer = self._writer or pa.ipc.new_file(self._sink, joined.schema)
        if self._pending is not None:
            joined = pa.concat_tables([self._pending, joined])
        while joined.num_rows >= ROWS_PER_BATCH:
            self._write(self._writer, joined.slice(0, ROWS_PER_BATCH))
            joined = joined.slice(ROWS_PER_BATCH)
        self._pending = joined

    def _write(self, writer: pa.RecordBatchFileWriter, table: pa.Table) -> None:
        """Write a record batch, count its rows and add its values to the digest."""
        batch = table.combine_chunks().to_batches()[0]
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._digest.update(name.encode())
            self._digest.update(np.ascontiguousarray(column.value_lengths().to_numpy()).tobytes())
            self._digest.update(np.ascontiguousarray(column.flatten().to_numpy()).tobytes())
        writer.write_batch(batch)
        self.num_rows += batch.num_rows


def write_features(path: Path, chunks: Iterable[Columns]) -> tuple[int, str]:
    """Write chunks of rows to an Arrow file; return the number of rows and the SHA-256 of the rows."""
    with FeatureWriter(path) as writer:
        for chunk in chunks:
            writer.add(chunk)
    return writer.num_rows, writer.content


class Features:
    """The rows of a split, by number.

    Args:
        path: A file that a `FeatureWriter` wrote.
    """

    def __init__(self, path: Path) -> None:
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(source)
        whole = source.read_buffer(source.size())
        self._flat = np.frombuffer(whole, np.int32, count=whole.size // 4)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._keep = (source, batches)
        self.columns: tuple[str, ...] = tuple(reader.schema.names)
        self.num_rows = sum(batch.num_rows for batch in batches)
        self._offsets, self._values = {}, {}
        for i, name in enumerate(self.columns):
            buffers = [batch.column(i).buffers() for batch in batches]
            self._offsets[name] = self._starts([b[1] for b in buffers], whole)
            self._values[name] = self._starts([b[3] for b in buffers], whole)

    @staticmethod
    def _starts(buffers: list[pa.Buffer | None], whole: pa.Buffer) -> np.ndarray:
        """Return the index at which each buffer starts in the int32 view of the file."""
        return np.array([(b.address - whole.address) // 4 if b else 0 for b in buffers], np.int64)

    def _span(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the index of the first value in the int32 view, and the number of values, of each row."""
        batch, local = np.divmod(np.asarray(rows, np.int64), ROWS_PER_BATCH)
        at = self._offsets[column][batch] + local
        begin = self._flat[at]
        return self._values[column][batch] + begin, self._flat[at + 1] - begin

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows' values end to end, shape (V,) int32, and the number in each row, shape (R,)."""
        starts, counts = self._span(column, rows)
        first = np.cumsum(counts, dtype=np.int64) - counts
        index = np.repeat(starts - first, counts) + np.arange(counts.sum(dtype=np.int64))
        return self._flat[index], counts

    def distinct(self, column: str, rows: np.ndarray) -> np.ndarray:
        """Return the distinct values of rows in a column without negative values, ascending."""
        chunks = np.array_split(rows, max(1, len(rows) // (16 * ROWS_PER_BATCH)))
        found = [np.flatnonzero(np.bincount(self.gather(column, chunk)[0])) for chunk in chunks]
        return np.unique(np.concatenate(found))

    def shared(self, key: int) -> dict[str, np.ndarray]:
        """Return the columns that all micro-batches of a step share. Rows of a file have none.

        Args:
            key: Key of the step.
        """
        return {}

    def images(self, rows: np.ndarray, key: int) -> ImageRows | None:
        """Return the images of some rows. Rows of a file without images have none.

        Args:
            rows: Numbers of the rows.
            key: Key of the step, for images that are drawn.
        """
        return None

    def counts(self, column: str) -> np.ndarray:
        """Return the number of values of every row of the split in a column, shape (R,) int32."""
        return self._span(column, np.arange(self.num_rows))[1]

    def scalars(self, column: str) -> np.ndarray:
        """Return the value of every row in a column with one value for each row, shape (R,) int32."""
        return self.gather(column, np.arange(self.num_rows))[0]

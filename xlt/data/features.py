"""Encoded rows on disk: one memory-mapped Arrow file a split, read in bulk.

Every column is a list of int32 a row. Record batches hold ROWS_PER_BATCH rows (the last one fewer), so a
row's place follows from its number, and one int32 view of the file serves all of them: a gather of
any rows is a few numpy operations, with no Python a row and no memory a row. R rows, V values.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

Columns = Mapping[str, list[list[int]]]
"""Column name to one list of whole numbers a row."""

ROWS_PER_BATCH = 4096


def write_features(path: Path, chunks: Iterable[Columns]) -> tuple[int, str]:
    """Stream chunks of rows to an Arrow file; return the number of rows and the hash of the content.

    Memory is bounded by a chunk and ROWS_PER_BATCH rows, whatever the number of rows.
    """
    digest, num_rows, writer, pending = hashlib.sha256(), 0, None, None
    with pa.OSFile(str(path), "wb") as sink:
        for chunk in chunks:
            table = _table(chunk)
            writer = writer or pa.ipc.new_file(sink, table.schema)
            joined = pa.concat_tables([pending, table]) if pending is not None else table
            while joined.num_rows >= ROWS_PER_BATCH:
                num_rows += _write(writer, joined.slice(0, ROWS_PER_BATCH), digest)
                joined = joined.slice(ROWS_PER_BATCH)
            pending = joined
        if writer is None or pending is None:
            raise ValueError(f"{path.parent.name}: no rows to write")
        if pending.num_rows:
            num_rows += _write(writer, pending, digest)
        writer.close()
    return num_rows, digest.hexdigest()


def _table(chunk: Columns) -> pa.Table:
    """The chunk as an Arrow table of int32 lists."""
    return pa.table({name: pa.array(rows, pa.list_(pa.int32())) for name, rows in chunk.items()})


def _write(writer: pa.RecordBatchFileWriter, table: pa.Table, digest: "hashlib._Hash") -> int:
    """Write one record batch and add its values to the digest; return its rows."""
    batch = table.combine_chunks().to_batches()[0]
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(column.value_lengths().to_numpy()).tobytes())
        digest.update(np.ascontiguousarray(column.flatten().to_numpy()).tobytes())
    writer.write_batch(batch)
    return batch.num_rows


class Features:
    """The rows of one split, by number.

    Args:
        path: A file made by `write_features`.
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
            self._offsets[name] = self._places([b[1] for b in buffers], whole)
            self._values[name] = self._places([b[3] for b in buffers], whole)

    @staticmethod
    def _places(buffers: list[pa.Buffer | None], whole: pa.Buffer) -> np.ndarray:
        """Where each buffer starts in the int32 view of the file."""
        return np.array([(b.address - whole.address) // 4 if b else 0 for b in buffers], np.int64)

    def _span(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First value and number of values of each row in the int32 view."""
        batch, local = np.divmod(np.asarray(rows, np.int64), ROWS_PER_BATCH)
        at = self._offsets[column][batch] + local
        begin = self._flat[at]
        return self._values[column][batch] + begin, self._flat[at + 1] - begin

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows' values end to end, shape (V,) int32, and how many each row has, shape (R,)."""
        starts, counts = self._span(column, rows)
        first = np.cumsum(counts, dtype=np.int64) - counts
        index = np.repeat(starts - first, counts) + np.arange(counts.sum(dtype=np.int64))
        return self._flat[index], counts

    def counts(self, column: str) -> np.ndarray:
        """How many values every row has in this column, shape (R,) int32."""
        return self._span(column, np.arange(self.num_rows))[1]

    def scalars(self, column: str) -> np.ndarray:
        """The value of every row of a column with one value a row, shape (R,) int32."""
        return self.gather(column, np.arange(self.num_rows))[0]

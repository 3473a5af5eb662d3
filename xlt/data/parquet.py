"""Read the parquet files of a data root."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xlt.system.file_errors import explained, file_error


class ParquetRows:
    """The rows of a parquet file. They are read from the file itself, so no copy can be out of date.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pq.ParquetFile(path)

    @property
    def features(self) -> Mapping[str, Any]:
        """Return the schema that `datasets` wrote into the file; empty if another program wrote the file."""
        written = (self._file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        return json.loads(written).get("info", {}).get("features") or {}

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the rows in order, `batch_size` at a time, as columns."""
        for batch in self._file.iter_batches(batch_size):
            yield batch.to_pydict()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, one at a time, as `datasets` does."""
        for batch in self._file.iter_batches():
            yield from batch.to_pylist()


class ParquetColumn:
    """A column of a parquet file, read by row number. The last row group that was read stays in memory.

    A single thread may read: pyarrow's files are not made for several.

    Args:
        path: The file.
        column: Name of the column.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column = path, column
        self._open: tuple[pq.ParquetFile, np.ndarray] | None = None
        self._group: tuple[int, pa.ChunkedArray] | None = None

    def __reduce__(self) -> tuple[type["ParquetColumn"], tuple[Path, str]]:
        """Return the arguments from which a copy or a pickle is made."""
        return ParquetColumn, (self._path, self._column)

    def __getitem__(self, row: int) -> Any:
        """Return the value of a row."""
        if self._open is None:
            file = pq.ParquetFile(self._path)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self._open = file, np.cumsum([0, *sizes])
        file, starts = self._open
        group = int(np.searchsorted(starts, row, "right")) - 1
        if self._group is None or self._group[0] != group:
            self._group = group, file.read_row_group(group, [self._column], use_threads=False)[self._column]
        return self._group[1][row - int(starts[group])].as_py()


def check_parquet(path: Path) -> None:
    """Check that a parquet file can be opened and has rows. Damage inside the file shows when rows are read.

    Raises:
        FileNotFoundError: The file has no rows.
        OSError: The file cannot be read.
        ValueError: The file is truncated or damaged.
    """
    try:
        num_rows = pq.ParquetFile(path).metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    if num_rows == 0:
        raise FileNotFoundError(f"{path} has no rows: an empty split cannot be used; fetch it again")


def find_in_roots(folder: str, split: str, roots: Sequence[Path]) -> Path | None:
    """Return the split's file in the first data root that holds the data set; None if no root does.

    Args:
        folder: Folder of the data set in a root: `<org>/<name>/<config>`.
        split: The data set's own name of the split.
        roots: Data roots.

    Raises:
        FileNotFoundError: A root holds the data set without this split.
    """
    for root in roots:
        directory = root / folder
        if not directory.is_dir():
            continue
        path = directory / f"{split}.parquet"
        if path.is_file():
            return path
        present = ", ".join(sorted(p.stem for p in directory.glob("*.parquet"))) or "nothing"
        raise FileNotFoundError(
            f"{directory} holds {present}, but not {split}.parquet: add the split to the data root"
        )
    return None


def unreadable(location: str | Path, error: Exception) -> Exception:
    """Return the error for a file that the system cannot read, or that is damaged.

    Args:
        location: The file or the hub's repository.
        error: The error that arose while it was read.
    """
    blamed = error if isinstance(error, OSError) and error.errno is not None else file_error(error)
    if blamed is not None:
        return OSError(f"{location} cannot be read: {explained(blamed)}")
    return ValueError(
        f"{location} is not a readable parquet file ({first_line(error)}): it may be truncated; "
        "copy or download it again"
    )


def first_line(error: BaseException) -> str:
    """Return the error's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}".strip(": ")

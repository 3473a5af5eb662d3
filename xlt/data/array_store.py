"""Arrays by a key, in two memory-mapped files that only grow.

    <folder>/keys.bin      key of each array, a uint64
             vectors.bin   the arrays, all of the same shape and type, end to end

Arrays are on the disk before their keys, and an array without a key does not count. A process that is killed
while it writes thus leaves complete arrays. K keys.
"""

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from xlt.system.files import sync


class ArrayStore:
    """Arrays by their key, memory-mapped.

    Args:
        folder: The folder of both files. It must exist when arrays are added.
        shape: Shape of each array.
        dtype: Type of the numbers. Defaults to float16.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: DTypeLike = np.float16) -> None:
        self.folder, self._shape, self._dtype = folder, shape, np.dtype(dtype)
        self.nbytes = int(np.prod(shape)) * self._dtype.itemsize
        """Size of an array in bytes."""
        self._paths = folder / "keys.bin", folder / "vectors.bin"
        self.refresh()

    def refresh(self) -> None:
        """Read the keys again, after another process may have added some."""
        sizes = (8, self.nbytes)
        counts = [
            path.stat().st_size // size if path.is_file() else 0
            for path, size in zip(self._paths, sizes, strict=True)
        ]
        self.num_arrays = min(counts)
        shape = (self.num_arrays, *self._shape)
        self.arrays = np.zeros(shape, self._dtype)
        keys = np.zeros(0, np.uint64)
        if self.num_arrays:
            keys = np.fromfile(self._paths[0], np.uint64, self.num_arrays)
            self.arrays = np.memmap(self._paths[1], self._dtype, "r", shape=shape)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the index of each key's array, shape (K,) int64, or -1 if the store lacks the key."""
        if not len(self._sorted):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._order[at], -1)

    def add(self, keys: np.ndarray, arrays: np.ndarray) -> None:
        """Add arrays of new keys. The caller holds the folder's lock, and calls `refresh` when done.

        Args:
            keys: The keys, shape (K,) uint64.
            arrays: Their arrays, shape (K, ...), of the store's type.
        """
        for path, rows in zip(reversed(self._paths), (arrays, keys), strict=True):
            with path.open("r+b" if path.is_file() else "wb") as file:
                # Cut off the rest of a write that did not finish.
                file.truncate(self.num_arrays * rows[0].nbytes)
                file.seek(0, 2)
                file.write(np.ascontiguousarray(rows).data)
            sync(path)
        self.num_arrays += len(keys)


def distinct(keys: np.ndarray) -> np.ndarray:
    """Return the index of the first occurrence of each key, ascending."""
    return np.sort(np.unique(keys, return_index=True)[1])

"""Predictions that come batch by batch, put in the order of their rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class PredictionBuffer:
    """Predictions put in the order of the rows as they come, in one array where all are of one size.

    Args:
        rows: Numbers of the rows, ascending, shape (R,).
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self.outputs: dict[str, Any] = {}

    def add(self, rows: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        """Keep what was predicted for some rows; `counts` says how many values each has where that varies."""
        places = np.searchsorted(self._rows, rows)
        counts = found.get("counts")
        for name, array in found.items():
            if name == "counts":
                continue
            if counts is None:
                self._whole(name, array)[places] = array
            else:
                self._apart(name, places, np.split(array, np.cumsum(counts)[:-1]))

    def _whole(self, name: str, array: np.ndarray) -> np.ndarray:
        """The array of all rows' values."""
        if name not in self.outputs:
            self.outputs[name] = np.zeros((len(self._rows), *array.shape[1:]), array.dtype)
        return self.outputs[name]

    def _apart(self, name: str, places: np.ndarray, parts: Sequence[np.ndarray]) -> None:
        """Put each row's own array into its place."""
        found = self.outputs.setdefault(name, [np.zeros(0)] * len(self._rows))
        for place, part in zip(places, parts, strict=True):
            found[place] = part

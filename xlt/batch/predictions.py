"""Predictions: the outputs of a head for rows of a split, and the buffer that collects them batch by batch.

R rows, V values of a column, D hidden width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Outputs = Mapping[str, Sequence[np.ndarray] | np.ndarray]
"""Arrays of a head by name, each with one entry per row."""


class EncodedRows(Protocol):
    """Columns of a split's encoded rows, as `xlt.data.features.Features` holds them."""

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows' values end to end, shape (V,), and how many each row has, shape (R,)."""
        ...


@dataclass(frozen=True, eq=False)
class Predictions:
    """Outputs of a head for rows of one split, with everything that scoring needs.

    Args:
        outputs: Arrays of the head by name, each with one entry per row, in the order of `rows`.
        features: Encoded rows of the split.
        rows: Row numbers in `features`, ascending, shape (R,).
        references: `Task.reference` of every example of the split, by example number.
    """

    outputs: Outputs
    features: EncodedRows
    rows: np.ndarray
    references: Sequence[Any] = ()

    def __len__(self) -> int:
        """Return the number of rows, R."""
        return len(self.rows)

    def gather(self, column: str) -> Int[np.ndarray, " V"]:
        """Return the rows' values of a column, end to end."""
        return self.features.gather(column, self.rows)[0]

    def by_row(self, column: str) -> list[np.ndarray]:
        """Return the values of a column, one array per row."""
        values, counts = self.features.gather(column, self.rows)
        return np.split(values, np.cumsum(counts)[:-1])

    @property
    def examples(self) -> list[int]:
        """The example number of each row."""
        return self.gather("example").tolist()

    @property
    def targets(self) -> Int[Tensor, " V"]:
        """The true classes, end to end."""
        return torch.from_numpy(self.gather("targets").astype(np.int64))

    @property
    def classes(self) -> Int[Tensor, " V"]:
        """The predicted classes, end to end."""
        return self.joined("prediction")

    @property
    def vectors(self) -> Float[Tensor, "R sides D"]:
        """The vectors of each row's sentences."""
        return torch.from_numpy(np.asarray(self.outputs["vectors"])).float()

    def joined(self, output: str) -> Tensor:
        """Return the values of an output, end to end."""
        values = self.outputs[output]
        return torch.from_numpy(values if isinstance(values, np.ndarray) else np.hstack(values))


class PredictionBuffer:
    """Buffer that puts outputs into the order of their rows as batches arrive.

    An output with one shape in all rows becomes one array.

    Args:
        rows: Row numbers, ascending, shape (R,).
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._outputs: dict[str, Any] = {}

    def add(self, rows: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
        """Add the outputs for some rows.

        Args:
            rows: Row numbers, in any order.
            outputs: Arrays by name. If there is an array `counts`, it holds the number of values of each
                row, and the other arrays hold the values end to end.
        """
        indices = np.searchsorted(self._rows, rows)
        counts = outputs.get("counts")
        for name, array in outputs.items():
            if name == "counts":
                continue
            if counts is None:
                self._array(name, array)[indices] = array
            else:
                self._put(name, indices, np.split(array, np.cumsum(counts)[:-1]))

    def predictions(self, features: EncodedRows, references: Sequence[Any]) -> Predictions:
        """Return the outputs of all rows, with the split's encoded rows and references."""
        return Predictions(self._outputs, features, self._rows, references)

    def _array(self, name: str, array: np.ndarray) -> np.ndarray:
        """Return the array that holds an output of all rows."""
        if name not in self._outputs:
            self._outputs[name] = np.zeros((len(self._rows), *array.shape[1:]), array.dtype)
        return self._outputs[name]

    def _put(self, name: str, indices: np.ndarray, parts: Sequence[np.ndarray]) -> None:
        """Put the array of each row at the row's index."""
        arrays = self._outputs.setdefault(name, [np.zeros(0)] * len(self._rows))
        for index, part in zip(indices, parts, strict=True):
            arrays[index] = part

"""Predictions that come in batches of any order end up in the order of their rows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt.batch.predictions import PredictionBuffer


class NoColumns:
    """Encoded rows without columns."""

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fail: there are no columns."""
        raise KeyError(column)


@given(st.permutations(range(7)), st.integers(1, 7))
def test_batches_of_any_order_give_the_rows_in_theirs(order: list[int], size: int):
    rows = np.array([2, 3, 5, 7, 11, 13, 17])
    buffer = PredictionBuffer(rows)
    for first in range(0, len(order), size):
        mine = rows[order[first : first + size]]
        # A value a row, and as many values as the row's last digit says.
        apart = {"tags": np.concatenate([np.full(r % 10, r) for r in mine]), "counts": mine % 10}
        buffer.add(mine, apart)
        buffer.add(mine, {"score": mine * 10})
    outputs: Any = buffer.predictions(NoColumns(), []).outputs
    assert outputs["score"].tolist() == (rows * 10).tolist()
    assert [part.tolist() for part in outputs["tags"]] == [[r] * (r % 10) for r in rows.tolist()]
    assert set(outputs) == {"score", "tags"}


def test_vectors_stay_arrays():
    buffer = PredictionBuffer(np.array([4, 9]))
    buffer.add(np.array([9]), {"vectors": np.ones((1, 3), np.float32)})
    buffer.add(np.array([4]), {"vectors": np.zeros((1, 3), np.float32)})
    outputs: Any = buffer.predictions(NoColumns(), []).outputs
    assert outputs["vectors"] == pytest.approx(np.array([[0, 0, 0], [1, 1, 1]]))

"""Predictions that come in batches of any order end up in the order of their rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt.batch.prediction_buffer import PredictionBuffer


@given(st.permutations(range(7)), st.integers(1, 7))
def test_batches_of_any_order_give_the_rows_in_theirs(order: list[int], size: int):
    rows = np.array([2, 3, 5, 7, 11, 13, 17])
    collected = PredictionBuffer(rows)
    for first in range(0, len(order), size):
        mine = rows[order[first : first + size]]
        # A value a row, and as many values as the row's last digit says.
        apart = {"tags": np.concatenate([np.full(r % 10, r) for r in mine]), "counts": mine % 10}
        collected.add(mine, apart)
        collected.add(mine, {"score": mine * 10})
    assert collected.outputs["score"].tolist() == (rows * 10).tolist()
    assert [part.tolist() for part in collected.outputs["tags"]] == [[r] * (r % 10) for r in rows.tolist()]
    assert set(collected.outputs) == {"score", "tags"}


def test_vectors_stay_arrays():
    collected = PredictionBuffer(np.array([4, 9]))
    collected.add(np.array([9]), {"vectors": np.ones((1, 3), np.float32)})
    collected.add(np.array([4]), {"vectors": np.zeros((1, 3), np.float32)})
    assert collected.outputs["vectors"] == pytest.approx(np.array([[0, 0, 0], [1, 1, 1]]))

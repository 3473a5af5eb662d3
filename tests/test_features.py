"""Encoded rows on disk against the plain lists they were written from."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xlt.data.features
from xlt.data.features import Features, write_features

LAW = settings(deadline=None, max_examples=50, derandomize=True, database=None)

Rows = list[list[int]]
Table = dict[str, Rows]

values = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Two or three columns of equally many rows, at least one row."""
    num_rows = draw(st.integers(1, 25))
    names = ["input_ids", "targets", "x"][: draw(st.integers(1, 3))]
    return {name: draw(st.lists(values, min_size=num_rows, max_size=num_rows)) for name in names}


def chunks(table: Table, cuts: list[int]) -> Iterator[Table]:
    """The table cut after these rows."""
    num_rows = len(table["input_ids"])
    edges = [0, *sorted(min(cut, num_rows) for cut in cuts), num_rows]
    for start, end in pairwise(edges):
        yield {name: rows[start:end] for name, rows in table.items()}


@contextmanager
def written(table: Table, cuts: list[int], rows_per_batch: int) -> Iterator[tuple[Features, int, str]]:
    """The table on disk, in record batches of so many rows."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(xlt.data.features, "ROWS_PER_BATCH", rows_per_batch)
        path = Path(folder) / "features.arrow"
        num_rows, content = write_features(path, chunks(table, cuts))
        yield Features(path), num_rows, content


@LAW
@given(tables(), st.lists(st.integers(0, 25), max_size=4), st.integers(1, 9), st.data())
def test_rows_come_back_as_written_in_any_order_with_repeats(
    table: Table, cuts: list[int], rows_per_batch: int, data: st.DataObject
) -> None:
    num_rows = len(table["input_ids"])
    wanted = data.draw(st.lists(st.integers(0, num_rows - 1), max_size=40))
    with written(table, cuts, rows_per_batch) as (features, counted, _):
        assert counted == features.num_rows == num_rows
        assert features.columns == tuple(table)
        for name, rows in table.items():
            found, counts = features.gather(name, np.array(wanted, np.int64))
            assert found.tolist() == [value for row in wanted for value in rows[row]]
            assert counts.tolist() == [len(rows[row]) for row in wanted]
            assert features.counts(name).tolist() == [len(row) for row in rows]


@LAW
@given(tables(), st.lists(st.integers(0, 25), max_size=4), st.lists(st.integers(0, 25), max_size=4))
def test_the_hash_is_of_the_content_not_of_the_chunks(table: Table, one: list[int], other: list[int]) -> None:
    with written(table, one, 4) as (_, _, first), written(table, other, 4) as (_, _, second):
        assert first == second


@LAW
@given(tables(), st.data())
def test_the_hash_changes_with_any_value(table: Table, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(table)))
    row = data.draw(st.integers(0, len(table[name]) - 1))
    changed = {key: [list(values) for values in rows] for key, rows in table.items()}
    changed[name][row].append(7)
    with written(table, [], 4) as (_, _, first), written(changed, [], 4) as (_, _, second):
        assert first != second


def test_the_hash_tells_where_rows_end() -> None:
    pairs = [{"input_ids": [[1, 2], [3]]}, {"input_ids": [[1], [2, 3]]}, {"input_ids": [[1, 2, 3], []]}]
    hashes = set()
    for table in pairs:
        with written(table, [], 4) as (_, _, content):
            hashes.add(content)
    assert len(hashes) == 3


@pytest.mark.parametrize("rows_per_batch", [1, 2, 3, 100])
def test_a_column_of_empty_rows(rows_per_batch: int) -> None:
    table: Table = {"input_ids": [[], [], []], "targets": [[], [5], []]}
    with written(table, [1], rows_per_batch) as (features, _, _):
        found, counts = features.gather("input_ids", np.array([2, 0, 1, 1]))
        assert found.tolist() == []
        assert counts.tolist() == [0, 0, 0, 0]
        assert features.gather("targets", np.array([1, 0, 1]))[0].tolist() == [5, 5]


def test_scalars_are_the_only_value_of_each_row() -> None:
    table: Table = {"input_ids": [[1], [2, 3], [4]], "example": [[7], [-1], [7]]}
    with written(table, [], 2) as (features, _, _):
        assert features.scalars("example").tolist() == [7, -1, 7]


def test_more_rows_than_a_record_batch_at_its_real_size(tmp_path: Path) -> None:
    rows = [[i] * (i % 3) for i in range(10_000)]
    num_rows, _ = write_features(
        tmp_path / "f.arrow", ({"input_ids": rows[i : i + 999]} for i in range(0, 10_000, 999))
    )
    features = Features(tmp_path / "f.arrow")
    assert num_rows == features.num_rows == 10_000
    wanted = np.array([9_998, 4_096, 4_095, 1, 8_192, 4_096])
    found, counts = features.gather("input_ids", wanted)
    assert found.tolist() == [9_998, 9_998, 4_096, 1, 8_192, 8_192, 4_096]
    assert counts.tolist() == [2, 1, 0, 1, 2, 1]


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        write_features(tmp_path / "f.arrow", iter([]))


def test_a_value_beyond_32_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OverflowError)):
        write_features(tmp_path / "f.arrow", iter([{"input_ids": [[2**31]]}]))

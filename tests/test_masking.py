"""Hidden tokens: shares, and that they depend on seed, step and row alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlt.data.sampling.masking import Masking
from xlt.data.sampling.order import numbers_at

SPECIAL = (0, 1, 2, 3, 99)
MASKING = Masking(mask=99, special=SPECIAL, vocab_size=100, mlm_probability=0.15)

rows_of_ids = st.lists(
    st.lists(st.integers(4, 98), max_size=40).map(lambda ids: [0, *ids, 2]), min_size=1, max_size=12
)


def hide(rows: list[list[int]], numbers: list[int], *key: object):
    ids = np.array([token for row in rows for token in row], np.int32)
    return MASKING.hide(ids, np.array([len(row) for row in rows]), np.array(numbers), *key)


@given(rows_of_ids, st.integers(0, 2**40), st.randoms())
def test_masks_of_a_row_do_not_depend_on_the_rows_beside_it(rows, key, random):
    numbers = random.sample(range(10**6), len(rows))
    together = hide(rows, numbers, key)
    starts = np.cumsum([0, *map(len, rows)])
    for i, row in enumerate(rows):
        alone = hide([row], [numbers[i]], key)
        assert (together.ids[starts[i] : starts[i + 1]] == alone.ids).all()
        mine = (together.token_indices >= starts[i]) & (together.token_indices < starts[i + 1])
        assert (together.token_indices[mine] - starts[i] == alone.token_indices).all()
        assert (together.targets[mine] == alone.targets).all()


@given(rows_of_ids, st.integers(0, 2**40))
def test_share_of_each_row_is_hidden_and_never_a_special_token(rows, key):
    found = hide(rows, list(range(len(rows))), key)
    plain = np.array([len(row) - 2 for row in rows])
    wanted = np.where(plain > 0, np.maximum(1, np.floor(0.15 * plain + 0.5)), 0)
    assert (found.counts == wanted).all()
    assert [MASKING.num_masked(row) for row in rows] == wanted.tolist()
    assert len(found.token_indices) == len(set(found.token_indices.tolist())) == wanted.sum()
    assert (np.diff(found.token_indices) > 0).all()
    ids = np.array([token for row in rows for token in row])
    assert (found.targets == ids[found.token_indices]).all()
    assert not np.isin(found.targets, SPECIAL).any()
    others = np.setdiff1d(np.arange(len(ids)), found.token_indices)
    assert (found.ids[others] == ids[others]).all()


def test_eighty_ten_ten():
    ids = np.tile(np.arange(4, 99), 4000).astype(np.int32)
    found = MASKING.hide(ids, np.full(4000, 95), np.arange(4000), 7)
    now = found.ids[found.token_indices]
    kept, masked = now == found.targets, now == 99
    replaced = ~kept & ~masked
    # A random piece is the true one once in 95 times.
    shares = [masked.mean(), kept.mean(), replaced.mean()]
    assert shares == pytest.approx([0.8, 0.1 + 0.1 / 95, 0.1 - 0.1 / 95], abs=0.006)
    assert not np.isin(now[replaced], SPECIAL).any()
    # Every position and every piece is as likely as any other.
    counts = np.bincount(found.targets, minlength=99)[4:99]
    assert counts.std() / counts.mean() < 0.06
    assert abs(np.corrcoef(found.targets[replaced], now[replaced])[0, 1]) < 0.03


def test_another_step_or_seed_hides_other_tokens():
    rows = [[0, *range(4, 94), 2]]
    draws = {key: tuple(hide(rows, [5], key).token_indices.tolist()) for key in range(20)}
    assert len(set(draws.values())) == 20
    assert draws[3] == tuple(hide(rows, [5], 3).token_indices.tolist())


def test_numbers_at_places_are_uniform_and_uncorrelated():
    row, position = np.divmod(np.arange(200_000), 40)
    numbers = numbers_at(row, position, "key") * 2.0**-64
    bins = np.bincount((numbers * 20).astype(int), minlength=20)
    assert ((bins - 10_000) ** 2 / 10_000).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
    for lag in (1, 40, 41):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers, numbers_at(row, position, "other") * 2.0**-64)[0, 1]) < 0.01

"""Random order as a pure function of its key.

The raw output of Philox is fixed by its definition (Salmon et al. 2011) and by numpy's compatibility policy.
numpy may change `Generator.permutation`, so an order is a sort of raw numbers.
"""

import hashlib

import numpy as np


def draw(num: int, *key: object) -> np.ndarray:
    """Return `num` uint64 numbers. With the same key, a shorter draw is a prefix of a longer draw."""
    return np.random.Philox(key=seed_of(*key, bits=128)).random_raw(num)


def uniform(num: int, *key: object) -> np.ndarray:
    """Return `num` doubles in [0, 1). With the same key, a shorter draw is a prefix of a longer draw."""
    return (draw(num, *key) >> np.uint64(11)) * 2.0**-53


def sample(pool: np.ndarray, num: int, *key: object) -> np.ndarray:
    """Return the distinct members of `num` draws from a pool, in the pool's order. Draws may repeat."""
    return pool[np.unique(draw(num, *key) % np.uint64(len(pool))).astype(np.int64)]


def permutation(num: int, *key: object) -> np.ndarray:
    """Return the numbers 0 … num - 1 in random order, shape (num,) int64."""
    return np.argsort(draw(num, *key), kind="stable")


def numbers_at(rows: np.ndarray, positions: np.ndarray, *key: object) -> np.ndarray:
    """Return a uint64 number for each (row, position). It does not depend on the other rows and positions.

    Args:
        rows: Numbers of the rows, shape (N,).
        positions: Positions in the rows, shape (N,).
        key: Further values on which the numbers depend.

    Source: the finaliser of SplitMix64 (Steele et al. 2014), once for the row and once for the position.
    """
    start = np.uint64(seed_of(*key, bits=64))
    by_row = _mix(start + rows.astype(np.uint64) * _GOLDEN)
    return _mix(by_row + positions.astype(np.uint64) * _GOLDEN)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Return a permutation of the 64-bit numbers in which each bit depends on all bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def seed_of(*key: object, bits: int = 63) -> int:
    """Return an integer of `bits` bits that the key determines."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16]) >> (128 - bits)

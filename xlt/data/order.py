"""Random order as a pure function of its key.

Philox's raw output is fixed by its definition (Salmon et al. 2011) and by numpy's compatibility policy,
whereas numpy may change how `Generator.permutation` draws; so orders are sorts of raw numbers.
"""

import hashlib

import numpy as np


def draw(num: int, *key: object) -> np.ndarray:
    """`num` uint64 numbers; with the same key, a shorter draw is a prefix of a longer one."""
    return np.random.Philox(key=seed_of(*key, bits=128)).random_raw(num)


def uniform(num: int, *key: object) -> np.ndarray:
    """`num` doubles in [0, 1), with the same prefix law."""
    return (draw(num, *key) >> np.uint64(11)) * 2.0**-53


def permutation(num: int, *key: object) -> np.ndarray:
    """The numbers 0 … num - 1 in random order, shape (num,) int64."""
    return np.argsort(draw(num, *key), kind="stable")


def seed_of(*key: object, bits: int = 63) -> int:
    """A whole number of so many bits that the key determines."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16]) >> (128 - bits)

"""A teacher's sentence vectors: the teacher, the files of its vectors, and encoded rows with vectors.

    <cache>/teacher-<key>/   an `ArrayStore`: hash of each text, and its vector of length 1

The key in the folder's name is a hash of the teacher. A text has one vector, whatever task, split or language
it belongs to. R rows, K texts, D width of the teacher.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt.data.array_store import ArrayStore
from xlt.data.features import Features
from xlt.data.sampling.order import sample
from xlt.system.precision import Precision

TEXT_KEY = "text_key"
"""Column of the hash of the text that the teacher reads, as two int32."""

TEACHER, NEGATIVES = "teacher", "negatives"
"""Columns of the teacher's vectors: one a row, and those of a step's random rows."""


@dataclass(frozen=True)
class Teacher:
    """An encoder whose sentence vectors another encoder learns: means of its last layer, of length 1.

    Args:
        encoder: A name on the hub, a folder, or the folder of a finished run.
        prefix: Text in front of each text. The e5 models want "query: ".
        max_length: Maximum number of tokens that the teacher reads of a text, its special tokens included.
        precision: Precision of the computation, as in xlt evaluate.
    """

    encoder: str
    prefix: str = ""
    max_length: int = 128
    precision: Precision = "auto"


class Teaching(NamedTuple):
    """The part of a task that concerns its teacher.

    Args:
        teacher: The teacher.
        text_of: Function from an example to the text that the teacher reads. An example has one row.
        num_negatives: Number of rows to draw in each step whose vectors are wrong answers.
    """

    teacher: Teacher
    text_of: Callable[[Any], str]
    num_negatives: int


def text_key(text: str) -> list[int]:
    """Return the hash of a text as two int32, for the column TEXT_KEY."""
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), np.int32).tolist()


def text_keys(features: Features, rows: np.ndarray) -> np.ndarray:
    """Return the hash of the text of each row, shape (R,) uint64."""
    return np.ascontiguousarray(features.gather(TEXT_KEY, rows)[0]).view(np.uint64)


class TaughtFeatures(Features):
    """The rows of a split, with the teacher's vectors of the rows in use.

    Args:
        path: A file that a `FeatureWriter` wrote.
        store: The vectors, complete for the rows in use.
        rows: Numbers of the rows in use, ascending.
        num_negatives: Number of rows to draw in each step.
    """

    def __init__(self, path: Path, store: ArrayStore, rows: np.ndarray, num_negatives: int) -> None:
        super().__init__(path)
        self._in_use, self._num_negatives, self._vectors = rows, num_negatives, store.arrays
        self._index = np.full(self.num_rows, -1)
        self._index[rows] = store.find(text_keys(self, rows))

    def gather(self, column: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows' values end to end, and the number in each row; for TEACHER, float32 vectors."""
        if column != TEACHER:
            return super().gather(column, rows)
        index = self._index[rows]
        assert (index >= 0).all()
        vectors = self._vectors[index].astype(np.float32)
        return vectors.ravel(), np.full(len(rows), vectors.shape[1])

    def shared(self, key: int) -> dict[str, np.ndarray]:
        """Return NEGATIVES, the vectors of random rows in use, shape (K, D) float32.

        All micro-batches of a step get the same vectors, so that no loss depends on how the rows of a step
        are divided.
        """
        rows = sample(self._in_use, self._num_negatives, "negatives", key)
        return {NEGATIVES: self._vectors[self._index[rows]].astype(np.float32)}

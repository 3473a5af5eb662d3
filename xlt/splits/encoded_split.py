"""An encoded split on disk: features, references and facts about them.

<cache>/<task>-<split>-<key>/features.arrow   encoded rows
                             references.jsonl what scoring needs of each example
                             meta.json        counts, labels, sources, hash of the content
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlt.data.features import Features
from xlt.data.sampling.batches import subset_by_identity

FEATURES, REFERENCES, META = "features.arrow", "references.jsonl", "meta.json"


@dataclass
class Meta:
    """Facts about an encoded split."""

    examples: int = 0
    """Number of labelled examples."""
    dropped: int = 0
    """Number of rows that were left out because they have no label."""
    truncated: int = 0
    """Number of examples that lost text to the length limit."""
    rows: int = 0
    """Number of rows of features. A long passage makes several."""
    tokens: int = 0
    """Number of tokens in all rows."""
    content: str = ""
    """SHA-256 of the features."""
    labels: Sequence[str] = ()
    """The task's classes, including those that were found in the training rows."""
    sources: Sequence[Mapping[str, str | None]] = ()
    """Name, location, revision and fingerprint of each raw split."""


class EncodedSplit:
    """An encoded split, opened.

    Args:
        folder: The folder that `encode_split` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = Meta(**json.loads((folder / META).read_text(encoding="utf-8")))
        self.features = Features(folder / FEATURES)
        self.identify: Callable[[], Sequence[int | str]] = lambda: range(self.meta.examples)
        """Return an identity for each example that all languages of the task share. Defaults to its
        number."""
        self._identities: Sequence[int | str] | None = None

    def subset(self, volume: int | None, *key: object) -> np.ndarray:
        """Return the numbers of the examples that belong to a volume, ascending.

        Languages whose examples are translations of each other get the same examples, as far as known.

        Args:
            volume: Number of examples wanted. If None, or above the number of examples, all are returned.
            key: The seed and the task's name, on which the draw depends.
        """
        if volume is None or volume >= self.meta.examples:
            return np.arange(self.meta.examples)
        if self._identities is None:
            self._identities = self.identify()
            assert len(self._identities) == self.meta.examples
        return subset_by_identity(self._identities, volume, *key)

    def rows_of(self, examples: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows that belong to examples, ascending.

        Args:
            examples: Numbers of the examples, ascending.
        """
        if len(examples) == self.meta.rows:
            return examples
        return np.flatnonzero(np.isin(self.features.scalars("example"), examples))

    def references(self) -> list[Any]:
        """Return what scoring needs of each example, in the order of the examples' numbers."""
        with (self.folder / REFERENCES).open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

"""Source of sentences in two languages and of their pairs: files as XTREME downloads them.

<root>/bucc2018/zh-en.dev.{zh,en,gold}
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from xlt.data.multilingual import ENGLISH
from xlt.data.sources import RawSplit, Source, Split
from xlt.system.hashing import hash_file

NAMES = {"validation": "dev", "test": "test"}
"""Split to its name in the names of the files."""


@dataclass(frozen=True)
class SentenceFiles(Source):
    """Sentences of a language and of English, and the pairs that are translations of each other.

    The files are `<root>/<folder>/<language>-en.<split>.{<language>,en,gold}`. Each line has an id, a tab,
    and a sentence; a line of `gold` has two ids.

    Args:
        folder: The folder in the data root.
        how_to_get: Text that tells a user how to get the files. It is shown when they are missing.
    """

    folder: str
    how_to_get: str

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the distinct sentences of a split with the fields of `Sentence`, the English ones last.

        Raises:
            FileNotFoundError: A file is missing. There are no files for the training split.
            ValueError: The ids of the files do not match.
        """
        stem = f"{self.folder}/{language}-en.{NAMES.get(split, split)}"
        names = [f"{stem}.{end}" for end in (language, ENGLISH, "gold")]
        lacking = names
        for root in roots:
            missing = [name for name in names if not (root / name).is_file()]
            if not missing:
                return [_raw_split([root / name for name in names], stem)]
            lacking = min(lacking, missing, key=len)
        where = ", ".join(map(str, roots)) or "data.root, which is not set"
        raise FileNotFoundError(f"{' and '.join(lacking)} cannot be found in {where}. {self.how_to_get}")


def _raw_split(paths: Sequence[Path], name: str) -> RawSplit:
    """Return the raw split of three files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hash_file(path).encode())
    _gold(paths)
    return RawSplit(name, str(paths[0]), None, digest.hexdigest(), partial(_Sentences, paths))


class _Sentences:
    """The distinct sentences of two files.

    Args:
        paths: The two files of sentences and the file of gold pairs.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the rows in order, `batch_size` at a time, as columns."""
        rows = self._rows()
        while batch := list(islice(rows, batch_size)):
            yield {name: [row[name] for row in batch] for name in batch[0]}

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the foreign sentences, then the English ones."""
        gold = _gold(self._paths)
        for side, path in enumerate(self._paths[:2]):
            ids: dict[str, list[str]] = {}
            for key, text in _pairs(path):
                ids.setdefault(text, []).append(key)
            for text, keys in ids.items():
                pairs = [pair for key in keys for pair in gold.get(key, [])] if side == 0 else []
                yield {"id": keys[0], "text": text, "side": side, "pairs": pairs, "copies": len(keys)}


def _gold(paths: Sequence[Path]) -> dict[str, list[str]]:
    """Return the gold pairs of each foreign sentence that has any.

    Raises:
        ValueError: An id occurs twice in a file, or a gold pair names an unknown id.
    """
    known = [_ids(path) for path in paths[:2]]
    found: dict[str, list[str]] = {}
    for number, pair in enumerate(_pairs(paths[2]), 1):
        for key, ids, path in zip(pair, known, paths, strict=False):
            if key not in ids:
                raise ValueError(
                    f"{paths[2]}, line {number}: the id {key} is not in {path}: the three files do not "
                    "belong together; fetch them again"
                )
        found.setdefault(pair[0], []).append("\t".join(pair))
    return found


def _ids(path: Path) -> set[str]:
    """Return the ids of a file's sentences.

    Raises:
        ValueError: An id occurs twice.
    """
    ids: set[str] = set()
    for number, (key, _) in enumerate(_pairs(path), 1):
        if key in ids:
            raise ValueError(f"{path}, line {number}: the id {key} occurs twice. Give every sentence its own")
        ids.add(key)
    return ids


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the two fields of each line.

    Raises:
        ValueError: A line has no tab.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            first, tab, second = line.rstrip("\r\n").partition("\t")
            if not tab:
                raise ValueError(
                    f"{path}, line {number}: no tab: a line is an id, a tab, and a sentence or id"
                )
            yield first.strip(), second.strip()

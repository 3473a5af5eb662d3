"""Where plain text comes from: files of a data root, one a language or pair, split by what they say.

    <root>/mono/sw.parquet          columns text, origin
    <root>/parallel/sw-en.parquet   columns source, target, origin

A text is held out by a hash of itself, so a sentence that occurs in several files, alone or beside its
translation, is held out of all of them.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xlt.data.sources import Part, Row, Split, open_parquet

HELD_OUT = 50
"""One text of so many is kept from training, to validate on."""

_BETWEEN = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Texts:
    """Text of several languages, or of several pairs of them.

    Args:
        folder: Folder of the data root that holds `<language>.parquet`.
        columns: Columns that hold text.
        without: Values of the column `origin` whose rows are left out.
        how_to_get: Shown where there is no text.
    """

    folder: str
    columns: tuple[str, ...]
    without: tuple[str, ...] = ()
    how_to_get: str = ""

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """Every language, or pair, that a root has text of, sorted.

        Raises:
            FileNotFoundError: There is none.
        """
        found = sorted({path.stem for root in roots for path in (root / self.folder).glob("*.parquet")})
        if not found:
            where = ", ".join(map(str, roots)) or "data.root, which is not set"
            raise FileNotFoundError(
                f"no {self.folder}/<language>.parquet in {where}: set data.root (or XLT_DATA) to a folder "
                f"that has one. {self.how_to_get}"
            )
        return found

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[Part]:
        """The language's rows of the split, from the first root that has any.

        Raises:
            FileNotFoundError: No root has text of this language.
            ValueError: The file is damaged.
        """
        known = self.languages(roots)
        if language not in known:
            raise FileNotFoundError(
                f"no {self.folder}/{language}.parquet in {', '.join(map(str, roots))}: there is text of "
                f"{', '.join(known)}"
            )
        paths = [root / self.folder / f"{language}.parquet" for root in roots]
        path = next(path for path in paths if path.is_file())
        part = open_parquet(path, f"{self.folder}/{language}/{split}")
        rule = f"{part.fingerprint} {split} 1/{HELD_OUT} without {self.without}"
        return [replace(part, fingerprint=rule, keeps=partial(self._keeps, split))]

    def _keeps(self, split: Split, row: Row) -> bool:
        """Whether a row belongs to the split."""
        if row.get("origin") in self.without:
            return False
        return any(is_held_out(str(row[name])) for name in self.columns) == (split == "validation")


def is_held_out(text: str) -> bool:
    """Whether a text is kept from training; case, punctuation and space do not count."""
    plain = _BETWEEN.sub("", text.casefold())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest()) % HELD_OUT == 0

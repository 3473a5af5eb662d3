"""Where plain text comes from: a data root's file of a language or pair, or the hub; split by what it says.

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

from xlt.data.sources import Hub, RawSplit, Row, Split, open_parquet

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
        hub: Where to read a language that no root has, `{language}` in its config standing for the language;
            its train split is taken.
    """

    folder: str
    columns: tuple[str, ...]
    without: tuple[str, ...] = ()
    how_to_get: str = ""
    hub: Hub | None = None

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """Every language, or pair, that a root has text of, sorted.

        Raises:
            FileNotFoundError: There is none.
        """
        found = sorted({path.stem for root in roots for path in (root / self.folder).glob("[!.]*.parquet")})
        if not found:
            where = ", ".join(map(str, roots)) or "data.root, which is not set"
            named = " Or name the languages, such as mlm/sw, to read them from the hub." if self.hub else ""
            raise FileNotFoundError(
                f"no {self.folder}/<language>.parquet in {where}: set data.root (or XLT_DATA) to a folder "
                f"that has one. {self.how_to_get}.{named}"
            )
        return found

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """The language's rows of the split, from the first root that has any, else from the hub.

        Raises:
            FileNotFoundError: There is no text of this language.
            ValueError: The file is damaged.
        """
        return [
            replace(
                part,
                fingerprint=f"{part.fingerprint} {split} {self._rule}",
                keeps=partial(self._keeps, split),
            )
            for part in self._whole(split, roots, language)
        ]

    @property
    def _rule(self) -> str:
        """What decides which rows belong to a split."""
        return f"1/{HELD_OUT} of {self.columns} without {self.without}"

    def _whole(self, split: Split, roots: Sequence[Path], language: str) -> list[RawSplit]:
        """All rows of a language, named by the split that they are for."""
        paths = [root / self.folder / f"{language}.parquet" for root in roots]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            return [open_parquet(path, f"{self.folder}/{language}/{split}")]
        if self.hub is not None:
            return replace(self.hub, config=self.hub.config.format(language=language)).open("train", roots)
        raise FileNotFoundError(
            f"no {self.folder}/{language}.parquet in {', '.join(map(str, roots))}: there is text of "
            f"{', '.join(self.languages(roots))}"
        )

    def _keeps(self, split: Split, row: Row) -> bool:
        """Whether a row belongs to the split."""
        if row.get("origin") in self.without:
            return False
        return any(is_held_out(str(row[name])) for name in self.columns) == (split == "validation")


def is_held_out(text: str) -> bool:
    """Whether a text is kept from training; case, punctuation and space do not count."""
    plain = _BETWEEN.sub("", text.casefold())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest()) % HELD_OUT == 0

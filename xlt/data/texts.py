"""Source of plain text: a file of a data root for each language or pair of languages, or the hub.

    <root>/mono/sw.parquet          columns text, origin
    <root>/parallel/sw-en.parquet   columns source, target, origin

A hash of a text decides if the text belongs to the dev split. A sentence that occurs in several files, alone
or with its translation, is therefore held out of all of them.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xlt.data.sources import Hub, RawSplit, Row, Source, Split, open_parquet

HELD_OUT = 50
"""One of this number of texts belongs to the dev split."""

_BETWEEN = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Texts(Source):
    """Text in several languages or pairs of languages.

    Args:
        folder: Folder of the data root that holds `<language>.parquet`.
        columns: Columns that hold text.
        without: Values of the column `origin`. Rows with these values are left out.
        how_to_get: Text that tells a user how to get the files. It is shown when there is no text.
        hub: Repository for a language that no root has. `{language}` in its config stands for the language.
            Its training split is used.
    """

    folder: str
    columns: tuple[str, ...]
    without: tuple[str, ...] = ()
    how_to_get: str = ""
    hub: Hub | None = None

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """Return the languages, or pairs of languages, of which a root has text, sorted.

        Raises:
            FileNotFoundError: No root has text.
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
        """Return the raw splits of a language, from the first root that has text, else from the hub.

        Raises:
            FileNotFoundError: There is no text in this language.
            ValueError: The file is damaged.
        """
        return [
            replace(
                raw,
                fingerprint=f"{raw.fingerprint} {split} {self._rule}",
                keeps=partial(self._keeps, split),
            )
            for raw in self._all_rows(split, roots, language)
        ]

    @property
    def _rule(self) -> str:
        """Return a text of the rule that decides which rows belong to a split."""
        return f"1/{HELD_OUT} of {self.columns} without {self.without}"

    def _all_rows(self, split: Split, roots: Sequence[Path], language: str) -> list[RawSplit]:
        """Return all rows of a language, named by the split that will keep some of them."""
        paths = [root / self.folder / f"{language}.parquet" for root in roots]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            return [open_parquet(path, f"{self.folder}/{language}/{split}")]
        if self.hub is not None:
            return replace(self.hub, config=self.hub.config.format(language=language)).open("train", roots)
        raise FileNotFoundError(
            f"no {self.folder}/{language}.parquet in {', '.join(map(str, roots))}, only text in "
            f"{', '.join(self.languages(roots))}. Add the file, or take {language} out of the config"
        )

    def _keeps(self, split: Split, row: Row) -> bool:
        """Return True if a row belongs to a split."""
        if row.get("origin") in self.without:
            return False
        return any(is_held_out(str(row[name])) for name in self.columns) == (split == "validation")


def is_held_out(text: str) -> bool:
    """Return True if a text belongs to the dev split. Case, punctuation and space do not count."""
    plain = _BETWEEN.sub("", text.casefold())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest()) % HELD_OUT == 0

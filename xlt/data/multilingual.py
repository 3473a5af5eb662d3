"""Sources of a benchmark's rows in several languages: a repository of the hub.

google/xtreme PAN-X.sw    each language has a config of its own
google/xtreme XNLI        a single config has all languages; each row names its language
floschne/xvnli ar         each language has a split of its own
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from xlt.data.class_names import name_of
from xlt.data.languages import hint
from xlt.data.sources import Hub, RawSplit, Row, Source, Split

ENGLISH = "en"
"""The language of the training rows."""


@dataclass(frozen=True)
class Multilingual(Source):
    """A repository in several languages. If no language is named, its English rows.

    Args:
        hub: The repository. `{language}` in its config, in the names of its splits or in the path of its
            files stands for the repository's name of the language.
        names: ISO 639-1 code to the repository's name of the language, for languages where they differ.
        language_of: Function that returns the repository's name of a row's language, if a single config holds
            all languages.
        held_out: If above 0, the repository has no English dev split, and one of `held_out` training passages
            is used for it.
        passage: Column of the passage. All rows of a passage are held out together.
        english: Source of the English rows, if the repository has none. Defaults to the repository.
    """

    hub: Hub
    names: Mapping[str, str] = field(default_factory=dict)
    language_of: Callable[[Row], str] | None = None
    held_out: int = 0
    passage: str = "context"
    english: Source | None = None

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of a language, from the first root that holds them, else from the hub.

        If a single config holds all languages, a later root may have a language that the first root lacks.

        Raises:
            FileNotFoundError: The language has no such split.
            ValueError: A file is damaged.
        """
        if self.english is not None and language in ("", ENGLISH):
            return self.english.open(split, roots)
        name = self.names.get(language or ENGLISH, language or ENGLISH)
        hub = self.hub.in_language(name)
        divided = self.held_out > 0 and split != "test"
        asked: Split = "train" if divided else split
        if self.language_of is None:
            raw_splits = hub.open(asked, roots)
        else:
            raw_splits = _with_rows_in(language or ENGLISH, name, self.language_of, hub, asked, roots)
        return [self._in_language(raw, name, split if divided else None) for raw in raw_splits]

    def _in_language(self, raw: RawSplit, name: str, split: Split | None) -> RawSplit:
        """Return the rows in a language and, if the training rows are divided, of a split."""
        rule = f"{name} by {self.language_of is not None}, {split} 1/{self.held_out} by {self.passage}"
        return replace(
            raw,
            name=f"{raw.name} {name}" if self.language_of else raw.name,
            fingerprint=f"{raw.fingerprint} {rule}",
            keeps=partial(self._keeps, name, split),
        )

    def _keeps(self, name: str, split: Split | None, row: Row) -> bool:
        """Return True if a row is in the language and, if the training rows are divided, in the split."""
        if self.language_of is not None and name_of(self.language_of(row)) != name:
            return False
        return split is None or self._is_held_out(str(row[self.passage])) == (split == "validation")

    def _is_held_out(self, passage: str) -> bool:
        """Return True if a passage belongs to the dev split."""
        digest = hashlib.blake2b(passage.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % self.held_out == 0


def _with_rows_in(
    code: str, name: str, language_of: Callable[[Row], str], hub: Hub, split: Split, roots: Sequence[Path]
) -> list[RawSplit]:
    """Return the raw splits that have rows in a language, of the first root that has any.

    Args:
        code: ISO 639-1 code of the language.
        name: The repository's name of the language.
        language_of: Function that returns the repository's name of a row's language.
        hub: The repository.
        split: The split.
        roots: Data roots.

    Raises:
        FileNotFoundError: No root has the split, or none has rows in the language.
    """
    holding = [root for root in roots if (root / hub.repository / hub.config).is_dir()]
    reasons: list[str] = []
    for place in [[root] for root in holding] or [roots]:
        try:
            raw_splits = hub.open(split, place)
        except FileNotFoundError as error:
            reasons.append(str(error))
            continue
        known = {raw.location: _languages_of(raw, language_of) for raw in raw_splits}
        found = [raw for raw in raw_splits if name in known[raw.location]]
        if found:
            return found
        reasons += [
            f"{where} has no row in {name}, but in {', '.join(other)}"
            + (f".{suggested}" if (suggested := hint(code, other)) else "")
            for where, other in known.items()
        ]
    raise FileNotFoundError("; ".join(reasons))


_LANGUAGES: dict[tuple[str, Callable[[Row], str]], list[str]] = {}
"""Languages of a file, by its fingerprint and the function that tells a row's language."""


def _languages_of(raw: RawSplit, language_of: Callable[[Row], str]) -> list[str]:
    """Return the names of the languages that have rows in a file, sorted."""
    key = raw.fingerprint, language_of
    if key not in _LANGUAGES:
        found = {_language(language_of, row, raw, number) for number, row in enumerate(raw.rows())}
        _LANGUAGES[key] = sorted(found)
    return _LANGUAGES[key]


def _language(language_of: Callable[[Row], str], row: Row, raw: RawSplit, number: int) -> str:
    """Return the language of a row.

    Raises:
        ValueError: The language cannot be determined.
    """
    where = f"{raw.location}, row {number}: its language cannot be determined"
    try:
        language = name_of(language_of(row))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
        columns = ", ".join(row)
        raise ValueError(f"{where}, because {reason}; the columns are {columns}. Correct the row") from error
    if not isinstance(language, str) or not language:
        raise ValueError(f"{where}, because it is {language!r}, not text. Correct the row")
    return language

"""Where a benchmark's rows in several languages come from: a repository by language, or files of sentences.

google/xtreme PAN-X.sw                       a config a language
google/xtreme XNLI                           all languages in one, told apart row by row
<root>/bucc2018/zh-en.dev.{zh,en,gold}       sentences of two languages, and which translate each other
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from xlt.data.class_names import name_of
from xlt.data.sources import Hub, RawSplit, Row, Split, hash_file

ENGLISH = "en"
"""The language that is trained on."""

PARTS = {"validation": "dev", "test": "test"}
"""Names of the splits in the names of files of sentences."""


@dataclass(frozen=True)
class Multilingual:
    """A repository in several languages, English where none is named.

    Args:
        hub: The repository; `{language}` in its config stands for the language's name there.
        names: Languages whose name there is not their ISO 639-1 code.
        language_of: A row's language by its name there, where one config holds them all.
        held_out: Where above 0, the repository has no English validation split: of so many training
            passages one validates.
        passage: A row's passage, all of whose rows are held out together.
    """

    hub: Hub
    names: Mapping[str, str] = field(default_factory=dict)
    language_of: Callable[[Row], str] | None = None
    held_out: int = 0
    passage: str = "context"

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """None: training is in English, unless another language is named."""
        return []

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """The language's rows of the split, from the first root that holds them, else from the hub.

        Where one config holds all languages, another root may have a language that the first root lacks.

        Raises:
            FileNotFoundError: There is no such split of this language.
            ValueError: A file is damaged.
        """
        name = self.names.get(language or ENGLISH, language or ENGLISH)
        hub = replace(self.hub, config=self.hub.config.format(language=name))
        divided = self.held_out > 0 and split != "test"
        asked: Split = "train" if divided else split
        if self.language_of is None:
            parts = hub.open(asked, roots)
        else:
            parts = _with_rows_in(name, self.language_of, hub, asked, roots)
        return [self._in_language(part, name, split if divided else None) for part in parts]

    def _in_language(self, part: RawSplit, name: str, split: Split | None) -> RawSplit:
        """The part's rows in a language and, where the training rows are divided, of a split."""
        rule = f"{name} by {self.language_of is not None}, {split} 1/{self.held_out} by {self.passage}"
        return replace(
            part,
            name=f"{part.name} {name}" if self.language_of else part.name,
            fingerprint=f"{part.fingerprint} {rule}",
            keeps=partial(self._keeps, name, split),
        )

    def _keeps(self, name: str, split: Split | None, row: Row) -> bool:
        """Whether a row is in the language and, where the training rows are divided, in the split."""
        if self.language_of is not None and name_of(self.language_of(row)) != name:
            return False
        return split is None or self._is_held_out(str(row[self.passage])) == (split == "validation")

    def _is_held_out(self, passage: str) -> bool:
        """Whether a passage validates."""
        digest = hashlib.blake2b(passage.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % self.held_out == 0


def _with_rows_in(
    name: str, language_of: Callable[[Row], str], hub: Hub, split: Split, roots: Sequence[Path]
) -> list[RawSplit]:
    """Return the parts of the split that have rows in a language, of the first root that has any.

    Raises:
        FileNotFoundError: No root has the split, or none has rows in the language.
    """
    holding = [root for root in roots if (root / hub.repository / hub.config).is_dir()]
    reasons: list[str] = []
    for place in [[root] for root in holding] or [roots]:
        try:
            parts = hub.open(split, place)
        except FileNotFoundError as error:
            reasons.append(str(error))
            continue
        known = {part.location: _languages_of(part, language_of) for part in parts}
        found = [part for part in parts if name in known[part.location]]
        if found:
            return found
        reasons += [
            f"{where} has no row in {name}, but in {', '.join(other)}" for where, other in known.items()
        ]
    raise FileNotFoundError("; ".join(reasons))


_LANGUAGES: dict[tuple[str, Callable[[Row], str]], list[str]] = {}
"""Languages in a file, by its fingerprint and how they are told: the file says it once."""


def _languages_of(part: RawSplit, language_of: Callable[[Row], str]) -> list[str]:
    """Names of the languages that a part has rows in, sorted."""
    key = part.fingerprint, language_of
    if key not in _LANGUAGES:
        found: dict[str, None] = {}
        number = 0
        for chunk in part.chunks(1000):
            for values in zip(*chunk.values(), strict=True):
                found[_language(language_of, dict(zip(chunk, values, strict=True)), part, number)] = None
                number += 1
        _LANGUAGES[key] = sorted(found)
    return _LANGUAGES[key]


def _language(language_of: Callable[[Row], str], row: Row, part: RawSplit, number: int) -> str:
    """The language of a row.

    Raises:
        ValueError: It cannot be told.
    """
    where = f"{part.location}, row {number}: its language cannot be told"
    try:
        language = name_of(language_of(row))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where}, for {reason}; the columns are {', '.join(row)}. Mend the row") from error
    if not isinstance(language, str) or not language:
        raise ValueError(f"{where}, for it is {language!r}, not text. Mend the row")
    return language


@dataclass(frozen=True)
class SentenceFiles:
    """Sentences of a language and of English, one a line after its id, and which of them are translations.

    `<root>/<folder>/<language>-en.<part>.{<language>,en,gold}`, tab-separated, as XTREME downloads them.

    Args:
        folder: The folder in the data root.
        how_to_get: Where a user obtains the files, shown when they are missing.
    """

    folder: str
    how_to_get: str

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """None: nothing is trained on."""
        return []

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """A split's distinct sentences, with the fields of `Sentence`, the language's before the English.

        Raises:
            FileNotFoundError: A file is missing, or the split is the training split, which there is not.
            ValueError: A file's ids do not match.
        """
        stem = f"{self.folder}/{language}-en.{PARTS.get(split, split)}"
        names = [f"{stem}.{end}" for end in (language, ENGLISH, "gold")]
        lacking = names
        for root in roots:
            missing = [name for name in names if not (root / name).is_file()]
            if not missing:
                return [_part_of([root / name for name in names], stem)]
            lacking = min(lacking, missing, key=len)
        where = ", ".join(map(str, roots)) or "data.root, which is not set"
        raise FileNotFoundError(f"{' and '.join(lacking)} cannot be found in {where}. {self.how_to_get}")


def _part_of(paths: Sequence[Path], name: str) -> RawSplit:
    """The part that three files make."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hash_file(path).encode())
    _gold(paths)
    return RawSplit(name, str(paths[0]), None, digest.hexdigest(), partial(_Sentences, paths))


class _Sentences:
    """The distinct sentences of both files.

    Args:
        paths: The files of sentences and the gold pairs.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """The rows in order, so many at a time, as columns."""
        rows = self._rows()
        while batch := list(islice(rows, batch_size)):
            yield {name: [row[name] for row in batch] for name in batch[0]}

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The foreign sentences, then the English ones."""
        gold = _gold(self._paths)
        for side, path in enumerate(self._paths[:2]):
            ids: dict[str, list[str]] = {}
            for key, text in _pairs(path):
                ids.setdefault(text, []).append(key)
            for text, keys in ids.items():
                pairs = [pair for key in keys for pair in gold.get(key, [])] if side == 0 else []
                yield {"id": keys[0], "text": text, "side": side, "pairs": pairs, "copies": len(keys)}


def _gold(paths: Sequence[Path]) -> dict[str, list[str]]:
    """The gold pairs of each foreign sentence that is in one.

    Raises:
        ValueError: An id stands twice in a file, or a gold pair names one that is in none.
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
    """The ids of a file's sentences.

    Raises:
        ValueError: One stands twice.
    """
    ids: set[str] = set()
    for number, (key, _) in enumerate(_pairs(path), 1):
        if key in ids:
            raise ValueError(f"{path}, line {number}: the id {key} stands twice. Give every sentence its own")
        ids.add(key)
    return ids


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The two fields of each line.

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

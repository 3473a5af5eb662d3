"""Source of rows in files of your own: CSV, TSV, JSON Lines or parquet, in one or in several languages.

reviews.csv              all languages and splits; columns name the language and the split of a row
reviews/de.jsonl         a file for each language
reviews/test.parquet     a file for each split
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from xlt.data.class_names import name_of
from xlt.data.languages import hint
from xlt.data.multilingual import ENGLISH
from xlt.data.sources import RawSplit, Row, Source, Split, open_parquet
from xlt.data.text_files import SUFFIXES, TextRows
from xlt.system.hashing import hash_file


@dataclass(frozen=True)
class Files(Source):
    """Files with rows in one or in several languages. If no language is named, the English rows.

    The suffix tells the format: `.csv`, `.tsv`, `.jsonl` or `.parquet`. The first line of a CSV or TSV file
    names the columns, and all values are texts.

    Args:
        path: Path of the file, absolute or relative to a data root. If no root has the file, relative to the
            working directory. `{language}` stands for the language, and `{split}` for the split.
        language: Column of a row's language. If empty, the path names the language, or all rows are English.
        split: Column of a row's split. If empty, the path names the split, or `only` does.
        only: The single split that the file holds, if neither a column nor the path names the split.
        names: ISO 639-1 code to the name of the language in the files, for languages where they differ.
        splits: Split (train, validation or test) to its name in the files, for splits where they differ.
        separator: Character between the columns of a CSV file. Defaults to a comma, in a TSV file to a tab.
        quotes: True if quotation marks enclose texts that hold a separator. False if they are text.

    Raises:
        ValueError: The suffix is unknown, or nothing names the split.
    """

    path: str
    language: str = ""
    split: str = ""
    only: Split | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    separator: str = ""
    quotes: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that cannot be read."""
        if Path(self.path).suffix not in SUFFIXES:
            raise ValueError(f"path {self.path!r}: the suffix must be one of {', '.join(SUFFIXES)}")
        if not self.split and "{split}" not in self.path and self.only is None:
            raise ValueError(
                f"path {self.path!r}: nothing names the split of the rows. Put {{split}} into the path, set "
                "split to the column of a row's split, or set only='test' for a file of test rows"
            )

    @property
    def names_language(self) -> bool:
        """True if a column or the path tells the language of a row."""
        return bool(self.language) or "{language}" in self.path

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the rows of a split in a language.

        Raises:
            FileNotFoundError: There is no such file, or the file has no row of the split in the language.
            ValueError: The file is damaged, or lacks a column.
        """
        code = language or ENGLISH
        if self.only not in (None, split):
            raise FileNotFoundError(f"{self.path} has {self.only} rows only, no {split} rows")
        if not self.names_language and code != ENGLISH:
            raise FileNotFoundError(
                f"{self.path} has no rows in {code}: nothing names their language. Set language to the "
                "column of a row's language, or put {language} into the path"
            )
        name, part = self.names.get(code, code), self.splits.get(split, split)
        path = self._find(roots, code, name, part)
        wanted = {self.language: name, self.split: part}
        return [self._chosen(path, code, {column: value for column, value in wanted.items() if column})]

    def _find(self, roots: Sequence[Path], code: str, name: str, split: str) -> Path:
        """Return the file of a language and a split.

        Args:
            roots: Data roots.
            code: ISO 639-1 code of the language.
            name: The language's name in the files.
            split: The split's name in the files.

        Raises:
            FileNotFoundError: There is no such file.
        """
        filled = self.path.replace("{split}", split)
        relative = filled.replace("{language}", name)
        places = [*roots, Path.cwd()]
        for place in places:
            if (place / relative).is_file():
                return place / relative
        before, _, after = filled.partition("{language}")
        there = [path for place in places for path in _like(place, before, after)] if after else []
        suggested = hint(code, there)
        raise FileNotFoundError(
            f"{relative} is in none of {', '.join(dict.fromkeys(map(str, places)))}"
            + (f", which have the languages {', '.join(dict.fromkeys(there))}." if there else ".")
            + (suggested or " Put the file there, or correct the path in the task's file")
        )

    def _chosen(self, path: Path, code: str, wanted: Mapping[str, str]) -> RawSplit:
        """Return the rows of a file that have the wanted values in some columns.

        Raises:
            FileNotFoundError: The file has no such row.
        """
        raw = self._open(path)
        if not wanted:
            return raw
        _check_rows(raw, code, self.language, wanted)
        return replace(
            raw,
            name=f"{raw.name} {' '.join(wanted.values())}",
            fingerprint=f"{raw.fingerprint} {dict(wanted)}",
            keeps=partial(_keeps, wanted),
        )

    def _open(self, path: Path) -> RawSplit:
        """Return all rows of a file."""
        if path.suffix == ".parquet":
            return open_parquet(path, path.name)
        load = partial(TextRows, path, self.separator, self.quotes)
        fingerprint = f"{hash_file(path)} {path.suffix} {self.separator!r} {self.quotes}"
        return RawSplit(path.name, str(path), None, fingerprint, load)


def _like(place: Path, before: str, after: str) -> Iterator[str]:
    """Yield the names of the languages for which a folder has a file."""
    folder = (place / f"{before}x").parent
    start = before.rpartition("/")[2]
    if "/" in after or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(start) and path.name.endswith(after):
            yield path.name.removeprefix(start).removesuffix(after)


def _keeps(wanted: Mapping[str, str], row: Row) -> bool:
    """Return True if a row has the wanted values."""
    return all(name_of(row[column]) == value for column, value in wanted.items())


_COUNTS: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {}
"""Number of rows by the values of some columns, by the file's fingerprint and the columns."""


def _counts(raw: RawSplit, columns: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Return the number of rows of a file by their values in some columns.

    Raises:
        ValueError: A column is missing, or a value is not a text or is empty.
    """
    key = (raw.fingerprint, *columns)
    if key not in _COUNTS:
        _COUNTS[key] = Counter(_values(raw, number, row, columns) for number, row in enumerate(raw.rows()))
    return _COUNTS[key]


def _values(raw: RawSplit, number: int, row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    """Return a row's values in some columns.

    Raises:
        ValueError: A column is missing, or a value is not a text or is empty.
    """
    for column in columns:
        if column not in row:
            raise ValueError(
                f"{raw.location} has no column {column}; its columns are {', '.join(row)}. Add it, or name "
                "another in the task's file"
            )
        value = name_of(row[column])
        if not isinstance(value, str) or not value:
            raise ValueError(
                f"{raw.location}, row {number}, column {column}: {value!r} names no language or split. "
                "Correct the row"
            )
    return tuple(name_of(row[column]) for column in columns)


def _other_language(code: str, known: Sequence[str]) -> str:
    """Return how to go on without rows in a language, of which a task in one language needs no English."""
    if code == "en" and known:
        return f"or name a language of the file in data.tasks, such as TASK/{known[0]}"
    return "or take the language out of the task's languages"


def _check_rows(raw: RawSplit, code: str, language: str, wanted: Mapping[str, str]) -> None:
    """Check that a file has rows with the wanted values.

    Args:
        raw: The rows of the file.
        code: ISO 639-1 code of the language.
        language: Column of the language. Empty if there is none.
        wanted: Column to value.

    Raises:
        FileNotFoundError: There is no such row.
    """
    counts = _counts(raw, list(wanted))
    if counts[tuple(wanted.values())]:
        return
    found = [dict(zip(wanted, values, strict=True)) for values in counts]
    if language:
        known = sorted({values[language] for values in found})
        if not known:
            raise FileNotFoundError(f"{raw.location} has no row, in no language: add rows")
        if wanted[language] not in known:
            raise FileNotFoundError(
                f"{raw.location} has no row in {wanted[language]}, but in {', '.join(known)}."
                + (hint(code, known) or f" Add rows, {_other_language(code, known)}")
            )
        found = [values for values in found if values[language] == wanted[language]]
    (column,) = set(wanted) - {language}
    others = ", ".join(sorted({values[column] for values in found}))
    in_language = f" in {wanted[language]}" if language else ""
    raise FileNotFoundError(
        f"{raw.location} has no row{in_language} with {column} {wanted[column]}, but with {others or 'none'}"
        ". Add rows, or map the split's name by splits={...} in the task's file"
    )

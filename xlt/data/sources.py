"""Sources of rows: a repository of the Hugging Face hub, or a folder of a data root.

A data root holds `<org>/<name>/<config>/<split>.parquet` and takes precedence over the hub.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from xlt.data.class_names import classes_in, named
from xlt.data.datasets_private import fingerprint_of, revision_of
from xlt.data.parquet import ParquetRows, check_parquet, find_in_roots, first_line, unreadable
from xlt.system.file_errors import raise_of_file
from xlt.system.hashing import hash_file
from xlt.system.yaml_files import expand_home

Row = Mapping[str, Any]
"""Row of a data set: column name to value."""

Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")

ROWS_AT_A_TIME = 1000

_UNREACHABLE: set[str] = set()
"""Repositories that the hub did not give because there was no network. Each new attempt would take half a
minute."""


class Rows(Protocol):
    """Rows of a split, in order, such as `datasets` opens and as a source of your own may return."""

    def iter(self, batch_size: int) -> Iterator[Any]:
        """Yield the rows, `batch_size` at a time, as columns."""
        ...


@dataclass(frozen=True)
class RawSplit:
    """The rows of a file that belong to a split, not yet encoded.

    Args:
        name: Name of the rows: `<org>/<name>/<config>/<split>`.
        location: The file, or the hub's repository with its commit.
        revision: The hub's commit. None for a file.
        fingerprint: Text that differs if the rows differ.
        load: Function that opens the rows.
        keeps: Function that returns True for a row of the split. If None, all rows belong to the split.
        perturb: Function that changes an example before it is used. If None, examples stay as they are. The
            fingerprint must depend on the function.
        is_blind: True to leave out the images of the examples.
    """

    name: str
    location: str
    revision: str | None
    fingerprint: str
    load: Callable[[], Rows]
    keeps: Callable[[Row], bool] | None = None
    perturb: Callable[[Any], Any] | None = None
    is_blind: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all rows of the file in order. Classes that the schema names know their names.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is damaged.
        """
        for columns in self._chunks():
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))

    def _chunks(self) -> Iterator[dict[str, list[Any]]]:
        """Yield the rows as columns, ROWS_AT_A_TIME rows at a time."""
        try:
            rows = self.load()
            classes = classes_in(_features_of(rows)) or {}
            for chunk in rows.iter(batch_size=ROWS_AT_A_TIME):
                yield {name: named(values, classes.get(name)) for name, values in chunk.items()}
        except (pa.ArrowException, OSError, RuntimeError) as error:
            raise unreadable(self.location, error) from error


class Source(Protocol):
    """Source of a task's rows: Hub, Local, Multilingual, Texts, or a class of your own."""

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """Return the languages that are trained as tasks of their own.

        Defaults to none: training uses the original rows, or English, unless the user names a language.
        """
        return []

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of a split, in a language if one is named."""
        ...


@dataclass(frozen=True)
class Hub(Source):
    """Splits of a repository on the Hugging Face hub. A data root may hold a copy.

    Args:
        repository: `<org>/<name>`.
        config: The repository's configuration.
        train: Name or names of the training split.
        validation: Name or names of the dev split.
        test: Name or names of the test split.
        revision: Branch, tag or commit. If None, the newest commit. A copy in a data root has no revision.
        files: Path of the rows in a repository without configurations, such as `data/{split}.jsonl`.
    """

    repository: str
    config: str = "default"
    train: str | tuple[str, ...] = "train"
    validation: str | tuple[str, ...] = "validation"
    test: str | tuple[str, ...] = "test"
    revision: str | None = None
    files: str = ""

    def in_language(self, name: str) -> "Hub":
        """Return the repository with the name of a language in the place of `{language}`."""
        config = self.config.format(language=name)
        if "{language}" in self.files and config == self.config:
            config = name  # a copy in a data root needs a folder for each language
        splits: dict[str, Any] = {
            split: tuple(part.replace("{language}", name) for part in _names(self, split)) for split in SPLITS
        }
        return replace(self, config=config, files=self.files.replace("{language}", name), **splits)

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of a split, from the first root that holds the data set, else from the hub.

        Args:
            split: The split.
            roots: Data roots.
            language: Language of translated rows, which stand in `<root>/<language>`. Defaults to the
                original rows.

        Raises:
            FileNotFoundError: A root holds the data set without the split, or the hub cannot be reached.
            ValueError: A file is damaged.
        """
        return [self._open_one(name, roots, language) for name in _names(self, split)]

    def _open_one(self, split: str, roots: Sequence[Path], language: str) -> RawSplit:
        translated = [root / language for root in roots]
        path = find_in_roots(f"{self.repository}/{self.config}", split, translated)
        name = f"{self.repository}/{self.config}/{split}"
        if path is not None:
            return open_parquet(path, name)
        if language:
            where = ", ".join(map(str, roots)) or "data.root, which is not set"
            raise FileNotFoundError(
                f"{language}/{name}.parquet is not in {where}. Put the translated rows into the folder "
                f"{language} of a data root, with the same paths as the English rows"
            )
        try:
            if self.repository in _UNREACHABLE:
                raise ConnectionError(f"{self.repository} could not be reached before")
            files = {"data_files": {split: self.files.replace("{split}", split)}} if self.files else {}
            config = () if self.files else (self.config,)
            chosen = {**files, "split": split, "revision": self.revision}
            dataset = load_dataset(self.repository, *config, **chosen)
        except Exception as error:
            if isinstance(error, ConnectionError):
                _UNREACHABLE.add(self.repository)
            raise_of_file(name, error)
            tried = f"not under {', '.join(map(str, roots))}, and " if roots else ""
            raise FileNotFoundError(
                f"{name}: {tried}the hub did not give it ({first_line(error)}). Set data.root "
                f"(or XLT_DATA) to a folder that holds {name}.parquet, or run "
                "`xlt prepare --config ...` on a machine with a network and copy its HF_HOME here"
            ) from error
        revision = revision_of(dataset) or self.revision
        location = f"hub:{self.repository}" + (f"@{revision}" if revision else "")
        names = json.dumps(_features_of(dataset), sort_keys=True, default=str)
        fingerprint = f"{fingerprint_of(dataset)} {hashlib.sha256(names.encode()).hexdigest()[:16]}"
        return RawSplit(name, location, revision, fingerprint, lambda: dataset)


@dataclass(frozen=True)
class Local(Source):
    """Splits of a data set that only a data root can hold, such as one whose licence keeps it off the hub.

    Args:
        folder: The data set's folder in the data root.
        how_to_get: Text that tells a user how to get the data. It is shown when the data is missing.
        config: The folder's subfolder.
        train: Name or names of the training split.
        validation: Name or names of the dev split.
        test: Name or names of the test split.
    """

    folder: str
    how_to_get: str
    config: str = "default"
    train: str | tuple[str, ...] = "train"
    validation: str | tuple[str, ...] = "validation"
    test: str | tuple[str, ...] = "test"

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of a split from the first root that holds the data set.

        Args:
            split: The split.
            roots: Data roots.
            language: Language of translated rows, which stand in `<root>/<language>`. Defaults to the
                original rows.

        Raises:
            FileNotFoundError: No root holds the split.
            ValueError: A file is damaged.
        """
        raw_splits, roots = [], [root / language for root in roots]
        for name in _names(self, split):
            full_name = f"{self.folder}/{self.config}/{name}"
            path = find_in_roots(f"{self.folder}/{self.config}", name, roots)
            if path is None:
                where = ", ".join(map(str, roots)) or "data.root, which is not set"
                raise FileNotFoundError(f"{full_name}.parquet is not in {where}. {self.how_to_get}")
            raw_splits.append(open_parquet(path, full_name))
        return raw_splits


def roots_of(root: str | list[str] | None) -> list[Path]:
    """Return the data roots as paths.

    Args:
        root: The data root or roots. If None, the paths in XLT_DATA.

    Raises:
        FileNotFoundError: A data root does not exist.
    """
    given = os.environ.get("XLT_DATA", "").split(os.pathsep) if root is None else root
    paths = [Path(expand_home(path)) for path in ([given] if isinstance(given, str) else given) if path]
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(
                f"data root {path} is not a folder: set data.root (or XLT_DATA) to one that holds "
                "<org>/<name>/<config>/<split>.parquet, or leave it out to use the hub"
            )
    return paths


def _names(source: Hub | Local, split: Split) -> tuple[str, ...]:
    """Return the source's own names of a split."""
    names = {"train": source.train, "validation": source.validation, "test": source.test}[split]
    return (names,) if isinstance(names, str) else names


def open_parquet(path: Path, name: str) -> RawSplit:
    """Return the raw split of a parquet file.

    Args:
        path: The file.
        name: Name of the rows: `<org>/<name>/<config>/<split>`.

    Raises:
        FileNotFoundError: The file has no rows.
        OSError: The file cannot be read.
        ValueError: The file is truncated or damaged. Damage inside it shows when rows are read.
    """
    check_parquet(path)
    return RawSplit(name, str(path), None, hash_file(path), lambda: ParquetRows(path))


def _features_of(rows: Any) -> Any:
    """Return the schema of rows, as `datasets` writes it; None if they have no schema."""
    features: Any = getattr(rows, "features", None)
    return features.to_dict() if hasattr(features, "to_dict") else features


def load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
    """Call `datasets.load_dataset`, and leave images as the bytes of their files.

    The slow import waits until rows that are not encoded are read.
    """
    import datasets

    loaded: Any = datasets.load_dataset(path, *args, **kwargs)
    for name, feature in (getattr(loaded, "features", None) or {}).items():
        if isinstance(feature, datasets.Image):
            loaded = loaded.cast_column(name, datasets.Image(decode=False))
    return loaded

"""Where rows come from: a repository of the Hugging Face hub, or a mirror of it on disk.

A mirror (a data root) holds `<org>/<name>/<config>/<split>.parquet` and takes precedence. Both are
opened by `datasets` and read alike from there on.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from xlt.data.class_names import classes_in, named
from xlt.data.datasets_private import fingerprint_of
from xlt.system.file_errors import explained, file_error, raise_of_file

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]
"""One row of a data set: column name to value."""

Split = Literal["train", "validation", "test"]

_UNREACHABLE: set[str] = set()
"""Repositories that the hub did not give for want of a network: each further try would take half a minute."""


class Rows(Protocol):
    """The rows of a split, in order; `datasets` opens such, and so may a source of its own."""

    def iter(self, batch_size: int) -> Iterator[Any]:
        """So many rows at a time, as columns."""
        ...


@dataclass(frozen=True)
class RawSplit:
    """One split of one source: what identifies its rows, and how to read them."""

    name: str
    location: str
    revision: str | None
    fingerprint: str
    load: Callable[[], Rows]
    keeps: Callable[[Row], bool] | None = None
    """Whether a row belongs to the split; None where all do."""
    perturb: Callable[[Any], Any] | None = None
    """What an example becomes before it is used; None where it stays. The fingerprint tells of it."""

    def chunks(self, size: int) -> Iterator[dict[str, list[Any]]]:
        """The rows in order, `size` at a time, as columns; classes that the schema names know their names.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is damaged.
        """
        try:
            rows = self.load()
            classes = classes_in(_features_of(rows)) or {}
            for chunk in rows.iter(batch_size=size):
                yield {name: named(values, classes.get(name)) for name, values in chunk.items()}
        except (pa.ArrowException, OSError, RuntimeError) as error:
            raise _unreadable(self.location, error) from error


@dataclass(frozen=True)
class Hub:
    """Splits of a repository on the Hugging Face hub, or of its mirror.

    Args:
        repository: `<org>/<name>`.
        config: The repository's configuration.
        train: Names of the split or splits to train on.
        validation: Names of the split or splits to validate on.
        test: Names of the split or splits to test on.
        revision: Branch, tag or commit to pin; the newest where not given. A mirror has none.
    """

    repository: str
    config: str = "default"
    train: str | tuple[str, ...] = "train"
    validation: str | tuple[str, ...] = "validation"
    test: str | tuple[str, ...] = "test"
    revision: str | None = None

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """None: the rows are in one language, unless another is named."""
        return []

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """The split's parts, from the first root that holds the data set, else from the hub.

        Args:
            split: To train, to validate or to test on.
            roots: Data roots.
            language: Where given, the rows' translations, which stand in `<root>/<language>`.

        Raises:
            FileNotFoundError: A mirrored data set lacks the split, or nothing can be reached.
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
                f"{language}/{name}.parquet is not in {where}: "
                f"translated rows stand in the folder {language} of a data root, laid out as the English ones"
            )
        try:
            if self.repository in _UNREACHABLE:
                raise ConnectionError(f"{self.repository} could not be reached before")
            dataset = load_dataset(self.repository, self.config, split=split, revision=self.revision)
        except Exception as error:
            if isinstance(error, ConnectionError):
                _UNREACHABLE.add(self.repository)
            raise_of_file(name, error)
            tried = f"not under {', '.join(map(str, roots))}, and " if roots else ""
            raise FileNotFoundError(
                f"{name}: {tried}the hub did not give it ({_first_line(error)}). Set data.root "
                f"(or XLT_DATA) to a folder that holds {name}.parquet, or run "
                "`python -m xlt.prepare --config ...` where there is a network."
            ) from error
        revision = _revision_used(dataset) or self.revision
        location = f"hub:{self.repository}" + (f"@{revision}" if revision else "")
        names = json.dumps(_features_of(dataset), sort_keys=True, default=str)
        fingerprint = f"{fingerprint_of(dataset)} {hashlib.sha256(names.encode()).hexdigest()[:16]}"
        return RawSplit(name, location, revision, fingerprint, lambda: dataset)


@dataclass(frozen=True)
class Local:
    """Splits of a data set that only a data root can hold, because its licence keeps it off the hub.

    Args:
        folder: The data set's folder in the data root.
        how_to_get: Where a user obtains the data, shown when it is missing.
        config: The folder's subfolder.
        train: Names of the split or splits to train on.
        validation: Names of the split or splits to validate on.
        test: Names of the split or splits to test on.
    """

    folder: str
    how_to_get: str
    config: str = "default"
    train: str | tuple[str, ...] = "train"
    validation: str | tuple[str, ...] = "validation"
    test: str | tuple[str, ...] = "test"

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """None: the rows are in one language, unless another is named."""
        return []

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """The split's parts from the first root that holds the data set.

        Args:
            split: To train, to validate or to test on.
            roots: Data roots.
            language: Where given, the rows' translations, which stand in `<root>/<language>`.

        Raises:
            FileNotFoundError: No root holds it.
            ValueError: A file is damaged.
        """
        parts, roots = [], [root / language for root in roots]
        for name in _names(self, split):
            full_name = f"{self.folder}/{self.config}/{name}"
            path = find_in_roots(f"{self.folder}/{self.config}", name, roots)
            if path is None:
                where = ", ".join(map(str, roots)) or "data.root, which is not set"
                raise FileNotFoundError(f"{full_name}.parquet is not in {where}. {self.how_to_get}")
            parts.append(open_parquet(path, full_name))
        return parts


class Source(Protocol):
    """Where a task's rows come from: a Hub, a Local, the Texts of xlt.data.texts, or a class of your own."""

    def languages(self, roots: Sequence[Path]) -> list[str]:
        """Languages that the rows come in, each on its own; none where they do not."""
        ...

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """The parts of a split, in the language where one is named."""
        ...


def roots_of(root: str | list[str] | None) -> list[Path]:
    """The data roots as paths; those of XLT_DATA where none is given.

    Raises:
        FileNotFoundError: One does not exist.
    """
    given = os.environ.get("XLT_DATA", "").split(os.pathsep) if root is None else root
    paths = [Path(path) for path in ([given] if isinstance(given, str) else given) if path]
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(
                f"data root {path} is not a folder: set data.root (or XLT_DATA) to one that holds "
                "<org>/<name>/<config>/<split>.parquet, or leave it out to use the hub"
            )
    return paths


def _names(source: Hub | Local, split: Split) -> tuple[str, ...]:
    """The source's own names of the split."""
    names = {"train": source.train, "validation": source.validation, "test": source.test}[split]
    return (names,) if isinstance(names, str) else names


def find_in_roots(folder: str, split: str, roots: Sequence[Path]) -> Path | None:
    """The split's file in the first root that holds the data set, or None where no root does.

    Raises:
        FileNotFoundError: A root holds the data set without this split.
    """
    for root in roots:
        directory = root / folder
        if not directory.is_dir():
            continue
        path = directory / f"{split}.parquet"
        if path.is_file():
            return path
        present = ", ".join(sorted(p.stem for p in directory.glob("*.parquet"))) or "nothing"
        raise FileNotFoundError(
            f"{directory} holds {present}, but not {split}.parquet: add the split to the data root"
        )
    return None


def open_parquet(path: Path, name: str) -> RawSplit:
    """A mirror's split.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is truncated, damaged or empty; damage inside it shows in `chunks`.
    """
    try:
        num_rows = pq.ParquetFile(path).metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    if num_rows == 0:
        raise ValueError(f"{path} has no rows: an empty split cannot be used; fetch it again")
    return RawSplit(name, str(path), None, hash_file(path), lambda: ParquetRows(path))


class ParquetRows:
    """The rows of a parquet file, read from the file itself: no copy that could be stale or need a cache.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)

    @property
    def features(self) -> Mapping[str, Any]:
        """The schema that `datasets` wrote into the file; empty if another program made the file."""
        written = (self._file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        return json.loads(written).get("info", {}).get("features") or {}

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """The rows in order, so many at a time, as columns."""
        for batch in self._file.iter_batches(batch_size):
            yield batch.to_pydict()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows in order, one at a time, as `datasets` gives them."""
        for batch in self._file.iter_batches():
            yield from batch.to_pylist()


def _features_of(rows: Any) -> Any:
    """The schema of rows, as `datasets` writes it; None if they have none."""
    features: Any = getattr(rows, "features", None)
    return features.to_dict() if hasattr(features, "to_dict") else features


def load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
    """`datasets.load_dataset`, imported with the first rows: a start whose rows are encoded is spared it."""
    import datasets

    return datasets.load_dataset(path, *args, **kwargs)


def _unreadable(location: str | Path, error: Exception) -> Exception:
    """The error for a file that the system does not give, or that is damaged."""
    blamed = error if isinstance(error, OSError) and error.errno is not None else file_error(error)
    if blamed is not None:
        return OSError(f"{location} cannot be read: {explained(blamed)}")
    return ValueError(
        f"{location} is not a readable parquet file ({_first_line(error)}): it may be truncated; "
        "copy or download it again"
    )


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _revision_used(dataset: "Dataset") -> str | None:
    """The commit that `datasets` downloaded, which its record of checksums names."""
    for url in dataset.info.download_checksums or {}:
        found = re.search(r"@([0-9a-f]{40})/", str(url))
        if found:
            return found.group(1)
    return None


def _first_line(error: BaseException) -> str:
    """The error's type and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}".strip(": ")

"""Sources of rows with images: a file of a data root, or a repository of the hub.

<root>/xvnli.parquet             pairs in several languages: column `language`
<root>/xvnli_images.parquet      their images, joined by `image_id`
<root>/flickr/train.parquet      images with their captions
floschne/xvnli                   a repository whose splits are languages

An image is the bytes of an image file, a struct of `bytes` and `path`, or a path beside the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from xlt.data.files import Files
from xlt.data.image_rows import ImageRows, Join
from xlt.data.multilingual import ENGLISH
from xlt.data.parquet import unreadable
from xlt.data.sources import Hub, RawSplit, Row, Source, Split, open_parquet


@dataclass(frozen=True)
class RootFile(Source):
    """A parquet file of a data root, such as `xvnli.parquet`.

    Args:
        path: Path of the file in the root, without its suffix. `{split}` stands for the split: train,
            validation or test.
        language: Column of a row's language. If empty, all rows are returned for every language.
        only: The single split that the file holds. If None, the path names the split, or all splits read it.
    """

    path: str
    language: str = ""
    only: Split | None = None

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the rows in a language, from the first root that has the file.

        Raises:
            FileNotFoundError: No root has the file, or the file has no row of the split or in the language.
            ValueError: The file is damaged, or lacks the column of the language.
        """
        name = self.path.format(split=split)
        if self.only not in (None, split):
            raise FileNotFoundError(f"{name}.parquet has {self.only} rows only, no {split} rows")
        path = next((p for p in (root / f"{name}.parquet" for root in roots) if p.is_file()), None)
        if path is None:
            where = ", ".join(map(str, roots)) or "data.root, which is not set"
            raise FileNotFoundError(f"{name}.parquet is not in {where}")
        raw = open_parquet(path, name)
        if not self.language:
            return [raw]
        wanted = language or ENGLISH
        known = self._languages_in(path)
        if wanted not in known:
            raise FileNotFoundError(f"{path} has no row in {wanted}, but in {', '.join(known)}")
        fingerprint = f"{raw.fingerprint} {self.language} {wanted}"
        keeps = partial(self._keeps, wanted)
        return [replace(raw, name=f"{name} {wanted}", fingerprint=fingerprint, keeps=keeps)]

    def _languages_in(self, path: Path) -> list[str]:
        """Return the languages of a file's rows, sorted."""
        try:
            columns = pq.read_schema(path).names
            if self.language not in columns:
                raise ValueError(
                    f"{path} has no column {self.language} for the language of its rows; its columns are "
                    f"{', '.join(columns)}. Add the column, or name it in the task's file"
                )
            return sorted(
                map(str, pq.read_table(path, columns=[self.language])[self.language].unique().to_pylist())
            )
        except OSError as error:
            raise unreadable(path, error) from error

    def _keeps(self, language: str, row: Row) -> bool:
        """Return True if a row is in the language."""
        return row[self.language] == language


@dataclass(frozen=True)
class LanguageSplits(Source):
    """A repository of test rows whose splits are languages, or a copy of it in a data root.

    Args:
        hub: The repository.
    """

    hub: Hub

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the test rows of a language.

        Raises:
            FileNotFoundError: Other rows than test rows are asked for, or the language has none.
        """
        if split != "test":
            raise FileNotFoundError(f"{self.hub.repository} has test rows only, no {split} rows")
        return replace(self.hub, test=language or ENGLISH).open("test", roots)


@dataclass(frozen=True)
class Illustrated(Source):
    """Rows with images.

    Args:
        rows: The rows.
        columns: Columns of the images. If `images` is set, the name of the column that is added.
        images: Images that stand apart from the rows. If None, the rows hold their images.
        on: Column of the rows that holds the id of the image.
        image_id: Column of `images` that holds the id.
        image: Column of `images` that holds the image.
        texts: Language to the column of its texts. Each text, also of a list of texts, becomes a row with the
            text in the column `caption`. If empty, rows stay as they are.
        only: Languages of the rows. If empty, `rows` decides.
    """

    rows: Source
    columns: tuple[str, ...] = ("image",)
    images: Source | None = None
    on: str = "image_id"
    image_id: str = "image_id"
    image: str = "image"
    texts: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for a file of rows whose split nothing names: all splits would have its rows."""
        if isinstance(self.rows, RootFile) and self.rows.only is None and "{split}" not in self.rows.path:
            raise ValueError(
                f"path {self.rows.path!r}: nothing names the split of the rows. Put {{split}} into the path, "
                "or set only='test' for a file of test rows"
            )

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of a language. Their rows have an Image in each image column.

        Raises:
            FileNotFoundError: The rows, or their images, cannot be found.
            ValueError: A file is damaged.
        """
        wanted, known = language or ENGLISH, self.only or tuple(self.texts)
        if known and wanted not in known:
            raise FileNotFoundError(
                f"{place_of(self.rows)} has no rows in {wanted}, but in {', '.join(known)}"
            )
        raw_splits = self.rows.open(split, roots, "" if wanted == ENGLISH else language)
        join = self._join(split, roots, ", ".join(raw.location for raw in raw_splits))
        return [self._with_images(raw, join, self.texts.get(wanted, "")) for raw in raw_splits]

    def _join(self, split: Split, roots: Sequence[Path], where: str) -> Join | None:
        """Return the images that stand apart, if any.

        Raises:
            FileNotFoundError: The hub does not give the images.
            ValueError: The data root that has the rows lacks the file of the images.
        """
        if self.images is None:
            return None
        try:
            return Join(self.images.open(split, roots), self.on, self.image_id, self.image)
        except FileNotFoundError as error:
            if not isinstance(self.images, RootFile):
                raise
            raise ValueError(
                f"{where} needs its images, but {error}. Add this file to the data root"
            ) from error

    def _with_images(self, raw: RawSplit, join: Join | None, text: str) -> RawSplit:
        """Return a raw split whose rows have images, and a row for each text."""
        apart = [[image.fingerprint for image in join.images], *join[1:]] if join else []
        return replace(
            raw,
            name=f"{raw.name} {text}".rstrip(),
            fingerprint=f"{raw.fingerprint} {self.columns} {apart} {text}",
            load=partial(ImageRows, raw, self.columns, join, text),
        )


@dataclass(frozen=True)
class FirstOf(Source):
    """The first of several sources that has the rows.

    Args:
        sources: The sources.
    """

    sources: tuple[Source, ...]

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of the first source that has the rows.

        Raises:
            FileNotFoundError: No source has the rows.
            ValueError: A file is damaged.
        """
        reasons = []
        for source in self.sources:
            try:
                return source.open(split, roots, language)
            except FileNotFoundError as error:
                reasons.append(str(error))
        raise FileNotFoundError("; ".join(reasons))


@dataclass(frozen=True)
class BySplit(Source):
    """A source for each split. The dev rows are English in every language, as IGLUE chooses checkpoints.

    Args:
        train: Source of the training rows.
        validation: Source of the dev rows.
        test: Source of the test rows. If None, the task has no test rows of its own.

    Source: Bugliarello et al. (2022), https://arxiv.org/abs/2201.11732.
    """

    train: Source
    validation: Source
    test: Source | None = None

    def open(self, split: Split, roots: Sequence[Path], language: str = "") -> list[RawSplit]:
        """Return the raw splits of a split.

        Raises:
            FileNotFoundError: The rows cannot be found.
            ValueError: A file is damaged.
        """
        source = {"train": self.train, "validation": self.validation, "test": self.test}[split]
        if source is None:
            raise FileNotFoundError(f"{place_of(self.train)} has no test rows")
        return source.open(split, roots, "" if split == "validation" else language)


def place_of(source: Any) -> str:
    """Return the repositories and the files of a data root that a source reads, for messages and lists."""
    if isinstance(source, RootFile):
        return f"data root: {source.path}.parquet"
    if isinstance(source, FirstOf):
        return ", or ".join(map(place_of, source.sources))
    if isinstance(source, BySplit):
        found = map(place_of, filter(None, (source.train, source.validation, source.test)))
        return "; ".join(dict.fromkeys(found))
    if isinstance(source, Hub):
        return f"{source.repository} {source.files or source.config}"
    if isinstance(source, Files):
        return f"files: {source.path}"
    if getattr(source, "english", None) is not None:
        return f"{place_of(source.hub)}; {place_of(source.english)}"
    inside = getattr(source, "rows", None) or getattr(source, "hub", None)
    if inside is not None:
        return place_of(inside)
    folder = getattr(source, "folder", "")
    return f"data root: {folder}" if folder else type(source).__name__

"""Rows with images, as a source opens them: images are named by their keys, and read when they are needed.

A pass over the rows reads the content of each image once, to compute its key, and keeps none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from xlt.data.images import Image, image_of, key_of
from xlt.data.parquet import ParquetColumn, ParquetRows
from xlt.data.sources import RawSplit, Rows
from xlt.system.checks import at_once

ROWS_WITH_IMAGES = 64
"""Number of rows with images that memory holds at a time."""

CAPTION = "caption"
"""Column of the text of a row that is made for each text of an image."""


class BadImage(ValueError):
    """Raised when a value is not an image. Reading continues, so that one error names all such values."""


class Join(NamedTuple):
    """Images that stand apart from the rows.

    Args:
        images: Rows of the images.
        on: Column of the rows that holds the id of the image.
        image_id: Column of `images` that holds the id.
        image: Column of `images` that holds the image.
    """

    images: Sequence[RawSplit]
    on: str
    image_id: str
    image: str


class ImageRows:
    """The rows of a raw split, with an Image in each image column.

    Args:
        raw: The raw split.
        columns: Columns of images. With a join, a single column, which is added.
        join: Images that stand apart. If None, the rows hold their images.
        text: Column of a text or a list of texts. The rows have a row for each text, in the column `caption`.
            Defaults to rows as they are.
    """

    def __init__(
        self, raw: RawSplit, columns: Sequence[str], join: Join | None = None, text: str = ""
    ) -> None:
        self._raw, self._columns, self._join, self._text = raw, columns, join, text
        self._rows: Any = raw.load()
        self.features: Any = getattr(self._rows, "features", None)
        """The schema of the rows."""
        self._cells = {column: _cells(self._rows, column) for column in (() if join else columns)}

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the rows in order as columns, at most `batch_size` rows of the file at a time.

        Raises:
            ValueError: An image column is missing, or values are no images. The message names all of them,
                or the first and their number.
        """
        first, bad = 0, []
        for part in self._rows.iter(batch_size=min(batch_size, ROWS_WITH_IMAGES)):
            chunk = dict(part)
            size = len(next(iter(chunk.values())))
            images = self._joined(chunk, first, bad) if self._join else self._own(chunk, first, bad)
            if not bad:
                chunk |= images
                yield self._by_text(chunk) if self._text else chunk
            first += size
        if bad:
            raise ValueError(at_once(f"images of {self._raw.location} cannot be used", bad))

    def _own(self, chunk: Mapping[str, list[Any]], first: int, bad: list[str]) -> dict[str, list[Image]]:
        """Return the images of the rows' own columns, and add an error to `bad` for each that is none."""
        found: dict[str, list[Image]] = {}
        for column in self._columns:
            values, cells = _column(self._raw, chunk, column), self._cells[column]
            images = found[column] = []
            for i, value in enumerate(values):
                try:
                    images.append(_image(self._raw, first + i, column, value, cells))
                except BadImage as error:
                    bad.append(str(error))
        return found

    def _joined(self, chunk: Mapping[str, list[Any]], first: int, bad: list[str]) -> dict[str, list[Image]]:
        """Return the images that stand apart, and add an error to `bad` for each that is missing."""
        assert self._join is not None
        known = _index(self._join)
        ids = _column(self._raw, chunk, self._join.on)
        places = ", ".join(raw.location for raw in self._join.images)
        bad += [
            f"{self._raw.location}, row {first + i}: {self._join.on} {name!r} is not in the column "
            f"{self._join.image_id} of {places}. Add the image, or take the row out"
            for i, name in enumerate(ids)
            if str(name) not in known
        ]
        return {self._columns[0]: [known[str(name)] for name in ids if str(name) in known]}

    def _by_text(self, chunk: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """Return a row for each text. A row without a text keeps an empty one."""
        texts = [
            (value if isinstance(value, list) else [value]) or [""]
            for value in _column(self._raw, chunk, self._text)
        ]
        repeated = {
            name: [value for value, own in zip(values, texts, strict=True) for _ in own]
            for name, values in chunk.items()
        }
        return repeated | {CAPTION: [text or "" for own in texts for text in own]}


def _column(raw: RawSplit, chunk: Mapping[str, list[Any]], column: str) -> list[Any]:
    """Return a column.

    Raises:
        ValueError: There is no such column.
    """
    if column not in chunk:
        raise ValueError(
            f"{raw.location} has no column {column}; its columns are {', '.join(chunk)}. Rename the column "
            "in the data, or name another in the task's file"
        )
    return chunk[column]


def _image(raw: RawSplit, row: int, column: str, value: Any, cells: Any) -> Image:
    """Return the image of a row. Its content is read again from its cell when it is needed.

    Raises:
        BadImage: The value is no image, or its file does not exist.
        ValueError: The value is an address of the web.
    """
    inside = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
    if isinstance(inside, bytes) and inside and cells is not None:
        return Image(key_of(inside), partial(_content, cells, row), row)
    try:
        return image_of(inside, Path(raw.location).parent)
    except (TypeError, OSError) as error:
        raise BadImage(
            f"{raw.location}, row {row}, column {column}: {error}. Put the image there, or take the row out"
        ) from error
    except ValueError as error:
        raise ValueError(f"{raw.location}, row {row}, column {column}: {error}") from error


def _cells(rows: Rows, column: str) -> Any:
    """Return a column's values by row number; None if the rows can only be read in order."""
    if isinstance(rows, ParquetRows):
        return ParquetColumn(rows.path, column)
    select: Callable[[str], Any] | None = getattr(rows, "select_columns", None)
    is_there = column in (getattr(rows, "column_names", None) or ())
    return _Cells(select(column), column) if select and is_there else None


class _Cells(NamedTuple):
    """A column of rows that `datasets` opened, by row number."""

    rows: Any
    column: str

    def __getitem__(self, row: int) -> Any:  # type: ignore[override]
        """Return the value of a row."""
        return self.rows[row][self.column]


def _content(cells: Any, row: int) -> bytes:
    """Return the content of the image file in a cell."""
    value = cells[row]
    return value["bytes"] if isinstance(value, dict) else value


_INDICES: dict[tuple[str, ...], dict[str, Image]] = {}
"""Images by id, of images that stand apart, by their fingerprints and columns."""


def _index(join: Join) -> dict[str, Image]:
    """Return the images that stand apart, by id. The first pass over them computes their keys.

    Raises:
        ValueError: A column is missing, or a value is no image.
    """
    name = (*(raw.fingerprint for raw in join.images), *(raw.location for raw in join.images), *join[2:])
    if name not in _INDICES:
        found: dict[str, Image] = {}
        for raw in join.images:
            for chunk in ImageRows(raw, [join.image]).iter(ROWS_WITH_IMAGES):
                ids = _column(raw, chunk, join.image_id)
                for image_id, image in zip(ids, chunk[join.image], strict=True):
                    found.setdefault(str(image_id), image)
        _INDICES[name] = found
    return _INDICES[name]

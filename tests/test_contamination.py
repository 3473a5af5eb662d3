"""No text that is evaluated on is in the text that the small encoder was trained on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY

from xlt import tasks
from xlt.data.texts import Texts

SENTENCES = 400
"""Of each evaluation file, so many at most."""
LONG_ENOUGH = 20
"""Letters; shorter ones are greetings and names that occur anywhere."""


def plain(text: str) -> str:
    """The text without case, punctuation and space."""
    return re.sub(r"[\W_]+", "", text.casefold())


@pytest.fixture(scope="module")
def trained_on() -> set[str]:
    """Every text of the files, those of origins that the tasks leave out excepted."""
    root = REPOSITORY.parent / "shared" / "text"
    if not root.is_dir():
        pytest.skip("../shared/text is absent")
    found: set[str] = set()
    for name in ("mlm", "tlm"):
        (source,) = tasks.load(name).sources
        assert isinstance(source, Texts)
        for path in (root / source.folder).glob("*.parquet"):
            table = pq.read_table(path)
            used = table.filter(pc.invert(pc.is_in(table["origin"], pa.array(source.without))))
            for column in source.columns:
                found.update(map(plain, used[column].to_pylist()))
    return found


def evaluated(path: Path) -> Iterator[str]:
    """Sentences, questions and passages' sentences of an evaluation file."""
    for row in pq.read_table(path).slice(0, SENTENCES).to_pylist():
        for name, value in row.items():
            if name in ("tokens",):
                yield " ".join(value)
            elif name == "context":
                yield from re.split(r"(?<=[.!?。।؟])\s*", value)
            elif isinstance(value, str) and name not in ("id", "title", "language", "label", "gold_label"):
                yield value


def files(mirror: Path) -> list[Path]:
    """Every file of XTREME that is evaluated on."""
    folder = mirror / "google" / "xtreme"
    return sorted(p for p in folder.glob("*/*.parquet") if p.stem in ("validation", "test"))


@pytest.mark.slow
def test_no_evaluated_sentence_is_trained_on(trained_on: set[str], mirror: Path):
    assert len(trained_on) > 10**6
    checked, found = 0, []
    for path in files(mirror):
        for text in evaluated(path):
            if len(plain(text)) >= LONG_ENOUGH:
                checked += 1
                if plain(text) in trained_on:
                    found.append((str(path.relative_to(mirror)), text))
    assert checked > 20_000
    assert found == []

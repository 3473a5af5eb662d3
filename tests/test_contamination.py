"""No text that is evaluated on is in the text that the small encoder was trained on."""

import random
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
PARAGRAPH = 150
"""Characters; longer texts are compared sentence by sentence as well."""
SENTENCE_END = re.compile(r"(?<=[.!?。।؟])\s*")


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
                for text in used[column].to_pylist():
                    found.add(plain(text))
                    # A paragraph may hold a sentence that is evaluated on.
                    if len(text) > PARAGRAPH:
                        found.update(map(plain, SENTENCE_END.split(text)))
    return found


def evaluated(path: Path) -> Iterator[str]:
    """Sentences, questions and passages' sentences of an evaluation file."""
    table = pq.read_table(path)
    drawn = random.Random(0).sample(range(table.num_rows), min(SENTENCES, table.num_rows))
    for row in table.take(drawn).to_pylist():
        for name, value in row.items():
            if name in ("tokens",):
                yield " ".join(value)
            elif name == "context":
                yield from SENTENCE_END.split(value)
            elif isinstance(value, str) and name not in ("id", "title", "language", "label", "gold_label"):
                yield value


def files(mirror: Path) -> list[Path]:
    """Every file of XTREME that is evaluated on, and those of tasks that encoders are measured by."""
    found = [
        p for p in (mirror / "google" / "xtreme").glob("*/*.parquet") if p.stem in ("validation", "test")
    ]
    measured = [*mirror.glob("nyu-mll/glue/mnli/validation*"), *mirror.glob("tau/*/*/validation*")]
    return sorted([*found, *measured])


def mined(mirror: Path) -> Iterator[str]:
    """A sample of BUCC's sentences."""
    for path in sorted((mirror / "bucc2018").glob("*.dev.??")):
        lines = path.read_text().splitlines()
        yield from (line.split("\t", 1)[1] for line in random.Random(0).sample(lines, 4 * SENTENCES))


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
    for text in mined(mirror):
        if len(plain(text)) >= LONG_ENOUGH:
            checked += 1
            if plain(text) in trained_on:
                found.append(("bucc2018", text))
    assert checked > 20_000
    assert found == []

"""`python -m xlt.prepare` fills the cache, from which a node without a network trains."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Command, run

from xlt.data import sources
from xlt.prepare import prepare

COLUMNS = {"train": ["NP", "VP", "NP", "NP"], "validation": ["VP", "NP"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with four sentences to train on and two to validate on."""
    folder = tmp_path / "root" / "ccg" / "default"
    folder.mkdir(parents=True)
    for split, tags in COLUMNS.items():
        rows = {"tokens": [["word", "word"] for _ in tags], "tags": [[tag, tag] for tag in tags]}
        pq.write_table(pa.table(rows), folder / f"{split}.parquet")
    return tmp_path / "root"


@pytest.fixture
def args(tiny_run: Command, root: Path, tmp_path: Path) -> list[str]:
    """The command's arguments."""
    changes = {
        "data.tasks": "[ccg]",
        "data.root": root,
        "data.cache": tmp_path / "cache",
        "data.validation_volume": None,
        "trainer.max_steps": 1,
        "trainer.val_check_interval": 1,
        "trainer.log_every_n_steps": 1,
    }
    return tiny_run(tmp_path / "run", changes)


def no_reading(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("rows are read again")


def test_prepare_lists_what_the_cache_holds(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(args, prepare) == 0
    table = capsys.readouterr().out
    assert re.search(r"^task +split +examples +rows +tokens", table, re.MULTILINE)
    # A sentence is <s>, at least one piece for each of its two words, and </s>.
    for split, rows in (("train", 4), ("validation", 2)):
        found = re.search(rf"^ccg +{split} +(\d+) +(\d+) +(\d+)", table, re.MULTILINE)
        assert found
        assert (int(found[1]), int(found[2])) == (rows, rows)
        assert int(found[3]) >= 4 * rows
    assert "parameters" in table
    assert {path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache").iterdir()} == {
        "ccg-train",
        "ccg-validation",
    }


def test_prepare_touches_no_run_folder(args: list[str], tmp_path: Path):
    assert run(args, prepare) == 0
    assert not (tmp_path / "run").exists()


def test_prepare_reads_nothing_a_second_time(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(args, prepare) == 0
    first = capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    monkeypatch.setattr(sources, "load_dataset", no_reading)
    assert run(args, prepare) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


def test_what_was_prepared_trains_without_reading(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert run(args, prepare) == 0
    monkeypatch.setattr(sources, "load_dataset", no_reading)
    assert run(args) == 0
    assert (tmp_path / "run" / "results.json").is_file()


def test_other_rows_or_limits_are_encoded_anew(args: list[str], root: Path, tmp_path: Path):
    assert run(args, prepare) == 0
    assert run([*args, "--data.max_length=64"], prepare) == 0
    assert len(list((tmp_path / "cache").iterdir())) == 4
    rows = {"tokens": [["other"]], "tags": [["NP"]]}
    pq.write_table(pa.table(rows), root / "ccg" / "default" / "validation.parquet")
    assert run(args, prepare) == 0
    assert len(list((tmp_path / "cache").iterdir())) == 5

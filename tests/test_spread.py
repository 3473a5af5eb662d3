"""Encoding on several processes: the same columns in the same order as on one."""

from pathlib import Path

import pytest

from xlt import tasks
from xlt.data import spread
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.store import Stored, store

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")


def encode(samples: list[str], folder: Path) -> Stored:
    """SQuAD's sample rows, whose examples make several rows each."""
    task = tasks.load("squad_v1")
    parts = [part for source in task.sources for part in source.open("train", list(map(Path, samples)))]
    return store(task, parts, TextEncoder(load_tokenizer(MINI), 128, 32), folder)


def test_processes_give_what_one_gives(
    samples: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.data.store.CHUNK", 150)
    alone = encode(samples, tmp_path / "alone")
    assert alone.meta.examples > 4 * 150
    monkeypatch.setattr(spread, "ALONE", 1)
    monkeypatch.setattr(spread, "num_cores", lambda: 2)
    spread_out = encode(samples, tmp_path / "spread")
    assert spread_out.meta == alone.meta
    assert spread_out.references() == alone.references()


def test_few_chunks_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "ProcessPoolExecutor", None)
    task, text = tasks.load("mnli"), TextEncoder(load_tokenizer(MINI), 32, 8)
    assert list(spread.spread(task, text, iter([]))) == []
    with pytest.raises(TypeError, match="NoneType"):
        list(spread.spread(task, text, iter([[]] * (spread.ALONE + 1))))
    assert len(list(spread.spread(task, text, iter([[]] * spread.ALONE)))) == spread.ALONE

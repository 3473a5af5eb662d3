"""Encoding on several processes: the same columns in the same order as on one."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.features import Columns
from xlt.splits import encode_workers
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.encoding import encode_split

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")


def encode(samples: list[str], folder: Path, pool: encode_workers.Pool | None = None) -> list[EncodedSplit]:
    """The sample rows of SQuAD, whose examples make several rows each, and of MNLI."""
    roots, text = list(map(Path, samples)), TextEncoder(load_tokenizer(MINI), 128, 32)
    found = []
    for name in ("squad_v1", "mnli"):
        task = tasks.load(name)
        parts = [part for source in task.sources for part in source.open("train", roots)]
        found.append(encode_split(task, parts, text, folder / name, pool))
    return found


def test_processes_give_what_one_gives_and_serve_several_splits(
    samples: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlt.splits.encoding.CHUNK", 150)
    alone = encode(samples, tmp_path / "alone")
    assert all(stored.meta.examples > 4 * 150 for stored in alone)
    monkeypatch.setattr(encode_workers, "ALONE", 1)
    monkeypatch.setattr(encode_workers, "num_cores", lambda: 2)
    started = []

    class Counted(ProcessPoolExecutor):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            started.append(self)

    monkeypatch.setattr(encode_workers, "ProcessPoolExecutor", Counted)
    with encode_workers.Pool(TextEncoder(load_tokenizer(MINI), 128, 32)) as pool:
        spread_out = encode(samples, tmp_path / "spread", pool)
    assert len(started) == 1
    assert not active_children()
    for ours, theirs in zip(spread_out, alone, strict=True):
        assert ours.meta == theirs.meta
        assert ours.references() == theirs.references()


def test_a_large_split_alone_has_its_own_processes_for_as_long_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encode_workers, "ALONE", 0)
    monkeypatch.setattr(encode_workers, "num_cores", lambda: 1)
    found = encode_workers.encode_chunks(Short(), TextEncoder(load_tokenizer(MINI), 32, 8), [["a b"], ["c"]])
    assert [columns for _, columns, _ in found] == [{"input_ids": [[0, 32]]}, {"input_ids": [[1, 32]]}]
    assert not active_children()


def test_few_chunks_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_workers, "ProcessPoolExecutor", None)
    task, text = tasks.load("mnli"), TextEncoder(load_tokenizer(MINI), 32, 8)
    assert list(encode_workers.encode_chunks(task, text, iter([]))) == []
    with pytest.raises(TypeError, match="NoneType"):
        list(encode_workers.encode_chunks(task, text, iter([[]] * (encode_workers.ALONE + 1))))
    assert (
        len(list(encode_workers.encode_chunks(task, text, iter([[]] * encode_workers.ALONE))))
        == encode_workers.ALONE
    )


class Short:
    """A task that tells what it is given."""

    name = "mylab.short"

    def encode(self, examples: list[str], first: int, text: TextEncoder) -> tuple[Columns, int]:
        return {"input_ids": [[first, text.max_length]]}, 0


ORPHANS = """
import time
from xlt.splits import encode_workers

class Slow:
    def encode(self, examples, first, text):
        print("busy", flush=True)
        time.sleep(600)

if __name__ == "__main__":
    encode_workers.num_cores = lambda: 2
    list(encode_workers.Pool(None).encoded(Slow(), [[1]] * 4, 0))
"""


class Unsendable:
    """A task with a function that no other process could find."""

    name = "mylab.toy"

    def __init__(self) -> None:
        self.read = lambda row: row

    def encode(self, examples: list[int], first: int, text: TextEncoder) -> tuple[Columns, int]:
        return {"input_ids": [[first]]}, len(examples)


def test_a_task_that_cannot_be_sent_to_a_process_is_encoded_here_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encode_workers, "ALONE", 1)
    text = TextEncoder(load_tokenizer(MINI), 32, 8)
    found = list(encode_workers.encode_chunks(Unsendable(), text, [[1, 2], [3], [4, 5]]))
    assert found == [
        ([1, 2], {"input_ids": [[0]]}, 2),
        ([3], {"input_ids": [[2]]}, 1),
        ([4, 5], {"input_ids": [[3]]}, 2),
    ]
    assert "mylab.toy is encoded on one core, because " in caplog.text


def test_without_semaphores_one_core_encodes_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(encode_workers, "ALONE", 1)
    monkeypatch.setattr(encode_workers, "why_no_workers", lambda _: "/dev/shm cannot be used")
    chunks = [[1, 2], [3]]
    found = list(encode_workers.encode_chunks(Sendable(), TextEncoder(load_tokenizer(MINI), 32, 8), chunks))
    assert [chunk for chunk, *_ in found] == chunks
    assert "sendable is encoded on one core, because /dev/shm cannot be used" in caplog.text


class Sendable:
    """A task that other processes can find."""

    name = "sendable"

    def encode(self, examples: list[int], first: int, text: TextEncoder) -> tuple[Columns, int]:
        return {"input_ids": [[first]]}, len(examples)


def test_an_encoder_that_is_killed_is_told_in_words() -> None:
    future: Future[tuple[Columns, int]] = Future()
    future.set_exception(BrokenProcessPool("a child died"))
    with pytest.raises(OSError, match="a process that encodes rows was killed"):
        encode_workers._result(future)


def test_ctrl_c_is_held_back_while_encoders_start() -> None:
    with encode_workers._interrupts_held():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_processes_end_with_the_one_that_is_killed(tmp_path: Path):
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, env=own) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"busy")
        parent.kill()
        parent.wait()
        # The pipe closes when the last process that could write to it is gone; else this waits for ever.
        assert b"Traceback" not in parent.stdout.read()

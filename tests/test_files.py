"""An atomic write leaves the old content or all of the new content, and nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from xlt.system import files
from xlt.system.files import write_atomically


@pytest.mark.parametrize(("content", "expected"), [("größer\n", "größer\n".encode()), (b"\0\xff", b"\0\xff")])
def test_a_file_is_created_and_replaced(tmp_path: Path, content: str | bytes, expected: bytes):
    path = tmp_path / "file"
    for _ in range(2):
        write_atomically(path, content)
        assert path.read_bytes() == expected
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["sync", "publish"])
def test_a_write_that_fails_leaves_the_old_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(files, name, fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_the_file_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, synced = tmp_path / "file", []
    whole = os.fsync

    def fsync(handle: int) -> None:
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), path.exists()))
        whole(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, "new")
    assert synced == [(files.scratch_path(path), False), (tmp_path, True)]

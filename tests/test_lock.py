"""Locks on folders: held by one process at a time, freed by a death, and no obstacle where there are none."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from xlt.system.lock import UNFINISHED, locked, scratch_folder

HOLDER = """
import os, sys
from pathlib import Path
from xlt.system.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        sys.stdin.read()  # a worker that outlives its parent
        os._exit(0)
    print(child, flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_frees_the_lock_although_its_worker_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER, str(path)], cwd=REPOSITORY, text=True, **pipes
    ) as holder:
        assert holder.stdout is not None
        assert int(holder.stdout.readline())
        message = rf"at work in .*\(process {holder.pid} on .*set folder to"
        with pytest.raises(ValueError, match=message), locked(path, 0.3, "folder"):
            pass
        assert f"{tmp_path} is in use by process {holder.pid} on " in caplog.text
        holder.kill()
        holder.wait()
        with locked(path, 0.3):
            assert path.read_text().startswith("process ")


def test_a_lock_is_taken_again_after_an_error(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="inside"), locked(tmp_path / "lock", 0.3):
            raise RuntimeError("inside")


def test_a_file_system_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def flock(_: int, __: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").is_file()
    assert "cannot be locked" in caplog.text


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path):
    with pytest.raises(IsADirectoryError), locked(tmp_path, 0.3):
        pass


def test_what_killed_processes_left_unfinished_is_deleted_and_nothing_else(tmp_path: Path):
    left, other = tmp_path / f"{UNFINISHED}left", tmp_path / "model"
    for folder in (left, other):
        folder.mkdir()
        (folder / "weights").write_bytes(b"1")
    with scratch_folder(tmp_path) as living:
        (living / "weights").write_bytes(b"2")
        with scratch_folder(tmp_path) as second:
            assert set(tmp_path.iterdir()) == {living, second, other}
        assert (living / "weights").read_bytes() == b"2"
    assert [*tmp_path.iterdir()] == [other]

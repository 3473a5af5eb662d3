"""Processes that make batches: without shared memory, without semaphores, and killed in the middle."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, Command, run
from test_bad_input import the_message
from test_fit import SHORT, assert_same_weights, events, timeless, weights

from xlt.batch.batch import Batch
from xlt.batch.packing import pack
from xlt.data.sampling.workers import Parcel, why_no_workers
from xlt.module import TransferModule


def test_a_parcel_is_the_batch_again_and_needs_no_shared_memory():
    long = torch.arange(100_000)
    batch = Batch("mnli", long, long[None], long[None], pack([3, 1, 2]), {"labels": long}, 3, 7)
    packed = pickle.dumps(Parcel([batch]))
    (found,) = pickle.loads(packed)
    assert isinstance(found, Batch)
    assert type(found.packing) is type(batch.packing)
    assert found.packing.blocks == batch.packing.blocks
    assert (found.task, found.step_weight, found.seed) == ("mnli", 3, 7)
    for ours, theirs in zip(
        [*found[1:4], *found.packing[:4]], [*batch[1:4], *batch.packing[:4]], strict=True
    ):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.fixture(scope="module")
def calm(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("size=64k", ""),
        ("size=16k", "(No space left on device): batches are made in the training process"),
        ("ro,size=4k", "(Read-only file system): batches are made in the training process"),
    ],
)
def test_a_full_or_read_only_shared_memory_changes_no_number(
    tiny_run: Command, calm: Path, tmp_path: Path, options: str, said: str
):
    args = tiny_run(tmp_path / "run", {**SHORT, "data.num_workers": 1})
    mount = f'mount -t tmpfs -o {options} xlt-test /dev/shm || exit 99; exec "$@"'
    command = ["unshare", "-m", "bash", "-c", mount, "bash", sys.executable, "-m", "xlt.fit", *args]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=250, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip("may not mount a disk")
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert ("data.num_workers is 1, but /dev/shm" in done.stderr) is bool(said)
    assert timeless(events(tmp_path / "run")) == timeless(events(calm))
    assert_same_weights(weights(tmp_path / "run"), weights(calm))


def test_a_system_without_semaphores_is_named(monkeypatch: pytest.MonkeyPatch):
    assert why_no_workers(2) == ""

    def refuse() -> None:
        raise ImportError("This platform lacks a functioning sem_open implementation")

    monkeypatch.setattr(multiprocessing.get_context(), "Queue", refuse)
    assert why_no_workers(2).startswith("/dev/shm, which holds the semaphores of processes, cannot be used (")


def test_a_process_that_is_killed_ends_the_run_which_goes_on(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    changes = {**SHORT, "trainer.max_steps": 8, "checkpoints.every_n_steps": 2}
    folder = tmp_path / "run"
    whole = TransferModule._loss

    def loss(module: TransferModule, batch: Batch) -> torch.Tensor:
        if module.global_step == 4:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
            time.sleep(60)  # which the signal of the child's death ends with the loader's error
        return whole(module, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferModule, "_loss", loss)
        assert run(tiny_run(folder, {**changes, "data.num_workers": 1})) == 2
    message = the_message(capsys.readouterr().err)
    assert "a data worker was killed (DataLoader worker" in message
    assert "data.num_workers to 0" in message
    assert run(tiny_run(folder, changes)) == 0
    assert run(tiny_run(tmp_path / "calm", changes)) == 0
    assert timeless(events(folder)) == timeless(events(tmp_path / "calm"))

"""Full disks, read-only folders, damaged and hostile files: no checkpoint is lost, no code is run."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import REPOSITORY, Command, Disk, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bad_input import the_message
from test_fit import assert_same_weights, events, steps, timeless, weights

from xlt.module import TransferModule
from xlt.system import lock
from xlt.training.checkpoint_files import VerifiedCheckpointIO, fault_of, newest

SHORT = {
    "data.tasks": "[mnli, ccg]",
    "trainer.max_steps": 8,
    "trainer.val_check_interval": 4,
    "trainer.log_every_n_steps": 1,
    "checkpoints.every_n_steps": 2,
}
"""Checkpoints after steps 2, 4, 6 and 8, of 6.8 MB each."""


@pytest.fixture(scope="module")
def calm(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the undisturbed run."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    return folder


def assert_same(folder: Path, other: Path) -> None:
    """The two records are one, event for event, and the weights are the same bits."""
    assert timeless(events(folder)) == timeless(events(other))
    assert_same_weights(weights(folder), weights(other))


def saved(folder: Path) -> dict[str, str]:
    """What is wrong with each checkpoint."""
    return {path.name: fault_of(path) for path in sorted((folder / "checkpoints").glob("*.ckpt"))}


# Disks


def test_a_full_disk_stops_the_run_with_one_message_and_loses_nothing(
    disk: Disk, tiny_run: Command, calm: Path, capsys: pytest.CaptureFixture[str]
):
    folder = disk.folder / "run"
    # Two checkpoints of 3.2 MB fit the disk, a third does not; the best is kept besides the newest two.
    assert disk.mount("remount,size=9m")
    assert run(tiny_run(folder, SHORT)) == 2
    message = the_message(capsys.readouterr().err)
    assert re.search(
        r"checkpoint .*step-00000000\d.ckpt cannot be written \(No space left on device\)", message
    )
    assert "free some disk space" in message
    assert len(saved(folder)) == 2
    assert not any(saved(folder).values())
    assert not list(folder.rglob(".*"))
    assert disk.mount("remount,size=64m")
    assert run(tiny_run(folder, SHORT)) == 0
    assert_same(folder, calm)


def test_a_full_disk_before_training_is_told_before_training(
    disk: Disk, tiny_run: Command, capsys: pytest.CaptureFixture[str]
):
    command = ["dd", "if=/dev/zero", f"of={disk.folder / 'ballast'}", "bs=4k"]
    assert b"No space left" in subprocess.run(command, capture_output=True, check=False).stderr
    assert run(tiny_run(disk.folder / "run", SHORT)) == 2
    assert "cannot be written (No space left on device)" in the_message(capsys.readouterr().err)


def freeze(folder: Path) -> None:
    """Make a folder read-only, as a file system does that has found an error."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def test_a_folder_that_turns_read_only_stops_the_run_and_it_goes_on_when_it_can_be_written(
    disk: Disk,
    tiny_run: Command,
    calm: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    assert disk.mount("remount,size=64m")
    folder = disk.folder / "run"
    whole, frozen = TransferModule._loss, []

    def loss(module: TransferModule, batch: Any) -> torch.Tensor:
        if module.global_step == 5 and not frozen:
            frozen.append(folder / "checkpoints")
            freeze(*frozen)
        return whole(module, batch)

    with monkeypatch.context() as patch:
        patch.setattr(TransferModule, "_loss", loss)
        assert run(tiny_run(folder, SHORT)) == 2
    told = the_message(capsys.readouterr().err)
    assert "step-000000006.ckpt cannot be written (Read-only file system)" in told
    before = saved(folder)
    assert "step-000000004.ckpt" in before
    assert not any(before.values())
    assert run(tiny_run(folder, SHORT)) == 2
    told = the_message(capsys.readouterr().err)
    assert f"the run's folder {folder / 'checkpoints'} cannot be written (Read-only file system)" in told
    assert "trainer.default_root_dir" in told
    assert saved(folder) == before
    subprocess.run(["umount", str(folder / "checkpoints")], check=True)
    assert run(tiny_run(folder, SHORT)) == 0
    assert_same(folder, calm)


# Damaged files


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a few tensors."""
    path = tmp_path_factory.mktemp("small") / "step-000000001.ckpt"
    io = VerifiedCheckpointIO()
    io.save_checkpoint({"weights": torch.arange(100.0), "step": 1}, path)
    io.finish()
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_noticed(small: Path, data: st.DataObject):
    whole = small.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        changed = bytearray(whole)
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
        small.write_bytes(changed)
    else:
        small.write_bytes(whole[:place])
    try:
        assert "is damaged" in fault_of(small)
        with pytest.raises(ValueError, match=r"step-000000001.ckpt is damaged"):
            VerifiedCheckpointIO().load_checkpoint(small)
    finally:
        small.write_bytes(whole)
    assert not fault_of(small)


def test_a_manifest_of_nonsense_is_a_fault(small: Path):
    manifest = small.with_name(small.name + ".sha256")
    whole = manifest.read_bytes()
    for nonsense in (b"", b"\xff\xfe", b"0" * 64):
        manifest.write_bytes(nonsense)
        assert fault_of(small)
    manifest.write_bytes(whole)


def test_no_earlier_checkpoint_is_deleted_while_the_newest_is_damaged(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = VerifiedCheckpointIO._complete

    def complete(io: VerifiedCheckpointIO, scratch: Path, path: Path) -> None:
        after, io._after_save = io._after_save, None
        whole(io, scratch, path)
        if path.name > "step-000000004.ckpt":
            path.write_bytes(path.read_bytes()[:-1])
        assert after is not None
        after(path)
        io._after_save = after

    monkeypatch.setattr(VerifiedCheckpointIO, "_complete", complete)
    folder = tmp_path / "run"
    with pytest.warns(UserWarning, match="is damaged"):
        assert run(tiny_run(folder, {**SHORT, "checkpoints.keep_last": 1})) == 0
    with pytest.warns(UserWarning, match="is damaged"):
        found = newest(folder / "checkpoints")
    assert found is not None
    assert found.name == "step-000000004.ckpt"
    assert [name for name, fault in saved(folder).items() if fault] == [
        "step-000000006.ckpt",
        "step-000000008.ckpt",
    ]


def test_a_damaged_line_of_the_record_is_named(
    calm: Path, tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    subprocess.run(["cp", "-r", str(calm), str(tmp_path)], check=True)
    folder = tmp_path / "run"
    (folder / "results.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[3] = lines[3][:-5]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert run(tiny_run(folder, SHORT)) == 2
    assert f"{folder / 'metrics.jsonl'}, line 4, is damaged" in the_message(capsys.readouterr().err)
    assert (folder / "metrics.jsonl").read_text().splitlines() == lines


# Two at a time


def test_a_lock_that_a_killed_run_left_locks_nobody_out(tiny_run: Command, tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text("process 999999 on a-node-that-is-gone\n")
    assert run(tiny_run(tmp_path / "run", {**SHORT, "trainer.max_steps": 1})) == 0


HOLDER = """
import sys
from pathlib import Path
from xlt.system.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_in_the_same_folder_is_refused_and_told_who_is_there(
    tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run" / "lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    monkeypatch.setattr("xlt.fit.locked", lambda path: lock.locked(path, patience=0.5))
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert run(tiny_run(tmp_path / "run", SHORT)) == 2
        message = the_message(capsys.readouterr().err)
        assert f"process {holder.pid} on " in message
        assert "trainer.default_root_dir" in message
        holder.kill()
    # The kernel lets go of a lock when its holder dies.
    assert run(tiny_run(tmp_path / "run", {**SHORT, "trainer.max_steps": 1})) == 0


# Code in files


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    calm: Path, tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
):
    subprocess.run(["cp", "-r", str(calm), str(tmp_path)], check=True)
    folder, mark = tmp_path / "run", tmp_path / "was_run"
    (folder / "results.json").unlink()
    path = folder / "checkpoints" / "step-000000008.ckpt"
    found = torch.load(path, weights_only=True)
    found["state_dict"]["payload"] = Payload(mark)
    if form == "torch":
        torch.save(found, path)
    else:
        path.write_bytes(pickle.dumps(found["state_dict"]["payload"], protocol=2))
    digest = subprocess.run(["sha256sum", path.name], cwd=path.parent, capture_output=True, check=True).stdout
    path.with_name(f"{path.name}.sha256").write_bytes(digest)
    assert not fault_of(path)
    assert run(tiny_run(folder, SHORT)) == 2
    message = the_message(capsys.readouterr().err)
    assert str(path) in message
    assert "code" in message
    assert not mark.exists()
    # The payload does what it is there for, where it is let.
    if form == "pickle":
        pickle.loads(path.read_bytes())
        assert mark.exists()


def hostile(name: str, mark: Path) -> dict[str, Any]:
    """A class or function that a config may not name, with arguments that would leave a mark."""
    arguments: dict[str, Any] = (
        {"args": ["touch", str(mark)]} if "Popen" in name else {"command": f"touch {mark}"}
    )
    return {"class_path": name, "init_args": arguments}


@pytest.mark.parametrize("name", ["subprocess.Popen", "os.system"])
@pytest.mark.parametrize(
    "where",
    [
        lambda bad: {"callbacks": [bad]},
        lambda bad: {"logger": bad},
        lambda bad: {"logger": [bad]},
        lambda bad: {"plugins": [bad]},
        lambda bad: {"strategy": bad},
        lambda bad: {"profiler": bad},
        lambda bad: {"accelerator": bad},
        lambda bad: {"callbacks": [nested("callbacks.LambdaCallback", {"on_fit_start": bad})]},
        lambda bad: {"callbacks": [nested("callbacks.LambdaCallback", {"on_fit_start": bad["class_path"]})]},
        lambda bad: {"strategy": nested("strategies.DDPStrategy", {"ddp_comm_hook": bad})},
        lambda bad: {"strategy": nested("strategies.DDPStrategy", {"ddp_comm_hook": bad["class_path"]})},
        lambda bad: {"logger": nested("loggers.WandbLogger", {"experiment": bad})},
    ],
)
def test_a_config_that_names_code_is_refused_and_nothing_is_run(
    tiny_run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    where: Callable[[dict[str, Any]], dict[str, Any]],
):
    mark, config = tmp_path / "was_run", tmp_path / "hostile.yaml"
    config.write_text(yaml.safe_dump({"trainer": where(hostile(name, mark))}))
    assert run(tiny_run(tmp_path / "run", {"config": config, **SHORT})) == 2
    message = the_message(capsys.readouterr().err)
    assert name.rpartition(".")[2] in message
    assert not mark.exists()
    assert not (tmp_path / "run").exists()


def nested(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """An allowed class with these arguments."""
    return {"class_path": f"lightning.pytorch.{name}", "init_args": arguments}


def test_the_classes_of_the_documents_are_still_allowed(tiny_run: Command, tmp_path: Path):
    config = tmp_path / "allowed.yaml"
    callback = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/score", "mode": "max"}}
    monitor = {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback, monitor]}}))
    changes = {"config": config, **SHORT, "trainer.max_steps": 1, "trainer.val_check_interval": 1}
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    assert [event["step"] for event in steps(tmp_path / "run")] == [1]


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['touch {mark}']", "!!python/name:os.system"]
)
def test_code_in_the_yaml_of_a_config_or_a_runs_folder_is_refused(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
):
    mark, config = tmp_path / "was_run", tmp_path / "hostile.yaml"
    config.write_text(f"trainer: {text.format(mark=mark)}\n")
    assert run(tiny_run(tmp_path / "run", {"config": config})) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text(config.read_text())
    assert run(tiny_run(tmp_path / "other")) == 2
    capsys.readouterr()
    assert not mark.exists()

"""How a run is launched: what cannot meet is refused at once, and the wait for others is bounded."""

import socket
from pathlib import Path

import pytest
from commands import HANG, launch
from conftest import Command, run
from test_bad_input import the_message
from test_fit import SHORT, events, results

from xlt.training.launch import RendezvousTimeout

ALL = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = {"SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
ELASTIC = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0"}
PLACE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29507"}
TWO_NODES = {"trainer.num_nodes": 2}


@pytest.mark.parametrize(
    ("environment", "changes", "said"),
    [
        ({**ELASTIC, "WORLD_SIZE": "2"}, {}, "WORLD_SIZE is 2: the launcher has started 2 processes"),
        ({**ELASTIC, "WORLD_SIZE": "2"}, TWO_NODES | {"trainer.devices": 2}, "which makes 4"),
        (ELASTIC, {}, "the launcher (TorchElasticEnvironment) does not say how many"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, {}, "WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "two"}, {}, "WORLD_SIZE is 'two': it must be a whole number"),
        ({**SLURM, "SLURM_NTASKS": "2"}, {}, "SLURM_NTASKS is 2: the launcher has started 2 processes"),
        ({"SLURM_NTASKS": "2"}, {}, "Use `--ntasks-per-node=2`"),
        ({}, TWO_NODES, "MASTER_ADDR, MASTER_PORT, NODE_RANK are not set: the processes cannot find"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, TWO_NODES, "MASTER_ADDR, MASTER_PORT, NODE_RANK are not set"),
        (PLACE, TWO_NODES, "NODE_RANK is not set"),
        (PLACE | {"NODE_RANK": "2"}, TWO_NODES, "NODE_RANK is 2: it must be 0 to 1"),
        (
            PLACE | {"NODE_RANK": "0", "RANK": "1"},
            TWO_NODES,
            "RANK is 1, but by NODE_RANK (0) and LOCAL_RANK",
        ),
        ({"LOCAL_RANK": "0"}, {"trainer.devices": 2}, "MASTER_ADDR, MASTER_PORT are not set"),
        ({**ELASTIC, "WORLD_SIZE": "2"}, {"trainer.devices": 2}, "MASTER_ADDR, MASTER_PORT are not set"),
        ({}, {"preemption.start_limit": 0}, "preemption.start_limit is 0.0: it must be above 0 seconds"),
    ],
)
def test_a_launch_that_cannot_train_is_refused_before_the_folder_is_touched(
    tiny_run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    changes: dict[str, object],
    said: str,
):
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(tiny_run(tmp_path / "run", {**SHORT, **changes})) == 2
    assert said in the_message(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(2 * HANG)
@pytest.mark.parametrize(("node", "missing"), [(0, 1), (1, 0)])
def test_a_node_that_does_not_come_is_named_after_a_bounded_wait(
    tiny_run: Command, tmp_path: Path, node: int, missing: int
):
    args = tiny_run(tmp_path / "run", {**SHORT, **TWO_NODES, "preemption.start_limit": 3})
    code, output = launch(args, NODE_RANK=str(node), **PLACE)
    assert code == 2, output
    assert f"1 of 2 processes are missing at 127.0.0.1:29507: {missing} (node {missing})" in the_message(
        output
    )


@pytest.mark.timeout(2 * HANG)
def test_a_port_that_is_taken_is_told_in_words(tiny_run: Command, tmp_path: Path):
    with socket.create_server(("", 0)) as server:
        place = {**PLACE, "MASTER_PORT": str(server.getsockname()[1]), "NODE_RANK": "0"}
        args = tiny_run(tmp_path / "run", {**SHORT, **TWO_NODES, "preemption.start_limit": 60})
        code, output = launch(args, **place)
    assert code == 2, output
    assert "the processes cannot connect to each other" in the_message(output)


def test_processes_that_are_there_and_do_not_connect_are_told_apart():
    gathering = object.__new__(RendezvousTimeout)
    gathering._limit, gathering._devices, gathering._world_size = 5.0, 2, 4
    gathering._address = "first", 29500
    assert (
        "all processes have started, but they cannot connect to each other: set GLOO_SOCKET_IFNAME"
        in gathering._reason([])
    )
    assert "2 of 4 processes are missing at first:29500: 1 (node 0), 3 (node 1)" in gathering._reason([1, 3])


def test_a_run_without_its_record_scores_its_best_checkpoint_again(
    tiny_run: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    before = results(folder)
    for name in ("results.json", "metrics.jsonl"):
        (folder / name).unlink()
    assert run(tiny_run(folder, SHORT)) == 0
    assert "lacks the validation of" in caplog.text
    after = results(folder)
    assert after["mnli"] == before["mnli"]
    for key in ("step", "best_step", "model_step", "score", "tokens"):
        assert after["run"][key] == before["run"][key], key
    assert [event["step"] for event in events(folder)] == [before["run"]["best_step"]]


def test_a_record_that_ends_before_the_checkpoint_is_told(
    tiny_run: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    (folder / "results.json").unlink()
    record = folder / "metrics.jsonl"
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:2]))
    assert run(tiny_run(folder, SHORT)) == 0
    assert (folder / "results.json").is_file()
    assert "lacks the validation of" in caplog.text

"""xlt.studies.run.launcher: a node that it starts is what `python -m` makes of it."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command

from xlt.studies.run.launcher import launcher, start
from xlt.system.signals import STOPPED


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with launcher({**os.environ, "OMP_NUM_THREADS": "1"}) as found:
        yield found
    assert not Path(found).exists()


def test_an_error_that_a_user_can_mend_is_in_the_log_with_its_code(address: str, tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("what was before\n")
    started = start(address, [sys.executable, "-m", "xlt.fit", "--model.learning_rat=1"], log)
    assert started.pid != os.getpid()
    assert started.wait() == 2
    lines = log.read_text().splitlines()
    assert lines[0] == "what was before"
    assert "model.learning_rate" in log.read_text()


def test_two_nodes_at_a_time_have_their_own_logs(address: str, tmp_path: Path):
    logs = [tmp_path / "fit.txt", tmp_path / "evaluate.txt"]
    verbs = ["xlt.fit", "xlt.evaluate"]
    nodes = [
        start(address, [sys.executable, "-m", verb, "--help"], log)
        for verb, log in zip(verbs, logs, strict=True)
    ]
    assert [node.wait() for node in nodes] == [0, 0]
    assert nodes[0].pid != nodes[1].pid
    assert ["--trainer.max_steps" in log.read_text() for log in logs] == [True, False]


@pytest.mark.slow
def test_a_stopped_node_saves_and_resumes(address: str, tiny_run: Command, tmp_path: Path):
    folder, log = tmp_path / "run", tmp_path / "log.txt"
    command = [sys.executable, "-m", "xlt.fit", *tiny_run(folder, {"trainer.max_steps": 200})]
    started = start(address, command, log)
    while not (folder / "metrics.jsonl").is_file():
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGTERM)
    assert started.wait() == STOPPED, log.read_text()
    assert start(address, command, log).wait() == 0, log.read_text()
    assert "continuing from" in log.read_text()


def test_a_node_whose_process_is_killed_tells_the_signal(address: str, tmp_path: Path):
    lasting = [sys.executable, "-m", "http.server", "0"]
    started = start(address, lasting, tmp_path / "log.txt")
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL


def test_without_a_launcher_there_is_no_start(tmp_path: Path):
    with pytest.raises(OSError, match="No such file"):
        start(str(tmp_path / "nothing"), [sys.executable, "-m", "xlt.fit"], tmp_path / "log.txt")

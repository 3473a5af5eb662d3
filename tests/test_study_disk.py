"""What the runs of a study leave on the disk."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import StudyKeys
from scripted_nodes import PROFILE, run_script

from xlt.studies.analysis.disk import disk_lines, gigabytes_left
from xlt.studies.design.node_files import is_finished
from xlt.studies.design.plan import Study
from xlt.studies.run import engine
from xlt.system.folders import model_folder

RUNS = """
import pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[1].removeprefix("--config=")).read_text())
folder = pathlib.Path(config.get("out") or config["trainer"]["default_root_dir"])
files = [] if "out" in config else ["model/model.safetensors", "checkpoints/a.ckpt"]
if "runs" in config and not pathlib.Path(config["runs"][0], "model").is_dir():
    sys.exit("the model is gone")
for name in [*files, "results.json"]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x" * 1000)
(folder / "config.yaml").write_text("")
"""


@pytest.fixture
def made(tmp_path: Path, study_keys: StudyKeys, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose nodes write files and compute nothing."""
    run_script(RUNS, tmp_path, monkeypatch)
    keys = study_keys(folder=Path("study"), volumes=[9], seeds=[0])
    return Study(**keys | {"intermediate": {"mnli": keys["intermediate"]["mnli"]}})


def left(made: Study) -> dict[str, set[str]]:
    """The folders that the runs of each phase have."""
    found: dict[str, set[str]] = {"intermediate": set(), "target": set()}
    for node in made.nodes.values():
        for name in ("model", "checkpoints"):
            if node.phase != "evaluate" and (made.folder / node.name / name).is_dir():
                found[node.phase].add(name)
    return found


@pytest.mark.parametrize(
    ("kept", "intermediate", "target"),
    [
        ("all", {"model", "checkpoints"}, {"model", "checkpoints"}),
        ("models", {"model"}, {"model"}),
        ("scores", {"model"}, set()),
    ],
)
def test_what_is_not_kept_goes_when_nothing_needs_it(
    made: Study, kept: Any, intermediate: set[str], target: set[str]
):
    assert not engine.run(made, 1, 0, PROFILE, kept)
    assert all(is_finished(made.folder, node) for node in made.nodes)
    assert left(made) == {"intermediate": intermediate, "target": target}


def test_runs_that_were_finished_before_are_tidied_too(made: Study):
    engine.run(made, 1, 0, PROFILE)
    assert left(made)["target"] == {"model", "checkpoints"}
    engine.run(made, 1, 0, PROFILE, "scores")
    assert left(made) == {"intermediate": {"model"}, "target": set()}
    run = next(str(made.folder / node.name) for node in made.nodes.values() if node.phase == "target")
    with pytest.raises(FileNotFoundError, match="its model was deleted, as xlt study --keep scores does"):
        model_folder(run)


def test_a_run_with_an_unfinished_user_keeps_all(made: Study):
    engine.run(made, 1, 0, PROFILE)
    evaluation = next(node for node in made.nodes.values() if node.phase == "evaluate" and node.parents)
    (made.folder / evaluation.name / "results.json").unlink()
    target = made.folder / evaluation.parents[0]
    engine.tidy({**vars_of(made), "keep": "scores"}, target.name)
    assert {path.name for path in target.iterdir() if path.is_dir()} == {"model", "checkpoints"}


def vars_of(made: Study) -> dict[str, Any]:
    """The parts of a plan that count."""
    nodes = {name: {"parents": list(node.parents)} for name, node in made.nodes.items()}
    return {"folder": str(made.folder), "nodes": nodes}


class Usage(NamedTuple):
    """A disk's space, as shutil gives it."""

    total: float
    used: float
    free: float


def test_the_plan_says_how_much_disk_it_needs(made: Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9e9, 9e9, 1e3))
    needs = gigabytes_left(made)
    assert needs is not None
    runs = sum(node.phase != "evaluate" for node in made.nodes.values())
    assert needs["all"] == pytest.approx(4 * needs["models"])
    assert needs["scores"] == pytest.approx(needs["models"] / runs)  # one run of phase 2
    said, warned = disk_lines(made, "all")
    assert said.startswith("disk: the unfinished runs leave about")
    assert warned.startswith("This is too little for --keep all")
    engine.run(made, 1, 0, PROFILE)
    assert not list(disk_lines(made, "all"))

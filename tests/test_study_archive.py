"""The results of a study in one file: another machine reports and continues the study."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import StudyKeys, run
from scripted_nodes import PROFILE, run_script

from xlt.studies.design.node_files import is_finished, nodes_to_run
from xlt.studies.design.plan import Study
from xlt.studies.run import engine
from xlt.studies.run.archive import restore, save, saved
from xlt.study import study

RUNS = """
import json, pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[1].removeprefix("--config=")).read_text())
folder = pathlib.Path(config.get("out") or config["trainer"]["default_root_dir"])
start = config["runs"][0] if "runs" in config else config.get("model", {}).get("encoder", "")
if start.startswith("study/") and not pathlib.Path(start, "model").is_dir():
    sys.exit("the model is gone")
files = ["summary.json", "scores/xnli-en.json", "example_scores/xnli-en.npy", "predictions/secret.txt"]
for name in [*(files if "out" in config else ["model/model.safetensors", "sources.json"]), "results.json"]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(f"{folder.name} {name}"))
with open("ran", "a") as log:
    log.write(folder.name + chr(10))
"""


@pytest.fixture
def make(tmp_path: Path, study_keys: StudyKeys, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that returns a study whose nodes write files and compute nothing."""
    run_script(RUNS, tmp_path, monkeypatch)

    def made(**changes: Any) -> Study:
        keys = study_keys(folder=Path("study"), volumes=[9], seeds=[0])
        return Study(**keys | {"intermediate": {"mnli": keys["intermediate"]["mnli"]}} | changes)

    return made


def finish(made: Study) -> None:
    """Write the files of every node, without the engine."""
    for name, node in made.nodes.items():
        files = (
            ["summary.json", "example_scores/xnli-en.npy"] if node.phase == "evaluate" else ["sources.json"]
        )
        for file in [*files, "results.json"]:
            path = made.folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(f"{name} {file}"))


def ran() -> set[str]:
    """Names of the nodes that ran since the last call."""
    names = Path("ran").read_text().split() if Path("ran").is_file() else []
    Path("ran").unlink(missing_ok=True)
    assert len(names) == len(set(names))
    return set(names)


def test_an_archive_in_an_empty_folder_finishes_the_study(make: Any, tmp_path: Path):
    made = make()
    engine.run(made, 1, 0, PROFILE)
    assert ran() == set(made.nodes)
    assert save(made, Path("a/nodes.zip")) == len(made.nodes)
    Path("study").rename("lost")
    assert restore(made, Path("a/nodes.zip")) == len(made.nodes)
    assert all(is_finished(made.folder, name) for name in made.nodes)
    assert not nodes_to_run(made.folder, made.nodes)
    engine.run(made, 1, 0, PROFILE)
    assert not ran()
    for path in Path("study").glob("*/*.json"):
        assert path.read_bytes() == Path("lost", *path.parts[1:]).read_bytes()
    assert not list(Path("study").rglob("secret.txt"))
    assert not list(Path("study").rglob("model"))


def test_equal_results_make_equal_archives_and_nothing_is_dropped(make: Any):
    first, second = make(seeds=[0]), make(seeds=[1])
    finish(first)
    save(first, Path("one.zip"))
    before = Path("one.zip").read_bytes()
    save(first, Path("one.zip"))
    assert Path("one.zip").read_bytes() == before
    finish(second)
    assert save(second, Path("one.zip")) == len(first.nodes | second.nodes)
    new = make(folder=Path("new"))
    assert restore(new, Path("one.zip")) == len(new.nodes) < len(first.nodes | second.nodes)
    assert {path.name for path in Path("new").iterdir()} <= set(new.nodes)


def test_an_archive_of_another_encoder_is_said(make: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path):
    made = make()
    finish(made)
    save(made, Path("nodes.zip"))
    other = make(folder=Path("new"), fit={"model": {"learning_rate": 0.5}}, evaluate={"volume": 1})
    assert restore(other, Path("nodes.zip")) == 0
    assert "archive nodes.zip has no node of this study" in caplog.text


def test_a_run_whose_model_a_new_node_needs_is_trained_again(make: Any):
    made = make()
    engine.run(made, 1, 0, PROFILE)
    save(made, Path("nodes.zip"))
    Path("study").rename("lost")
    ran()
    larger = make(evaluate={**made.evaluate, "volume": 3})
    new = {name for name, node in larger.nodes.items() if name not in made.nodes}
    assert {larger.nodes[name].phase for name in new} == {"evaluate"}
    restore(larger, Path("nodes.zip"))
    needed = {name for name, node in larger.nodes.items() if node.phase != "evaluate"}
    assert set(nodes_to_run(larger.folder, larger.nodes)) == new | needed
    engine.run(larger, 1, 0, PROFILE)
    assert ran() == new | needed
    assert not nodes_to_run(larger.folder, larger.nodes)


def test_a_run_that_has_begun_again_is_left_to_resume(make: Any):
    made = make()
    finish(made)
    save(made, Path("nodes.zip"))
    name = next(name for name, node in made.nodes.items() if node.phase == "target")
    (made.folder / name / "results.json").unlink()
    (made.folder / name / "checkpoints").mkdir()
    assert restore(made, Path("nodes.zip")) == 0
    assert not is_finished(made.folder, name)


def test_a_kill_during_a_restore_leaves_no_node_that_seems_finished(
    make: Any, monkeypatch: pytest.MonkeyPatch
):
    made = make()
    finish(made)
    save(made, Path("nodes.zip"))
    Path("study").rename("lost")
    written: list[Path] = []

    def dies(path: Path, content: bytes) -> None:
        if path.name == "results.json":
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr("xlt.studies.run.archive.write_atomically", dies)
    with pytest.raises(KeyboardInterrupt):
        restore(made, Path("nodes.zip"))
    assert {path.name for path in written} >= {"sources.json", "summary.json", "xnli-en.npy"}
    assert not any(is_finished(made.folder, name) for name in made.nodes)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "evaluate-x/../../evil.json",
        "/etc/evil",
        "evaluate-x/scores/../../../evil.json",
        "a.py",
    ],
)
def test_a_file_that_no_study_wrote_is_refused_and_not_unpacked(name: str, make: Any, tmp_path: Path):
    with zipfile.ZipFile("bad.zip", "w") as file:
        file.writestr(name, "evil")
    with pytest.raises(ValueError, match=r"archive bad.zip is no archive of a study: it has "):
        restore(make(), Path("bad.zip"))
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_damaged_archive_is_refused_and_stays(content: bytes | None, make: Any):
    made: Study = make()
    finish(made)
    path = Path("nodes.zip")
    save(made, path)
    whole = path.read_bytes()
    if content is None:
        content = whole[:80] + bytes(byte ^ 255 for byte in whole[80:120]) + whole[120:]
    path.write_bytes(content)
    damaged = path.read_bytes()
    for use in (restore, save):
        with pytest.raises(ValueError, match=r"archive nodes.zip cannot be read \(.*\): restore the file"):
            use(made, path)
    assert path.read_bytes() == damaged


def test_studies_that_save_at_once_lose_no_node(make: Any, tmp_path: Path):
    studies = [make(seeds=[seed]) for seed in range(4)]
    for each in studies:
        finish(each)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: save(each, Path("nodes.zip")), studies))
    names = {name for each in studies for name in each.nodes}
    new = make(folder=Path("new"), seeds=range(4))
    assert restore(new, Path("nodes.zip")) == len(names)


def test_an_archive_that_cannot_be_written_is_refused_before_the_first_run(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = make()
    config = {key: value for key, value in vars(made).items() if key in signature(Study).parameters}
    Path("study.yaml").write_text(yaml.safe_dump({**config, "folder": "study"}))
    Path("file").write_text("")
    for archive, message in {
        "file/nodes.zip": "the folder of the archive file cannot be written (File exists): set archive to",
        ".": "archive . is a folder: name a file in it, such as nodes.zip",
        "/proc/nodes.zip": "the folder of the archive /proc cannot be written",
    }.items():
        assert run(["--config=study.yaml", f"--archive={archive}"], study) == 2
        assert message in capsys.readouterr().err
    assert not Path("study").exists()


def test_a_missing_archive_of_a_report_is_an_error_and_is_not_created(
    make: Any, capsys: pytest.CaptureFixture[str]
):
    made = make()
    config = {key: value for key, value in vars(made).items() if key in signature(Study).parameters}
    Path("study.yaml").write_text(yaml.safe_dump({**config, "folder": "study"}))
    assert run(["--config=study.yaml", "--archive=nodse.zip", "--report_only=true"], study) == 2
    assert "archive is nodse.zip: it must be a file that exists" in capsys.readouterr().err
    assert not Path("nodse.zip").exists()


def test_an_archive_is_written_after_ctrl_c_and_after_an_error(make: Any):
    made = make()
    finish(made)
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), saved(made, Path("nodes.zip")):
            raise error
        assert restore(make(folder=Path(error.__name__)), Path("nodes.zip")) == len(made.nodes)
        Path("nodes.zip").unlink()


@pytest.mark.parametrize("lost", ["summary.json", "sources.json"])
def test_a_node_without_all_its_files_is_not_restored(lost: str, make: Any):
    made: Study = make()
    finish(made)
    save(made, Path("nodes.zip"))
    with zipfile.ZipFile("nodes.zip") as whole, zipfile.ZipFile("part.zip", "w") as part:
        for name in whole.namelist():
            if not name.endswith(lost):
                part.writestr(name, whole.read(name))
    restore(made := make(folder=Path("new")), Path("part.zip"))
    phases = {made.nodes[name].phase for name in made.nodes if is_finished(made.folder, name)}
    assert phases == ({"intermediate", "target"} if lost == "summary.json" else {"evaluate"})


def test_an_archive_with_damaged_json_is_refused(make: Any):
    made = make()
    with zipfile.ZipFile("nodes.zip", "w") as file:
        file.writestr(f"{next(iter(made.nodes))}/results.json", "garbage")
    with pytest.raises(ValueError, match=r"archive nodes.zip cannot be read"):
        restore(made, Path("nodes.zip"))

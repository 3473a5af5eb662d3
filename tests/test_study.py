"""xlt.study: what a study consists of, how its nodes are named, run, collected and paid for."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY, StudyKeys, run
from scripted_nodes import PROFILE, run_script

from xlt.studies.analysis.collect import COLUMNS, checkpoints_of, missing_of, runs_of, scores_of, volume_of
from xlt.studies.analysis.cost import costs, table
from xlt.studies.analysis.findings import load_example_scores
from xlt.studies.analysis.results import check_scores
from xlt.studies.design.configs import scale_steps
from xlt.studies.design.node_files import checkpoint_path, is_finished, log_path
from xlt.studies.design.nodes import Node
from xlt.studies.design.plan import Study
from xlt.studies.run import engine, node
from xlt.studies.run.engine import write
from xlt.studies.run.launcher import ADDRESS
from xlt.study import study
from xlt.system.signals import STOPPED
from xlt.system.wandb_mode import save_page_url
from xlt.training.checkpoint_files import path_of

Make = StudyKeys


@pytest.fixture(scope="session")
def make(study_keys: Make) -> Make:
    return study_keys


def by_phase(made: Study) -> dict[str, int]:
    """Number of nodes by phase."""
    return {cost.phase: cost.nodes for cost in costs(made, None)}


LACKS = """
import runpy, sys
sys.modules["statsmodels"] = None
sys.argv = ["study", "--config=configs/study/mini.yaml"]
runpy.run_module({command!r}, run_name="__main__")
"""


@pytest.mark.parametrize("command", ["xlt.study", "xlt.study_dashboard"])
def test_without_the_extra_the_command_says_what_to_install(command: str):
    words = [sys.executable, "-c", LACKS.format(command=command)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: studies need statsmodels")
    assert "pip install" in line


# The plan


def test_every_arm_volume_and_seed_has_its_runs_and_evaluations(make: Make):
    made = Study(**make())
    # 2 arms x 2 volumes x 2 seeds; a fine-tuning of each and of none's 2 seeds; an evaluation of each of
    # these, and of retrieval with each run of phase 2 and once with the encoder as it is.
    assert by_phase(made) == {"intermediate": 8, "target": 10, "evaluate": 10 + 8 + 1}
    crossed = Study(**make(num_target_seeds=2))
    assert by_phase(crossed) == {"intermediate": 8, "target": 20, "evaluate": 20 + 8 + 1}


def test_all_evaluations_of_a_study_align_words_by_its_encoder(make: Make):
    study = Study(**make())
    aligners = {use.settings["aligner"] for use in study.node_uses if use.phase == "evaluate"}
    assert aligners == {study.encoder}
    other = Study(**make(evaluate={"aligner": "another"}))
    assert {use.settings["aligner"] for use in other.node_uses if use.phase == "evaluate"} == {"another"}
    assert not {use.name for use in study.node_uses if use.phase == "evaluate"} & {
        use.name for use in other.node_uses
    }


def test_parents_come_first(make: Make):
    made = Study(**make())
    seen: set[str] = set()
    for use in made.node_uses:
        assert set(use.parents) <= seen
        seen.add(use.name)


def test_a_target_can_be_tested_with_the_run_of_another(make: Make, tmp_path: Path):
    keys = make()
    xquad = write_task(tmp_path, "xquad", ["xquad"], keys["targets"]["xnli"])
    made = Study(**{**keys, "targets": {"xquad": xquad, "mlqa": "xquad", "tatoeba": None}})
    tested = {use.targets for use in made.node_uses if use.phase == "evaluate"}
    assert tested == {("xquad", "mlqa"), ("tatoeba",)}
    assert by_phase(made)["target"] == 10


def test_studies_share_the_nodes_that_are_the_same(make: Make):
    small, large = Study(**make()), Study(**make(name="large", volumes=[9, 40, 100], seeds=[0, 1, 2]))
    assert set(small.nodes) < set(large.nodes)


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({"fit": {"trainer": {"accelerator": "auto"}, "data": {"num_workers": 1}}}, False),
        ({"evaluate": {"accelerator": "auto"}}, None),
        ({"fit": {"model": {"learning_rate": 2e-3}}}, True),
        ({"fit_intermediate": {"data": {"temperature": 2.0}}}, True),
    ],
)
def test_a_node_is_named_by_what_alters_its_scores(
    make: Make, changes: dict[str, Any], is_other: bool | None
):
    first, second = Study(**make()), Study(**make(**changes))
    names = [{n for n, made in s.nodes.items() if made.phase == "intermediate"} for s in (first, second)]
    assert names[0].isdisjoint(names[1]) if is_other else names[0] == names[1]


def test_a_run_of_another_start_has_another_name_though_its_own_keys_are_the_same(make: Make):
    names = [
        {
            n
            for n, made in Study(**make(**changes)).nodes.items()
            if made.phase == "target" and made.arm != "none"
        }
        for changes in ({}, {"fit_intermediate": {"model": {"learning_rate": 2e-3}}})
    ]
    assert names[0].isdisjoint(names[1])


def test_a_mixtures_volume_is_shared_out_among_its_tasks(make: Make):
    made = Study(**make(volumes=[40, None], seeds=[0]))
    found = {
        (u.arm, u.volume): u.settings["data"]["volume"] for u in made.node_uses if u.phase == "intermediate"
    }
    assert found["mixture", 40] == {"mnli": 14, "squad_v1": 13, "cosmosqa": 13}
    assert found["mnli", 40] == {"mnli": 40}
    assert found["mixture", None] is None


def write_task(folder: Path, name: str, tasks: list[str], like: str) -> str:
    """A config like another, of these tasks."""
    config = yaml.safe_load(Path(like).read_text())
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config | {"data": config["data"] | {"tasks": tasks}}))
    return str(path)


def test_translations_and_plain_text_stand_beside_an_arms_examples(make: Make, tmp_path: Path):
    keys = make(volumes=[40], seeds=[0])
    mnli = keys["intermediate"]["mnli"]
    arms = {
        "mnli": mnli,
        "mnli_translated": write_task(tmp_path, "translated", ["mnli", "mnli/de", "mnli/sw"], mnli),
        "mnli_mlm": write_task(tmp_path, "mlm", ["mnli", "mlm"], mnli),
        "mlm": write_task(tmp_path, "text", ["mlm", "ranking"], mnli),
    }
    made = Study(**{**keys, "intermediate": arms, "folder": tmp_path})
    runs = {known.arm: known for known in made.nodes.values() if known.phase == "intermediate"}
    asked = {arm: known.settings["data"]["volume"] for arm, known in runs.items()}
    assert asked.pop("mlm") == {"mlm": 20, "ranking": 20}
    assert all(volume == {"mnli": 40} for volume in asked.values())
    there = {"mnli": 50, "mnli/de": 60, "mnli/sw": 30, "mlm/en": 900, "mlm/de": 10, "ranking/de-en": 9}
    for arm, names in (
        ("mnli", ["mnli"]),
        ("mnli_translated", ["mnli", "mnli/de", "mnli/sw"]),
        ("mnli_mlm", ["mnli", "mlm/en", "mlm/de"]),
        ("mlm", ["mlm/en", "mlm/de", "ranking/de-en"]),
    ):
        pretend(made, runs[arm], {name: there[name] for name in names})
    assert {arm: volume_of(made, known) for arm, known in runs.items()} == {
        "mnli": 40,
        "mnli_translated": 40,
        "mnli_mlm": 40,
        "mlm": 29,
    }


def test_an_arm_can_have_volumes_of_its_own(make: Make):
    made = Study(**make(volumes=[9, 18], seeds=[0], arm_volumes={"mnli": [7]}, steps={7: 2}))
    runs = [known for known in made.nodes.values() if known.phase == "intermediate"]
    assert {(known.arm, known.volume) for known in runs} == {("mnli", 7), ("mixture", 9), ("mixture", 18)}
    assert {known.settings["trainer"]["max_steps"] for known in runs if known.arm == "mnli"} == {2}


def test_a_task_of_ones_own_has_a_volume(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mylab").mkdir()
    shutil.copy(REPOSITORY / "xlt" / "tasks" / "qqp.py", tmp_path / "mylab" / "paws.py")
    monkeypatch.syspath_prepend(tmp_path)
    keys = make(volumes=[40], seeds=[0], folder=tmp_path)
    path = write_task(tmp_path, "own", ["mylab.paws", "mnli"], keys["intermediate"]["mnli"])
    made = Study(**{**keys, "intermediate": {"own": path}})
    (trained,) = [known for known in made.nodes.values() if known.phase == "intermediate"]
    assert trained.settings["data"]["volume"] == {"paws": 20, "mnli": 20}
    pretend(made, trained, {"paws": 5, "mnli": 70})
    assert volume_of(made, trained) == 25


def pretend(made: Study, trained: Node, there: dict[str, int]) -> None:
    """A run is finished that had so many examples of each task, and every evaluation with it."""
    folder = made.folder / trained.name
    folder.mkdir(parents=True)
    sources = {task: {"train": {"examples": count}} for task, count in there.items()}
    (folder / "sources.json").write_text(json.dumps(sources))
    (folder / "results.json").write_text(json.dumps({"run": {"tokens": 1}}))
    for child in made.nodes.values():
        if trained.name in child.parents and child.phase == "evaluate":
            cells = made.folder / child.name / "scores"
            cells.mkdir(parents=True)
            (cells.parent / "results.json").write_text("{}")
            (cells.parent / "summary.json").write_text('{"missing": []}')
            cell = {"task": child.targets[0], "language": "de", "metrics": {"accuracy": 10.0}, "rows": 1}
            (cells / "cell.json").write_text(json.dumps(cell | {"split": "test"}))


def test_volumes_above_the_examples_that_there_are_are_shown_once(make: Make, tmp_path: Path):
    made = Study(**make(volumes=[None, 9, 40, 100], seeds=[0, 1], folder=tmp_path))
    for known in made.nodes.values():
        if known.phase == "intermediate":
            tasks = ["mnli"] if known.arm == "mnli" else ["mnli", "squad_v1", "cosmosqa"]
            pretend(made, known, dict.fromkeys(tasks, 35))
    found = check_scores(scores_of(made), "scores")
    assert set(found.loc[found["intermediate"] == "mnli", "volume"]) == {9, 35}
    assert set(found.loc[found["intermediate"] == "mixture", "volume"]) == {9, 40, 100, 105}
    said = {line.what: line.reason for line in missing_of(made) if line.what not in made.nodes}
    assert set(said) == {"mnli with 100 examples", "mnli with all examples"}
    assert (
        "only 35 examples exist; the runs with 40 examples used them all and are shown"
        in said["mnli with all examples"]
    )


@pytest.mark.parametrize("lost", ["summary.json", "sources.json"])
def test_a_finished_node_that_has_lost_a_file_is_missing(make: Make, tmp_path: Path, lost: str):
    made = Study(**make(volumes=[9], seeds=[0], folder=tmp_path))
    trained = next(node for node in made.nodes.values() if node.phase == "intermediate")
    pretend(made, trained, {"mnli": 100, "squad_v1": 100, "cosmosqa": 100})
    assert len(scores_of(made)) == 1
    tested = next(n for n in made.nodes.values() if trained.name in n.parents and n.phase == "evaluate")
    folder = tmp_path / (tested if lost == "summary.json" else trained).name
    (folder / lost).unlink()
    reasons = {line.what: line.reason for line in missing_of(made)}
    words = f"{folder / lost} is missing: delete the folder {folder}, and run the study again"
    assert reasons[tested.name] == words
    assert scores_of(made).empty


def test_damaged_scores_of_examples_are_named(tmp_path: Path):
    path = tmp_path / "evaluate-a" / "example_scores" / "xnli-en.npy"
    path.parent.mkdir(parents=True)
    np.save(path, np.zeros(9))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"xnli-en\.npy is damaged .*: delete the folder .*evaluate-a, and"):
        load_example_scores(tmp_path, str(path.relative_to(tmp_path)))


def test_steps_by_volume_keep_the_shares_of_warm_up_and_validation(make: Make):
    made = Study(**make(steps={40: 40}, seeds=[0]))
    of = {u.volume: u.settings for u in made.node_uses if u.phase == "intermediate" and u.arm == "mnli"}
    assert of[9]["trainer"]["max_steps"] == 4
    assert of[40]["trainer"] | {} == {**of[9]["trainer"], "max_steps": 40, "val_check_interval": 20} | {
        "default_root_dir": of[40]["trainer"]["default_root_dir"]
    }
    assert of[40]["model"]["warmup_steps"] == 20


def test_a_share_of_the_steps_stays_one():
    assert scale_steps({"trainer": {"max_steps": 100, "val_check_interval": 0.5}}, 50) == {
        "trainer": {"max_steps": 50, "val_check_interval": 0.5}
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": {"bogus": 3}}, "the study's node target-none-.*unknown key bogus"),
        ({"fit_target": {"trainer": {"max_stepz": 3}}}, "the study's node target-.*trainer.max_stepz"),
        ({"evaluate": {"split": "tests"}}, "the study's node evaluate-.*split"),
    ],
)
def test_what_the_verbs_would_refuse_is_refused_before_the_first_runs(
    make: Make, tmp_path: Path, capsys: Any, changes: dict[str, Any], message: str
):
    assert call(make(folder=tmp_path, **changes), tmp_path, dry_run=True) == 2
    assert re.search(message, capsys.readouterr().err, re.DOTALL)


def test_selection_tests_checkpoints_on_both_splits_and_trains_nothing_anew(make: Make):
    plain, made = Study(**make()), Study(**make(selection={"xnli": 2}))
    assert set(plain.nodes) < set(made.nodes)
    of: dict[str, set[tuple[int, str]]] = {}
    for known in made.nodes.values():
        if known.checkpoint is not None:
            assert known.settings["wandb"]["job_type"] == "selection"
            of.setdefault(known.parents[0], set()).add((known.checkpoint, known.settings["split"]))
    trained = {name for name, known in made.nodes.items() if known.phase == "target"}
    tested = {(step, split) for step in (2, 4) for split in ("validation", "test")}
    assert of == dict.fromkeys(trained, tested)
    assert all(made.nodes[name].settings["checkpoints"]["keep_every_n_steps"] == 2 for name in trained)


def test_selection_in_one_set_is_refused(make: Make):
    keys = make()
    targets = {**keys["targets"], "xquad": keys["targets"]["xnli"]}
    with pytest.raises(ValueError, match=r"selection is xquad: .*development and test rows"):
        Study(**{**keys, "targets": targets, "selection": {"xquad": 2}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds is .*name at least one"),
        ({"volumes": [5, 5]}, "volumes is .*not repeat a value"),
        ({"volumes": [0]}, "volumes is .*be 1 example or more"),
        ({"intermediate": {"none": "x.yaml"}}, "not name none, which every study has"),
        ({"intermediate": {"mnli": "nowhere.yaml"}}, "nowhere.yaml, which the study names, does not exist"),
        ({"num_target_seeds": 0}, "num_target_seeds is 0"),
        ({"fit": {"model": {"encoder": "x"}}}, "fit.model.encoder is x: .*the study's encoder decides"),
        ({"fit_target": {"seed_everything": 3}}, "fit_target.seed_everything is 3: .*seeds decides"),
        ({"fit_intermediate": {"data": {"volume": 9}}}, "fit_intermediate.data.volume is 9: .*volumes"),
        (
            {"fit_intermediate": {"data": {"volume": {"mnli": 9}}}},
            "fit_intermediate.data.volume.mnli is 9: .*volumes decides",
        ),
        ({"fit": {"name": "foo"}}, "fit.name is foo: .*name and folder decides"),
        ({"evaluate": {"checkpoint": 2}}, "evaluate.checkpoint is 2: .*selection decides"),
        ({"evaluate": {"runs": ["a"]}}, "evaluate.runs is .*targets decides"),
        (
            {"evaluate": {"split": {"udpoz": "test"}}},
            "evaluate.split: unknown task 'udpoz'. Did you mean udpos",
        ),
        ({"margin": 0.0}, "margin is 0.0: .*be above 0 points"),
        ({"steps": {7: 10}}, "steps is .*name only volumes of the study"),
        (
            {"targets": {"tatoeba": None, "bucc2018": "tatoeba"}},
            "targets is bucc2018: tatoeba: tatoeba has no run of its own",
        ),
        ({"volumes": [2]}, "volumes is 2: .*each task of mixture"),
        ({"name": "a/b"}, "name is a/b"),
        ({"name": ""}, "name is : .*valid folder name"),
        ({"name": ".."}, "name is .."),
        ({"intermediate": {"m|touch x #": "x.yaml"}}, "intermediate is m|touch x #: .*valid folder name"),
        ({"seeds": [-1]}, "seeds is .*be 0 or more"),
        ({"steps": {9: -4}}, "steps is .*be 1 or more"),
        ({"arm_volumes": {"qqp": [9]}}, "arm_volumes is qqp: .*be an arm of the study: mnli"),
        ({"arm_volumes": {"mnli": []}}, "arm_volumes mnli is .*name at least one"),
        ({"arm_volumes": {"mnli": [9, 9]}}, "arm_volumes mnli is .*not repeat a value"),
        ({"targets": {"xnlii": "x.yaml"}}, "unknown task 'xnlii'. Did you mean xnli"),
        ({"targets": {"mnli": "x.yaml"}}, "targets is mnli: .*test languages"),
        ({"targets": {"xnli/de": "x.yaml"}}, "targets is xnli/de: .*without a language.*languages"),
        ({"targets": {"xnli": None}}, "targets is xnli: .*name the config"),
        (
            {"targets": {"mlqa": "xquad", "xquad": "mlqa"}},
            "targets is mlqa: xquad: xquad has no run of its own",
        ),
        ({"selection": {"tatoeba": 2}}, "selection is tatoeba: .*fine-tuned"),
        ({"targets": {"pawsx": "configs/target/xnli.yaml"}}, "targets pawsx is .*train its head, pawsx"),
        ({"fit": {"trainer": 3}}, "fit.trainer is 3: .*mapping of keys"),
        ({"intermediate": {"mnli": "README.md"}}, "README.md, which the study names, is not YAML"),
        ({"selection": {"pawsx": 2}}, "selection is pawsx: .*fine-tuned"),
        ({"selection": {"xnli": 1}}, "selection xnli is 1: .*at least 2"),
        ({"selection": {"xnli": 5}}, "selection xnli is 5: .*at most the 4 steps"),
    ],
)
def test_a_study_with_a_wrong_setting_is_refused(make: Make, changes: dict[str, Any], message: str):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _ = Study(**make(**changes)).node_uses


def test_an_encoder_without_weights_is_refused(make: Make, tiny_encoder: str):
    with pytest.raises(
        FileNotFoundError, match=r"tiny has no weights \(model.safetensors\). Give an encoder"
    ):
        _ = Study(**make(encoder=tiny_encoder)).node_uses


def test_the_rows_of_targets_can_be_limited(make: Make):
    volumes = {
        node.phase: node.settings["data"]["volume"]
        for node in Study(**make(seeds=[0], volumes=[9], fit={"data": {"volume": 7}})).nodes.values()
        if node.phase == "target" or (node.arm == "mnli" and node.phase == "intermediate")
    }
    assert volumes == {"target": 7, "intermediate": {"mnli": 9}}


def test_a_config_of_another_command_is_refused(make: Make, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("tasks: [xnli]\n")
    with pytest.raises(ValueError, match=r"bad\.yaml is no config of xlt fit"):
        _ = Study(**make(intermediate={"mnli": str(tmp_path / "bad.yaml")})).node_uses


def test_a_config_without_a_number_of_steps_is_refused(make: Make, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("data: {tasks: [mnli]}\ntrainer: {max_steps: 4}\nepochs: 2\n")
    with pytest.raises(ValueError, match=r"bad\.yaml sets no trainer\.max_steps, or sets epochs"):
        _ = Study(**make(intermediate={"mnli": str(tmp_path / "bad.yaml")})).node_uses


HOLDS = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_study_of_the_same_name_leaves_the_plan_of_the_one_that_runs(make: Make, tmp_path: Path):
    made = Study(**make(folder=tmp_path, seeds=[0]))
    before = write(made, 1).read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(made.own_folder / "lock")], stdout=PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=r"another process is at work .* set folder or name to another"):
            engine.run(Study(**make(folder=tmp_path, seeds=[5])), 1, 0, None)
        holder.kill()
    assert (made.own_folder / "plan.json").read_bytes() == before


def test_the_plan_on_disk_names_each_nodes_config_and_parents(make: Make, tmp_path: Path):
    made = Study(**make(folder=tmp_path, seeds=[0]))
    plan = json.loads(write(made, 1).read_text())
    assert plan["wanted"] == list(made.nodes)
    for name, known in plan["nodes"].items():
        config = yaml.safe_load(Path(known["config"]).read_text())
        assert config.get("out", config.get("trainer", {}).get("default_root_dir")) == str(tmp_path / name)
        assert known["parents"] == list(made.nodes[name].parents)


# Its cost


def test_hours_are_those_of_finished_nodes_by_token(make: Make, tmp_path: Path):
    made = Study(**make(folder=tmp_path, seeds=[0], volumes=[9, 40], steps={40: 12}))
    names = [n for n, known in made.nodes.items() if known.phase == "intermediate"]
    assert {cost.phase: cost.hours for cost in costs(made, None)}["intermediate"] is None
    # 4 steps of 512 tokens took two hours: what is left is 12 steps of this arm, 4 and 12 of the other.
    (tmp_path / names[0] / "model").mkdir(parents=True)
    (tmp_path / names[0] / "results.json").write_text("{}")
    path = log_path(tmp_path, names[0], "json")
    path.parent.mkdir()
    path.write_text('{"seconds": 7200, "exit_code": 0}')
    found = {cost.phase: cost for cost in costs(made, None)}
    assert found["intermediate"].finished == 1
    assert found["intermediate"].tokens == (12 + 4 + 12) * 512
    assert found["intermediate"].hours == pytest.approx(6 + 2 + 6)
    assert "unknown" in table(list(found.values()), 2)
    by_hand = {cost.phase: cost for cost in costs(made, 100.0)}
    assert by_hand["target"].hours == pytest.approx(by_hand["target"].tokens / 100 / 3600)


def test_an_encoder_that_does_not_exist_stops_the_study_before_any_run(
    make: Make, tmp_path: Path, capfd: Any
):
    made = Study(**make(folder=tmp_path / "runs", encoder="encoders/nothing"))
    with pytest.raises(FileNotFoundError, match="encoders/nothing, a folder that does not exist"):
        engine.run(made, 1, 0, None)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_shows_the_plan_and_starts_nothing(make: Make, tmp_path: Path, capsys: Any):
    assert call(make(folder=tmp_path / "runs"), tmp_path, dry_run=True) == 0
    assert "37 nodes" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def call(keys: dict[str, Any], tmp_path: Path, **how: Any) -> Any:
    """The verb on a study's keys."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**keys, "folder": str(keys["folder"])}))
    return run([f"--config={path}", *(f"--{key}={value}" for key, value in how.items())], study)


# A node


def script(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A plan whose node runs the text as a program."""
    program = tmp_path / "program.py"
    program.write_text(text)
    monkeypatch.setattr(node, "command_of", lambda *_: [sys.executable, str(program)])
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        assert number
    nodes = {"a": {"parents": [], "checkpoint": None}, "b": {"parents": ["a"], "checkpoint": 3}}
    return {"folder": str(tmp_path), "started": 1.0, "nodes": nodes}


def test_a_stopped_node_is_resumed_until_it_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = f"""
import sys
from pathlib import Path
count = Path({str(tmp_path / "count")!r})
count.write_text(count.read_text() + "." if count.exists() else ".")
print("start", len(count.read_text()))
sys.exit(75 if len(count.read_text()) < 3 else 0)
"""
    assert node.run(script(tmp_path, text, monkeypatch), "a") == 0
    assert log_path(tmp_path, "a", "txt").read_text() == "start 1\nstart 2\nstart 3\n"
    assert json.loads(log_path(tmp_path, "a", "json").read_text())["exit_code"] == 0


@pytest.mark.parametrize(("code", "runs"), [(1, 2), (2, 1)])
def test_a_node_that_fails_is_tried_again_unless_the_user_must_fix_the_error(
    code: int, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan = script(tmp_path, f"import sys; print('error: no'); sys.exit({code})", monkeypatch)
    assert node.run(plan, "a") == code
    assert node.run(plan, "a") == code
    assert log_path(tmp_path, "a", "txt").read_text() == "error: no\n" * runs
    assert node.run(plan | {"started": 2.0}, "a") == code  # a later call of xlt study
    assert log_path(tmp_path, "a", "txt").read_text() == "error: no\n" * (runs + 1)


def test_a_node_that_another_study_has_finished_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan = script(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')", monkeypatch)
    for path in ("a/model/weights", "a/checkpoints/step-000000003.ckpt", "a/results.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    assert node.run(plan, "a") == 0
    assert not (tmp_path / "ran").exists()
    assert checkpoint_path(tmp_path, "a", 3) == path_of(tmp_path / "a" / "checkpoints", 3)


@pytest.mark.parametrize("lost", ["a/model/weights", "a/checkpoints/step-000000003.ckpt"])
def test_a_run_whose_model_or_checkpoint_is_needed_and_gone_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
):
    files = ["a/model/weights", "a/checkpoints/step-000000003.ckpt", "a/checkpoints/x", "a/results.json"]
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    (tmp_path / lost).unlink()
    if "model" in lost:
        (tmp_path / lost).parent.rmdir()
    check = f"import os; print(*os.listdir({str(tmp_path / 'a')!r}))"
    assert node.run(script(tmp_path, check, monkeypatch), "a") == 0
    found = set(log_path(tmp_path, "a", "txt").read_text().split())
    assert found == ({"model"} if "checkpoints" in lost else set())


FAILS = """
import pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[1].removeprefix("--config=")).read_text())
folder = pathlib.Path(config.get("out") or config["trainer"]["default_root_dir"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "results.json").write_text("{}")
sys.exit(1)
"""


def test_a_node_that_fails_deletes_no_results(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
):
    run_script(FAILS, tmp_path, monkeypatch)
    made = Study(**make(folder=Path("study"), targets={"tatoeba": None}, volumes=[9], seeds=[0]))
    engine.run(made, 1, 0, PROFILE)
    finished = [name for name in made.nodes if is_finished(made.folder, name)]
    assert finished
    assert not list((made.own_folder / "done").glob("*"))
    capfd.readouterr()


def test_a_node_whose_study_has_ended_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    plan = script(tmp_path, "", monkeypatch)
    monkeypatch.setattr(node, "command_of", lambda *_: [sys.executable, "-m", "xlt.fit"])
    monkeypatch.setenv(ADDRESS, str(tmp_path / "gone"))
    with pytest.raises(SystemExit) as ended:
        node.run(plan, "a")
    assert ended.value.code == STOPPED
    assert "the study that started this node has ended" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("29:50", 1790), ("1-02:03:04", 93784), ("4:00:00", 14400), ("UNLIMITED", None), ("", None)],
)
def test_the_time_that_a_job_has_left_is_asked_of_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, seconds: int | None
):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '{said}'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert node.job_seconds_left("7") == seconds
    assert node.job_seconds_left(None) is None
    squeue.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert node.job_seconds_left("7") is None


WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
time.sleep(600)
"""


def test_a_job_near_its_end_stops_its_node_and_is_put_back_into_the_queue(tmp_path: Path):
    for name, line in (("squeue", "echo 0:08"), ("scontrol", f"echo $* > {tmp_path}/told")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "waits.py").write_text(WAITS)
    plan = tmp_path / "plan.json"
    nodes = {"a": {"module": "waits", "config": "none", "parents": [], "checkpoint": None}}
    plan.write_text(
        json.dumps({"cwd": str(tmp_path), "folder": str(tmp_path), "started": 1.0, "nodes": nodes})
    )
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "xlt.studies.run.node", f"--plan={plan}", "--node=a"]
    done = subprocess.run(words, env=os.environ | own, check=False, cwd=tmp_path, capture_output=True)
    assert done.returncode == STOPPED
    assert (tmp_path / "told").read_text() == "requeue 7\n"


# The whole


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_runs_goes_on_past_a_failure_and_is_collected(make: Make, tmp_path: Path, capfd: Any):
    # What a shell would take apart has to reach each node whole.
    folder = tmp_path / "my runs; $HOME"
    keys = make(folder=folder, seeds=[0], volumes=[9], name="whole", selection={"xnli": 2})
    broken = tmp_path / "broken.yaml"
    config = yaml.safe_load(Path(keys["intermediate"]["mnli"]).read_text())
    broken.write_text(yaml.safe_dump(config | {"data": config["data"] | {"root": "nowhere"}}))
    keys["intermediate"] = {"mnli": keys["intermediate"]["mnli"], "broken": str(broken)}
    stop_after_a_checkpoint(keys, tmp_path)
    assert call(keys, tmp_path, jobs=2, retries=0) == 1
    made = Study(**keys)
    found = scores_of(made)
    assert list(found.columns) == COLUMNS
    assert set(found["intermediate"]) == {"none", "mnli"}
    assert set(found["target"]) == {"xnli", "tatoeba"}
    pairs = set(zip(found["intermediate"], found["volume"], strict=True))
    assert pairs == {("none", 0), ("mnli", 9)}
    check_each_score(made, found)
    check_missing(made)
    check_checkpoints(made)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.jsonl")}
    check_archive(keys, tmp_path)
    # The same command has run nothing that was finished.
    assert before == {path: path.stat().st_mtime_ns for path in before}
    capfd.readouterr()


def stop_after_a_checkpoint(keys: dict[str, Any], tmp_path: Path) -> None:
    """Begin the study, and tell it to stop once a run has begun: it ends with 75, and so has the run."""
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**keys, "folder": str(keys["folder"])}))
    words = [sys.executable, "-m", "xlt.study", f"--config={path}", "--retries=0"]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(keys["folder"].glob("intermediate-mnli*/lock")) and process.poll() is None:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(300) == STOPPED
    begun = json.loads(next(keys["folder"].glob("logs/intermediate-mnli*.json")).read_text())
    # It may have been done before it was told.
    assert begun["exit_code"] in (STOPPED, 0)
    assert not list(keys["folder"].glob("target-mnli*"))


def check_each_score(made: Study, found: pd.DataFrame) -> None:
    """Each score is the one in its evaluation's results."""
    for line in found.to_dict("records"):
        results = json.loads((made.folder / line["run"] / "results.json").read_text())
        assert results[line["target"]][line["language"]]["accuracy"] == pytest.approx(line["score"])
    named = next(name for name in made.nodes if is_finished(made.folder, name))
    save_page_url(made.folder / named, SimpleNamespace(url="https://wandb.example/run"))
    runs = runs_of(made)
    assert dict(zip(runs["name"], runs["wandb"], strict=True))[named] == "https://wandb.example/run"
    assert set(runs["wandb"]) == {"", "https://wandb.example/run"}
    assert set(runs["phase"]) == {"intermediate", "target", "evaluate"}
    assert (runs["hours"] > 0).all()
    assert (runs.loc[runs["phase"] != "evaluate", "tokens"] > 0).all()


def check_checkpoints(made: Study) -> None:
    """Both checkpoints of both runs are tested on both splits, and the report has their gap."""
    found = checkpoints_of(made)
    runs = found.groupby(["intermediate", "checkpoint", "split"]).size()
    assert set(runs.index) == {
        (arm, step, split) for arm in ("none", "mnli") for step in (2, 4) for split in ("test", "validation")
    }
    robustness = pd.read_csv(made.own_folder / "report" / "robustness.csv")
    assert "selection_gap" in set(robustness["measure"])
    assert len(pd.read_csv(made.own_folder / "report" / "checkpoints.csv")) == len(found)


def check_archive(keys: dict[str, Any], tmp_path: Path) -> None:
    """An archive of the study gives the same report in an empty folder."""
    archive = tmp_path / "nodes.zip"
    assert call(keys, tmp_path, jobs=2, retries=0, archive=archive) == 1
    elsewhere = keys | {"folder": tmp_path / "elsewhere"}
    assert call(elsewhere, tmp_path, report_only=True, archive=archive) == 1
    tables = [Study(**each).own_folder for each in (keys, elsewhere)]
    names = sorted(path.relative_to(tables[0]) for path in tables[0].rglob("*.csv"))
    assert Path("report/robustness.csv") in names
    for name in names:
        if name.name != "missing.csv":  # it names the logs
            assert (tables[1] / name).read_text() == (tables[0] / name).read_text(), name


def check_missing(made: Study) -> None:
    """The failed node says why, those after it wait."""
    nodes = [line for line in missing_of(made) if line.what in made.nodes]
    reasons = {name.split("-")[0]: (reason, log) for name, reason, log in nodes}
    assert set(reasons) == {"intermediate", "target", "evaluate"}
    assert "data root nowhere is not a folder" in reasons["intermediate"][0]
    assert Path(reasons["intermediate"][1]).is_file()
    assert reasons["target"][0].startswith("waits for intermediate-broken")
    assert not any(is_finished(made.folder, name) for name, *_ in nodes)
    cells = {line.what for line in missing_of(made)} - set(made.nodes)
    assert cells >= {"xnli sw (6 evaluations)", "xnli sw (4 evaluations)"}  # a reason a split
    assert (made.own_folder / "report" / "index.html").is_file()


def test_a_closed_terminal_stops_the_engine_unless_nohup_ignores_it(tmp_path: Path):
    program = (
        "import os, signal, sys, time; from pathlib import Path\n"
        f"saved = Path({str(tmp_path / 'saved')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (saved.touch(), sys.exit(75)))\n"
        "os.kill(os.getppid(), signal.SIGHUP); time.sleep({})"
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert engine._wait_for([sys.executable, "-c", program.format(600)], os.environ)
        assert (tmp_path / "saved").exists()
        (tmp_path / "saved").unlink()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert not engine._wait_for([sys.executable, "-c", program.format(0)], os.environ)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not (tmp_path / "saved").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's end")
def test_a_killed_study_takes_its_engine_down(tmp_path: Path):
    waits = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import os, sys; from xlt.studies.run import engine\n"
        f"engine._wait_for([sys.executable, '-c', {waits!r}], os.environ)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=REPOSITORY)
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    process.kill()
    process.wait()
    child = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    until = time.monotonic() + 30
    while child.is_file() and child.read_bytes() and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.is_file() or not child.read_bytes()


def test_ctrl_c_reaches_the_nodes_as_sigterm_and_ends_the_study_when_they_have_saved(tmp_path: Path):
    program = (
        "import os, signal, sys, time; from pathlib import Path\n"
        f"saved = Path({str(tmp_path / 'saved')!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (saved.touch(), sys.exit(75)))\n"
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    )
    with pytest.raises(KeyboardInterrupt):
        engine._wait_for([sys.executable, "-c", program], os.environ)
    assert (tmp_path / "saved").exists()

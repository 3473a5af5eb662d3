"""A study's folder may have any name: Snakemake, a shell, YAML and globs give some characters a meaning."""

import json
from pathlib import Path

import pytest
from benchmark_rows import write_root
from conftest import Command, StudyKeys, run
from scripted_nodes import PROFILE, run_script

from xlt.config.folder_name import escaped
from xlt.evaluate import evaluate
from xlt.studies.design.node_files import is_finished
from xlt.studies.design.plan import Study
from xlt.studies.run import engine

ODD = """a {1} {node} it's "q" [x] {{b}} 100% $HOME #1 `c` ü; *? back\\slash & ~ : d"""
"""Wildcards and format strings of Snakemake, quotes and words of a shell, YAML, globs, and other letters."""

WRITES = """
import json, pathlib, sys, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[1].removeprefix("--config=")).read_text(encoding="utf-8"))
template = config["trainer"]["default_root_dir"] if "trainer" in config else ""
# In a template, {{ and }} are braces.
folder = pathlib.Path(config.get("out") or template.replace("{{", "{").replace("}}", "}"))
folder.mkdir(parents=True, exist_ok=True)
(folder / "results.json").write_text("{}")
"""


@pytest.mark.parametrize("name", [ODD, "-x", "{1}", "null", "[1]", "~"])
def test_snakemake_runs_the_nodes_of_a_folder_of_any_name(
    name: str, tmp_path: Path, study_keys: StudyKeys, monkeypatch: pytest.MonkeyPatch
):
    run_script(WRITES, tmp_path, monkeypatch)
    keys = study_keys(folder=Path(name), targets={"tatoeba": None}, volumes=[9], seeds=[0])
    made = Study(**keys | {"intermediate": {"mnli": keys["intermediate"]["mnli"]}})
    assert len(made.nodes) == 3
    assert not engine.run(made, 1, 0, PROFILE)
    assert all(is_finished(made.folder, node) for node in made.nodes)
    assert {path.name for path in tmp_path.iterdir()} == {name, "scripted.py", PROFILE}


@pytest.mark.slow
@pytest.mark.parametrize("name", [ODD, "-x"])
def test_a_run_and_its_evaluation_are_kept_in_a_folder_of_any_name(
    name: str,
    tmp_path: Path,
    tiny_run: Command,
    samples: list[str],
    cache: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    root = Path(name, "root")
    root.mkdir()
    write_root(Path(samples[0]), root)
    folder = Path(name, "run")
    changes = {"data.tasks": "[mnli]", "trainer.max_steps": 2, "trainer.val_check_interval": 2}
    changes["trainer.default_root_dir"] = escaped(str(folder))
    config = Path(name, "evaluate.yaml")
    config.write_text(
        json.dumps(
            {"runs": [str(folder)], "out": str(Path(name, "out")), "tasks": ["xnli"], "root": str(root)}
            | {"cache": cache, "accelerator": "cpu", "max_length": 64, "stride": 16, "volume": 5}
        ),
        encoding="utf-8",
    )
    assert run(tiny_run(folder, changes)) == 0
    assert run([f"--config={config}"], evaluate) == 0
    assert (folder / "results.json").is_file()
    assert (Path(name, "out") / "results.json").is_file()

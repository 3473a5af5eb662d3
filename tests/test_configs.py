"""Every config parses against the signatures and opens with its command."""

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import NINE, REPOSITORY

import xlt.studies.design.plan
from xlt import study, tasks
from xlt.config.cli import ParsedCommandLine
from xlt.config.commands import MODULES
from xlt.evaluate import make_parser
from xlt.evaluation.groups import GROUPS
from xlt.splits.data_keys import vision_settings_of
from xlt.studies.design.plan import Study

CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


EVALUATED = [path for path in CONFIGS if path.parent.name == "evaluate"]
STUDIED = [path for path in CONFIGS if path.parent.name == "study"]
# A study's own recipes, which only the study completes.
RECIPES = [path for path in CONFIGS if path.parent.parent == REPOSITORY / "configs" / "study"]
TRAINED = [path for path in CONFIGS if path not in EVALUATED + STUDIED + RECIPES]


@pytest.mark.parametrize("path", EVALUATED, ids=name_of)
def test_config_of_an_evaluation_parses_against_the_signature(path: Path):
    parsed = make_parser().parse_args(["--config", str(path)])
    written = yaml.safe_load(path.read_text())
    assert {name: parsed[name] for name in written} | {"out": written["out"]} == written


@pytest.mark.parametrize("name", [name for group in GROUPS.values() for name in group])
def test_each_target_that_is_trained_has_a_config(name: str):
    path = REPOSITORY / "configs" / "target" / f"{name}.yaml"
    assert path.is_file() == tasks.load(name).needs_training
    if path.is_file():
        assert yaml.safe_load(path.read_text())["data"]["tasks"] == [name]


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
def test_config_parses_against_the_signatures(path: Path):
    config = ParsedCommandLine(["--config", str(path)]).config
    written = yaml.safe_load(path.read_text())
    assert config.data.tasks == written["data"]["tasks"]
    assert config.model.learning_rate == written["model"]["learning_rate"] > 0
    assert config.trainer.max_steps == written["trainer"]["max_steps"] > 0
    assert config.data.encoder == written["model"]["encoder"]
    assert 0 <= config.model.warmup_steps < config.trainer.max_steps
    assert config.trainer.val_check_interval <= config.trainer.max_steps


@pytest.mark.parametrize("path", [path for path in CONFIGS if path not in RECIPES], ids=name_of)
def test_config_opens_with_the_command_that_runs_it(path: Path):
    first = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# xlt (\w+) --config (\S+)", first)
    assert found
    assert found[2] == name_of(path)
    assert importlib.util.find_spec(MODULES[found[1]])
    kind = {"evaluate": "evaluate", "study": "study"}.get(path.parent.name, "fit")
    assert found[1] == kind


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_opens_with_the_study_that_uses_it(path: Path):
    first = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# Fine-tuning of (\w+); (\S+) sets the other keys\.", first)
    assert found
    assert yaml.safe_load(path.read_text())["data"]["tasks"] == [found[1]]
    targets = yaml.safe_load((REPOSITORY / found[2]).read_text())["targets"]
    assert targets[found[1]] == name_of(path)


@pytest.mark.parametrize("path", STUDIED, ids=name_of)
def test_each_run_and_evaluation_of_a_study_parses(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(xlt.studies.design.plan, "hash_of", lambda name: name)
    made = Study(**yaml.safe_load(path.read_text()) | {"folder": tmp_path})
    parsed = vars(study.make_parser().parse_args(["--config", str(path)]))
    assert parsed["volumes"] == made.volumes
    # The first of each kind: the others differ in seeds and volumes.
    first = {
        (node.phase, node.arm, node.targets): node for node in reversed(made.node_uses) if node.seed == 0
    }
    for node in first.values():
        if node.phase == "target" and node.arm != "none":
            continue
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(dict(node.settings)))
        if node.phase == "evaluate":
            make_parser().parse_args(["--config", str(config)])
        else:
            assert (
                ParsedCommandLine(["--config", str(config)]).config.data.tasks
                == node.settings["data"]["tasks"]
            )


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
def test_tasks_of_a_config_load(path: Path):
    for name in yaml.safe_load(path.read_text())["data"]["tasks"]:
        assert tasks.load(name).name == name


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
def test_a_config_of_tasks_with_images_names_a_vision_encoder(path: Path):
    config = yaml.safe_load(path.read_text())
    model, data = config["model"], config["data"]
    loaded = {name: tasks.load(name) for name in data["tasks"]}
    chosen = model.get("vision_encoder"), data.get("image_tokens", 49), model.get("vision_trainable", False)
    settings = vision_settings_of(loaded, *chosen, data.get("blind", False))
    assert (settings is not None) == ("vision_encoder" in model)


def test_each_of_the_nine_tasks_and_the_mixture_has_a_config():
    folder = REPOSITORY / "configs" / "intermediate"
    for name in NINE:
        assert yaml.safe_load((folder / f"{name}.yaml").read_text())["data"]["tasks"] == [name]
    mixture = yaml.safe_load((folder / "mixture.yaml").read_text())["data"]
    assert mixture["tasks"] == NINE
    # The paper's sampling: proportional to the number of examples, at most 2^17.
    assert (mixture["temperature"], mixture["cap"]) == (1, 2**17)


def test_quickstart_trains_the_nine_tasks_on_the_rows_of_the_repository():
    config = yaml.safe_load((REPOSITORY / "configs" / "quickstart.yaml").read_text())
    assert config["data"]["tasks"] == NINE
    for root in config["data"]["root"]:
        assert (REPOSITORY / root).is_dir()
    assert (REPOSITORY / config["model"]["encoder"] / "config.json").is_file()


def strings(config: Any) -> Iterator[str]:
    """All texts in a nested config."""
    if isinstance(config, str):
        yield config
    for below in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from strings(below)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_names_only_folders_of_the_repository_and_of_runs(path: Path):
    text = path.read_text(encoding="utf-8")
    made = {line.split()[-1] for line in all_configs().splitlines() if "default_root_dir: runs/" in line}
    made |= {f"runs/{config.stem}" for config in TRAINED}
    for name in strings(yaml.safe_load(text)):
        assert not re.match(r"\.|/|~", name), f"{path} names {name}, which a clone lacks"
        if re.match(r"(configs|encoders|samples|benchmarks|docs)/", name):
            # `make encoder` writes the folder that git ignores.
            assert (REPOSITORY / name).exists() or name == "encoders/e5-small", name
        if name.startswith("runs/"):
            # A run's folder is made by its config's command, or by the command in the comment.
            head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
            is_own = f"\nout: {name}\n" in text or f"\nfolder: {name}\n" in text
            assert name in made or name in head or is_own, name


def test_no_config_names_a_precision_that_is_slow_on_some_machines():
    named = re.findall(r"precision: (\S+)", all_configs())
    assert set(named) == {"auto"}


def all_configs() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in CONFIGS)


def test_no_tracked_file_names_a_folder_beside_the_repository():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout")
    beside = re.compile(r"\.\./shared|parent / \"shared\"")
    for name in listed.stdout.splitlines():
        path = REPOSITORY / name
        # Tests skip where it is absent.
        if (
            path.suffix in {".md", ".yaml", ".py", ".html", ".csv", ".sh", ".ipynb"}
            and path.parent.name != "tests"
        ):
            assert not beside.search(path.read_text(encoding="utf-8")), name

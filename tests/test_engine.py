"""The engine refuses a profile whose executor cannot run, before any node starts."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, StudyKeys

from xlt.studies.design.plan import Study
from xlt.studies.run import engine

find_spec = importlib.util.find_spec


def without_plugins(name: str, package: str | None = None) -> object:
    """Find a module, but no plugin of Snakemake."""
    return None if name.startswith("snakemake_executor_plugin_") else find_spec(name, package)


@pytest.mark.parametrize(
    ("executor", "wanted"),
    [
        ("slurm", r"pip install -e '\.\[slurm\]'"),
        ("my-grid", "pip install snakemake-executor-plugin-my-grid"),
    ],
)
def test_a_missing_plugin_is_one_line_before_anything_starts(
    tmp_path: Path, study_keys: StudyKeys, monkeypatch: pytest.MonkeyPatch, executor: str, wanted: str
):
    monkeypatch.setattr(engine, "find_spec", without_plugins)
    profile = tmp_path / "profile" / "config.yaml"
    profile.parent.mkdir()
    profile.write_text(f"executor: {executor}\njobs: 2\n")
    made = Study(**study_keys(folder=tmp_path / "runs"))
    with pytest.raises(ValueError, match=wanted) as refused:
        engine.run(made, None, 0, str(profile.parent))
    message = str(refused.value)
    assert message.startswith(
        f"executor '{executor}' in {profile} needs the package snakemake-executor-plugin-"
    )
    assert "\n" not in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("profile", [{"executor": "local"}, {"jobs": 2}, {"executor": "my-grid"}, None])
def test_an_executor_that_is_here_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: dict[str, object] | None
):
    (tmp_path / "snakemake_executor_plugin_my_grid").mkdir()
    (tmp_path / "snakemake_executor_plugin_my_grid" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    engine._check_executor(profile, Path("config.yaml"))


def test_the_profile_that_is_shipped_names_the_executor_of_the_extra():
    path = REPOSITORY / "scripts" / "slurm" / "study" / "config.yaml"
    assert yaml.safe_load(path.read_text())["executor"] == "slurm"

"""The command of a process as the user typed it."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from xlt.system.command_words import command_to_repeat, command_words

CONFIG = ["--config", "a b.yaml"]


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the programs python and xlt; no launcher."""
    for name in ("python", "xlt"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def process(monkeypatch: pytest.MonkeyPatch, typed: list[str], arguments: list[str]) -> None:
    """Let this process look as if a command had started it."""
    monkeypatch.setattr(sys, "orig_argv", typed)
    monkeypatch.setattr(sys, "argv", ["/somewhere/xlt/fit.py", *arguments])


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["{}/python", "{}/xlt", "fit"], ["xlt", "fit"]),
        (["/other/python", "venv/bin/xlt", "fit"], ["venv/bin/xlt", "fit"]),
        (["python", "-m", "xlt", "fit"], ["python", "-m", "xlt", "fit"]),
        (["{}/python", "-m", "xlt.fit"], ["python", "-m", "xlt.fit"]),
        (["/other/python", "-u", "-m", "xlt.fit"], ["/other/python", "-m", "xlt.fit"]),
        (["python", "mine.py"], ["python", "mine.py"]),
    ],
)
def test_the_words_are_those_that_the_user_typed(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str], words: list[str]
):
    process(monkeypatch, [word.format(bin_folder) for word in typed] + CONFIG, CONFIG)
    assert command_words() == [*words, *CONFIG]
    assert command_to_repeat() == " ".join([*words, "--config 'a b.yaml'"])


def test_the_fork_of_a_studys_launcher_is_named_by_its_module(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    process(monkeypatch, ["python", "-m", "xlt.studies.run.launcher", "--address", "x"], CONFIG)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("xlt.fit", None))
    assert command_words() == ["python", "-m", "xlt.fit", *CONFIG]


@pytest.mark.parametrize("variable", ["TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"])
def test_the_command_of_one_rank_is_not_to_be_repeated(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
):
    process(monkeypatch, ["python", "-m", "xlt.fit", *CONFIG], CONFIG)
    monkeypatch.setenv(variable, "1")
    assert command_to_repeat() == ""

"""One command, `xlt`: its help is fast, complete and true, and every way to start a command is the same."""

import re
import subprocess
import sys
import tomllib
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from jsonargparse import ArgumentParser

import xlt
from xlt import evaluate, list_encoders, list_tasks, study, study_dashboard, study_overview
from xlt.__main__ import make_parser
from xlt.config.cli import CommandLine, ParsedCommandLine
from xlt.config.commands import COMMANDS, MODULES, Section
from xlt.config.documented_keys import UNSUPPORTED_TRAINER_KEYS
from xlt.config.help import help_of, keys_of
from xlt.config.lightning_parts import NAMES
from xlt.config.signatures import Key, arguments_of, signature_of
from xlt.training.exporting import export_run
from xlt.wandb_sync import wandb_sync

SLOW = re.compile(r"\| +(torch|lightning|transformers|datasets|wandb|jsonargparse|numpy)$", re.MULTILINE)
"""Packages that take long to import, in the lines of `python -X importtime`."""


def xlt_command(*args: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, *options, "-m", *args]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def _a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def all_keys(command: str) -> dict[str, Key]:
    return {key.name: key for section in COMMANDS[command] for key in keys_of(section)}


# Speed


@pytest.mark.parametrize(
    "args", [["--version"], ["--help"], ["nonsense"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_imports_no_slow_package(args: list[str]):
    done = xlt_command("xlt", *args, options=("-X", "importtime"))
    assert done.returncode == (2 if args == ["nonsense"] else 0)
    assert "| argparse" in re.sub(" +", " ", done.stderr)
    assert not SLOW.findall(done.stderr)


# One command


def test_the_console_script_and_the_version_are_declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"xlt": "xlt.__main__:main"}
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "xlt.__version__"}
    assert xlt_command("xlt", "--version").stdout == f"xlt {xlt.__version__}\n"


def test_the_commands_help_lists_each_command_with_a_sentence():
    shown = make_parser().format_help()
    assert shown.startswith("usage: xlt COMMAND [--KEY VALUE ...]\n")
    for name in COMMANDS:
        assert re.search(rf"^    {name}\s+[A-Z]", shown, re.MULTILINE), name


def test_a_command_without_a_name_prints_the_help_and_fails():
    done = xlt_command("xlt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == xlt_command("xlt", "--help").stdout


@pytest.mark.parametrize(
    ("name", "hint"),
    [("fti", ": did you mean fit? "), ("evaluat", ": did you mean evaluate? "), ("qqq", ". ")],
)
def test_an_unknown_command_is_one_line_that_lists_the_known(name: str, hint: str):
    done = xlt_command("xlt", name, "--config", "x.yaml")
    assert done.returncode == 2
    assert done.stderr == f"error: unknown command {name}{hint}Commands: {', '.join(COMMANDS)}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_both_forms_of_a_command_print_the_same_help_with_one_form_of_usage(name: str):
    shown = xlt_command("xlt", name, "--help")
    assert shown.stdout == xlt_command(MODULES[name], "--help").stdout
    assert shown.stdout.startswith(f"usage: xlt {name} ")
    assert shown.stderr == ""


def test_the_usage_of_evaluate_says_that_a_config_is_optional():
    assert help_of("evaluate").startswith(
        "usage: xlt evaluate [--config FILE] --out PATH [--KEY VALUE ...]\n"
    )
    assert help_of("fit").startswith("usage: xlt fit --config FILE [--KEY VALUE ...]\n")


def test_a_dash_in_a_commands_name_is_an_underscore():
    assert xlt_command("xlt", "study-dashboard", "-h").stdout == help_of("study_dashboard")


@pytest.mark.slow
def test_both_forms_of_a_command_end_with_the_same_code_and_message(tmp_path: Path):
    args = ["--run", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    done, module = xlt_command("xlt", "export", *args), xlt_command("xlt.export", *args)
    assert done.returncode == module.returncode == 2
    assert done.stderr == module.stderr
    assert "is not a run's folder" in done.stderr


@pytest.mark.slow
def test_a_parser_of_its_own_prints_the_commands_help(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        wandb_sync(["--help"])
    assert capsys.readouterr().out == help_of("wandb_sync")
    with pytest.raises(SystemExit):
        CommandLine(["--help"])
    assert capsys.readouterr().out == help_of("fit")


@pytest.mark.slow
def test_the_help_of_a_class_has_the_form_of_usage_of_all_commands():
    done = xlt_command("xlt", "fit", "--trainer.callbacks.help", "EarlyStopping")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: xlt --trainer.callbacks.monitor MONITOR\n")


def test_the_parser_completes_keys_values_and_config_files():
    (commands,) = (action for action in make_parser()._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    assert list(commands.choices) == list(COMMANDS)
    actions = {action.dest: action for action in commands.choices["fit"]._actions}
    assert {f"{name}" for name in all_keys("fit")} <= set(actions)
    assert list(actions["trainer.precision"].choices or ()) == ["auto", "32-true", "64-true", "bf16-mixed"]
    assert actions["config"].complete["bash"] == "_shtab_compgen_files"  # pyright: ignore


# The help holds what the parsers do


def value_of(default: str | None) -> Any:
    """The value that a default's text stands for."""
    known = {None: None, "null": None, "true": True, "false": False}
    if default in known:
        return known[default]
    try:
        return eval(default or "''", {"__builtins__": {}})
    except (NameError, SyntaxError):
        return default


def parsers() -> dict[str, ArgumentParser]:
    config = ["--config", str(REPOSITORY / "configs" / "quickstart.yaml")]
    return {
        "fit": ParsedCommandLine(config).parser,
        "evaluate": evaluate.make_parser(),
        "study": study.make_parser(),
        "study_dashboard": study_dashboard.make_parser(),
        "study_overview": study_overview.make_parser(),
        "tasks": list_tasks.make_parser(),
        "encoders": list_encoders.make_parser(),
    }


LINKED = {"model.seed", "data.seed", "data.encoder", "data.vision_encoder", "data.vision_trainable"}
"""Keys that another key sets."""


def test_the_help_lists_the_keys_of_each_parser_with_their_defaults():
    for name, parser in parsers().items():
        real = vars(parser.get_defaults(skip_validation=True).as_flat())
        keys = all_keys(name)
        unsupported = {f"trainer.{key}" for key in UNSUPPORTED_TRAINER_KEYS}
        assert set(real) - LINKED - unsupported - {"config"} == set(keys) - {"print_config", "config"}, name
        for key in set(keys) & set(real) - {"config", "names"}:
            expected = str(real[key]) if isinstance(real[key], Path) else real[key]
            assert value_of(keys[key].default) in (expected, {} if expected is None else expected) or (
                key == "trainer.max_steps" and keys[key].default is None
            ), key


def test_the_help_of_an_export_lists_its_parameters():
    parameters = signature(export_run).parameters
    assert list(all_keys("export")) == list(parameters)


def test_the_help_offers_no_name_that_a_key_of_the_trainer_refuses():
    for key, values in NAMES.items():
        shown = re.search(rf"--trainer.{key} {{(.*?)}}", help_of("fit", is_full=True))
        assert shown
        assert {name for name in shown[1].split(",") if values[name]} == set(), "a refused name is offered"


def test_the_help_has_xlts_keys_first_and_the_rest_of_the_trainer_on_demand():
    short, full = help_of("fit"), help_of("fit", is_full=True)
    titles = re.findall(r"^([a-z, ]+):$", short, re.MULTILINE)
    assert titles == ["run", "model", "data", "checkpoints", "preemption", "wandb", "trainer"]
    assert "--trainer.strategy" not in short
    assert "--trainer.strategy" in full
    assert "--help=all" in short
    assert len(short.splitlines()) < 280
    assert xlt_command("xlt", "fit", "--help=all").stdout == full
    for key, instead in UNSUPPORTED_TRAINER_KEYS.items():
        assert f"--trainer.{key}" not in full
        assert f"trainer.{key}: {instead}." in " ".join(full.split())


FOREIGN = re.compile(r"``|:\w+:`|Lightning Trainer command line tool|Customize every|TPU|Union\[|<class")
"""Words of Lightning's and jsonargparse's own help."""


def entries(shown: str) -> dict[str, str]:
    """Text of the help by key."""
    parts = re.split(
        r"^  (--\S+|-h, --help|[A-Z]+(?= ))(?: (?:\[.*\]|\{.*?\}|[A-Z|]+))*", shown, flags=re.MULTILINE
    )
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_line_of_the_help_stands_alone(command: str):
    shown = help_of(command, is_full=True)
    assert not FOREIGN.findall(shown)
    found = entries(shown)
    names = [name.upper() if key.is_positional else f"--{name}" for name, key in all_keys(command).items()]
    assert set(names) <= set(found)
    for name in names:
        text = found[name]
        assert re.search(r"[.)](\s|$)", text), (name, text)
        is_stated = re.search(r"[Dd]efault|[Rr]equired|If null", text)
        assert is_stated or name in ("--config", "--print_config", "RUNS", "NAMES"), (name, text)


# Reading of signatures


def test_keys_are_read_from_a_source_file_that_is_not_run():
    found = signature_of("xlt.config.settings", "WandbSettings")
    assert found.title.startswith("Labels of the run at Weights & Biases.")
    assert found.keys[0] == Key("project", "Name of the W&B project. Defaults to xlt.", "str", "xlt")
    assert [key.name for key in found.keys] == ["project", "group", "job_type", "tags"]
    dry_run = next(key for key in arguments_of("xlt.study") if key.name == "dry_run")
    assert (dry_run.annotation, dry_run.default) == ("bool", "false")
    with pytest.raises(LookupError, match=r"xlt\.config\.settings has no Nothing"):
        signature_of("xlt.config.settings", "Nothing")


def test_a_section_may_have_defaults_of_its_own():
    section = Section("w", "xlt.config.settings", "WandbSettings", "wandb.", ("tags",), {"job_type": "mine"})
    assert {key.name: key.default for key in keys_of(section)} == {
        "wandb.project": "xlt",
        "wandb.group": "null",
        "wandb.job_type": "mine",
    }

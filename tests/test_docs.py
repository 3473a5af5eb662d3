"""The README and the pages of docs/: their commands parse, their Python runs, and what they name exists."""

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from jsonargparse import ArgumentParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_language import REFUSED

import xlt
from xlt.config.cli import ParsedCommandLine
from xlt.config.commands import MODULES
from xlt.training.exporting import export_run

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
MADE = ("encoders/e5-small",)
"""Paths that a command makes."""
FOLDERS = "benchmarks|configs|docs|encoders|notebooks|samples|scripts|tests|xlt"


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone, with the files of a user that pages name."""
    for name in ("configs", "encoders", "samples", "scripts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "mine.yaml").write_text("data: {cap: 1000}\n")
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "scitail.py").write_text(blocks(DOCS / "add-a-task.md")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(page: Path) -> list[str]:
    """The Python that a page shows."""
    return re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of xlt that a page shows: its name and its arguments."""
    lines = text_of(page).replace("\\\n", "")
    for line in re.findall(r"^ +(?:\$ )?(?:python -m xlt\.|xlt )(\w+ .*)", lines, re.MULTILINE):
        name, *args = shlex.split(line, comments=True)
        yield name, args


def parse(name: str, args: list[str]) -> None:
    """Parse the arguments of a command as the command does."""
    if name in ("fit", "prepare"):
        ParsedCommandLine(args)
    elif name == "export":
        parser = ArgumentParser(exit_on_error=False)
        parser.add_function_arguments(export_run, as_positional=False)
        parser.parse_args(args)
    elif name == "wandb_sync":
        assert [Path(arg).parts[0] for arg in args] == ["runs"]
    else:
        importlib.import_module(MODULES[name]).make_parser().parse_args(args)


@each_page
@pytest.mark.usefixtures("clone")
def test_commands_parse(page: Path):
    for name, args in commands(page):
        parse(name, args)


def test_the_readme_and_the_tutorial_show_the_main_commands():
    for page in (README, DOCS / "tutorial.md"):
        assert {"fit", "evaluate"} <= {name for name, _ in commands(page)}


@each_page
def test_modules_and_make_targets_exist(page: Path):
    for module in re.findall(r"python (?:-u )?-m ((?:xlt|scripts|benchmarks|tests)[\w.]*)", text_of(page)):
        assert importlib.util.find_spec(module.rstrip(".")), module
    targets = re.findall(r"^([a-z][\w-]*):", text_of(REPOSITORY / "Makefile"), re.MULTILINE)
    shown = re.findall(r"(?:^ +|`)make ([a-z][\w-]*)", text_of(page), re.MULTILINE)
    assert set(shown) <= set(targets)


@each_page
def test_paths_exist(page: Path):
    for name in re.findall(rf"(?<![\w/.~>-])((?:{FOLDERS})/[\w./*-]*\w)", text_of(page)):
        assert (REPOSITORY / name).exists() or name.startswith(MADE), name


@each_page
def test_links_lead_to_files(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not re.match(r"https?://|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@each_page
def test_pages_are_plain_english(page: Path):
    assert REFUSED.findall(text_of(page)) == []


@pytest.mark.parametrize("page", PAGES[1:], ids=name_of)
def test_a_page_answers_a_question_and_is_in_the_menu(page: Path):
    assert re.fullmatch(r"# .+\?", text_of(page).splitlines()[0])
    assert name_of(page) in text_of(REPOSITORY / "mkdocs.yml")


def test_the_menu_names_pages_that_exist():
    def pages(menu: Any) -> Iterator[str]:
        for entry in menu.values() if isinstance(menu, dict) else menu:
            yield from [entry] if isinstance(entry, str) else pages(entry)

    found = list(pages(yaml.safe_load(text_of(REPOSITORY / "mkdocs.yml"))["nav"]))
    assert found[0] == "README.md"
    for name in found:
        assert (REPOSITORY / name).is_file(), name


def test_the_readme_is_short_and_begins_with_the_heat_map():
    lines = text_of(README).splitlines()
    assert len(lines) <= 150
    picture = next(line for line in lines if line.startswith("!["))
    assert not [line for line in lines[: lines.index(picture)] if line.startswith("##")]
    assert "docs/figures/quickstart.png" in picture


def test_the_tree_names_the_folders_that_exist():
    tree = text_of(DOCS / "architecture.md").split("\n## ", 1)[0]
    named = set(re.findall(r"^    ([\w/]+)/(?=\s)", tree, re.MULTILINE))
    rooms = set(re.findall(r"^      (\w+)/(?=\s)", tree, re.MULTILINE))
    for path in named:
        assert (REPOSITORY / path).is_dir(), path
    assert named >= {"xlt", "configs", "docs", "samples", "tests"}
    assert rooms == {path.parent.name for path in (REPOSITORY / "xlt").glob("*/__init__.py")}


@pytest.mark.slow
@pytest.mark.usefixtures("samples")
def test_the_python_of_the_readme_and_of_the_models_page_runs(clone: Path):
    (code,) = blocks(README)
    assert len(code.splitlines()) <= 8
    asked = '"--name", "tags"]'
    assert asked in code
    fewer_steps = '"--name", "tags", "--trainer.max_steps", "20", "--trainer.val_check_interval", "20"]'
    use = "\n".join(blocks(DOCS / "use-the-model.md"))
    assert "runs/small/udpos" in use
    exports = "".join(
        f'export_run(Path("runs/small/tags"), Path("runs/exported/{folder}"), head="{head}")\n'
        for folder, head in (("udpos", "udpos"), ("sentences", "tatoeba"))
    )
    exports = f"from pathlib import Path\nfrom xlt.training.exporting import export_run\n{exports}"
    whole = code.replace(asked, fewer_steps) + exports + use.replace("runs/small/udpos", "runs/small/tags")
    own = 'print(len(report.by_task["udpos"]), states.shape[-1])'
    done = subprocess.run(
        [sys.executable, "-c", whole + own], capture_output=True, text=True, check=False, cwd=clone
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "28 256"


def test_the_lock_of_the_docs_pins_all_that_the_extra_names():
    lines = text_of(REPOSITORY / "requirements-docs.lock").split()
    pinned = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    for line in PROJECT["project"]["optional-dependencies"]["docs"]:
        requirement = Requirement(line)
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_citation_names_this_version_and_the_paper():
    cited = yaml.safe_load(text_of(REPOSITORY / "CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["version"] == xlt.__version__
    assert cited["license"] == PROJECT["project"]["license"]
    assert "2005.13013" in cited["references"][0]["url"]


def test_the_package_says_that_it_is_typed():
    assert (REPOSITORY / "xlt" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["xlt"]

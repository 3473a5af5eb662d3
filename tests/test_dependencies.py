"""Every package that is imported is declared in pyproject.toml, and the lock files hold what is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    extra: [Requirement(line) for line in lines] for extra, lines in PROJECT["optional-dependencies"].items()
}

STUDY = ("xlt/studies", "xlt/study.py", "xlt/study_dashboard.py", "xlt/study_overview.py")
"""Files that may import the packages of the extra `study`."""

VISION = ("xlt/models/encoders/efficientnet.py", "xlt/evaluation/perturbations/corruption.py")
"""Files that may import the packages of the extra `vision`."""

LORA = ("xlt/models/lora.py",)
"""Files that may import the package of the extra `lora`."""

USED_WITHOUT_IMPORT = {
    "accelerate": "transformers.Trainer imports it",
    "basedpyright": "a command",
    "beartype": "jaxtyping imports it by name",
    "import-linter": "a command",
    "ipykernel": "the kernel of the notebook",
    "language-data": "langcodes imports it",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a command",
    "snakemake": "runs as `python -m snakemake`",
    "snakemake-executor-plugin-slurm": "a plugin of Snakemake",
}
"""Declared packages that no file imports, and what uses them."""


def imported(folders: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Top-level names of the packages that Python files import, with the file."""
    for folder in folders:
        root = REPOSITORY / folder
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (
                        (alias.name.split(".")[0], path.relative_to(REPOSITORY)) for alias in node.names
                    )
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    yield node.module.split(".")[0], path.relative_to(REPOSITORY)


def declared(*extras: str) -> set[str]:
    """Canonical names of the packages that an installation with the extras asks for."""
    lines = [*BASE, *(requirement for extra in extras for requirement in EXTRAS[extra])]
    return {canonicalize_name(requirement.name) for requirement in lines}


INSTALLED = packages_distributions()
OWN = {path.stem for path in (REPOSITORY / "tests").rglob("*.py")} | {"xlt", "tests", "benchmarks", "scripts"}


def third_party(folders: Iterable[str]) -> Iterator[tuple[set[str], Path]]:
    """The distributions that each import may come from, with the file."""
    for name, path in imported(folders):
        if name not in sys.stdlib_module_names and name not in OWN:
            yield {canonicalize_name(found) for found in INSTALLED.get(name, [name])}, path


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("xlt",), ()),
        (STUDY, ("study",)),
        (VISION, ("vision",)),
        (LORA, ("lora",)),
        (("tests", "benchmarks", "scripts"), ("study", "vision", "lora", "dev")),
    ],
)
def test_every_import_is_of_a_declared_package(folders: tuple[str, ...], extras: tuple[str, ...]):
    known = declared(*extras)
    undeclared = {
        f"{path}: {', '.join(sorted(names))}"
        for names, path in third_party(folders)
        if not names & known and (extras or not path.as_posix().startswith(STUDY + VISION + LORA))
    }
    assert undeclared == set()


def test_every_declared_package_is_used():
    used = set[str]().union(*(names for names, _ in third_party(("xlt", "tests", "benchmarks", "scripts"))))
    assert declared("study", "slurm", "vision", "lora", "dev") - used == set(USED_WITHOUT_IMPORT)


@pytest.mark.parametrize("name", ["lightning", "torch", "transformers", "jsonargparse"])
def test_libraries_whose_private_parts_are_used_have_upper_bounds(name: str):
    (requirement,) = (found for found in BASE if found.name == name)
    assert any(specifier.operator == "<" for specifier in requirement.specifier)


def test_the_oldest_supported_versions_are_allowed():
    by_name = {requirement.name: requirement.specifier for requirement in BASE}
    assert "2.11.0" in by_name["torch"]
    assert "5.17.0" in by_name["transformers"]
    assert "2.6.0" in by_name["lightning"]


def pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text().split()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def needed(requirements: Iterable[Requirement]) -> Iterator[Requirement]:
    """The requirements and, as the installed packages declare them, all that these need."""
    seen: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        yield requirement
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                try:
                    lines = distribution(name).requires or []
                except PackageNotFoundError:
                    continue
                waiting += [(Requirement(line), wanted) for line in lines]


OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")
"""Packages that torch needs on CUDA alone; pip installs them without a pin."""


@pytest.mark.parametrize(
    ("requirements", "locks"),
    [
        (BASE, ("requirements.lock",)),
        (
            [*BASE, *(package for extra in ("study", "vision", "lora", "dev") for package in EXTRAS[extra])],
            ("requirements.lock", "requirements-dev.lock"),
        ),
    ],
)
def test_the_locks_pin_all_that_is_needed(requirements: list[Requirement], locks: tuple[str, ...]):
    pinned = {name: version for lock in locks for name, version in pins(lock).items()}
    wrong = {
        str(requirement)
        for requirement in needed(requirements)
        if not OF_CUDA.match(requirement.name)
        and pinned.get(canonicalize_name(requirement.name), "0") not in requirement.specifier
    }
    assert wrong == set()


def test_the_first_lock_pins_nothing_that_is_not_needed():
    names = {canonicalize_name(requirement.name) for requirement in needed(BASE)}
    assert set(pins("requirements.lock")) <= names
    assert not set(pins("requirements.lock")) & set(pins("requirements-dev.lock"))

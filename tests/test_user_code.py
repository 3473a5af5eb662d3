"""The key of encoded rows sees a user's code: its task, its kind, and what they import."""

import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.splits.splits import Splits
from xlt.splits.user_code import held_by, user_code
from xlt.tasks import load

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")

FILES = {
    "ownlab/__init__.py": "",
    "ownlab/kind.py": """
from dataclasses import dataclass
from xlt.kinds import Classification
from .numbers import SCALE

@dataclass(frozen=True, kw_only=True)
class Own(Classification):
    pass
""",
    "ownlab/numbers.py": "SCALE = 1\n",
    "ownlab/texts.py": """
import json
import numpy
from ownlab import words

def clean(text):
    from . import late
    return words.lower(text)
""",
    "ownlab/words.py": "def lower(text):\n    return text.lower()\n",
    "ownlab/late.py": "x = 1\n",
    "ownlab/unused.py": "x = 1\n",
    "ownlab/factory.py": """
from xlt.data.examples import TextPair

def reader(column):
    def read(row):
        return TextPair(row[column], "", row["label"])
    return read
""",
    "ownlab/task.py": """
from ownlab.kind import Own
from ownlab.texts import clean
from xlt.data.examples import TextPair
from xlt.data.sources import Local

def read(row):
    return TextPair(clean(row["a"]), "", row["label"])

TASK = Own(source=Local("own", "Ask."), read=read, labels=("x", "y"))
""",
    "ownlab/made.py": """
from ownlab.factory import reader
from xlt.data.sources import Local
from xlt.kinds import Classification

TASK = Classification(source=Local("own", "Ask."), read=reader("a"), labels=("x", "y"))
""",
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a user's own."""
    for name, text in FILES.items():
        path = tmp_path / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "lab"))
    forget()
    yield tmp_path / "lab" / "ownlab"
    forget()


def forget() -> None:
    """Import the package anew the next time, as another process would."""
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] == "ownlab"]:
        del sys.modules[name]


def folder_of(name: str) -> str:
    """The name of the folder of a task's encoded rows, in a fresh process."""
    forget()
    text = TextEncoder(load_tokenizer(MINI), 64, 16)
    return Splits([], Path("cache"), text).folder(load(name), "train", []).name


def change(path: Path, old: str = "", new: str = "# changed\n") -> None:
    """Replace text of a file, or add to it."""
    text = path.read_text()
    path.write_text(text.replace(old, new) if old else text + new)


@pytest.mark.parametrize("file", ["task", "kind", "numbers", "texts", "words", "late", "__init__"])
def test_a_change_of_what_the_task_needs_makes_other_encoded_rows(file: str, lab: Path) -> None:
    before = folder_of("ownlab.task")
    assert folder_of("ownlab.task") == before
    change(lab / f"{file}.py")
    assert folder_of("ownlab.task") != before


@pytest.mark.parametrize("file", ["unused", "made"])
def test_a_change_of_what_it_does_not_need_makes_none(file: str, lab: Path) -> None:
    before = folder_of("ownlab.task")
    change(lab / f"{file}.py")
    assert folder_of("ownlab.task") == before


def test_a_read_that_is_made_in_another_module_counts_with_what_it_was_made_of(lab: Path) -> None:
    found = {folder_of("ownlab.made")}
    change(lab / "made.py", 'reader("a")', 'reader("b")')
    found.add(folder_of("ownlab.made"))
    change(lab / "factory.py")
    found.add(folder_of("ownlab.made"))
    assert len(found) == 3


def test_code_that_is_installed_or_of_xlt_does_not_count(lab: Path) -> None:
    task = load("ownlab.task")
    names = {path.name for path in user_code(task, task.module)}
    assert names == {"__init__.py", "task.py", "kind.py", "numbers.py", "texts.py", "words.py", "late.py"}


def test_a_task_of_xlt_counts_with_the_task_that_it_reads_like() -> None:
    task = load("mlqa")
    assert [path.name for path in user_code(task, task.module)] == ["mlqa.py", "squad_v1.py"]


def test_the_values_that_a_function_holds_are_told_apart() -> None:
    def read(row: Any, column: Any = "a", *, scale: float = 1.0) -> Any:
        return row[column] * scale

    assert held_by(read) != held_by(partial(read, column="b")) != held_by(partial(read, column="c"))
    assert held_by(partial(read, scale=2.0)) == held_by(partial(read, scale=2.0))
    # An address would be another one in each process.
    assert not any(" at 0x" in text for text in held_by(partial(read, column=object())))

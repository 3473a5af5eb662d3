"""Docstrings and messages are plain English (shared style guide: "Writing: plain English").

A test per file of xlt, so that a failure names the file, the line and the words.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

FILES = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "xlt").rglob("*.py"))

FIRST_WORDS = re.compile(r"(What|Where|Whether|Of|How many|Which|Who|That|Those)\b")
"""Words that no docstring begins with: they point into another sentence."""

REFUSED = re.compile(
    r"\bverbs?\b"
    r"|\btold to stop\b"
    r"|\bgo(es|ing)? on (where|from|until|with|when|counting)\b|\b(run|command|study|training) goes on\b"
    r"|\bso many\b"
    r"|\b(where|if) not given\b|\bwhere none (is|are)\b"
    r"|\b(is|are) none of\b"
    r"|\bthe (two )?seams?\b"
    r"|\bhow-manieth\b"
    r"|\bthat there (is|are)\b"
    r"|\bmend(s|ed)?\b",
    re.IGNORECASE,
)
"""Words that no docstring and no message contains. The style guide names the plain ones."""


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, those below constants and attributes included."""
    owners = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        body = node.body if isinstance(node, owners) else []
        for above, below in zip([None, *body], body, strict=False):
            is_documented = above is None or isinstance(above, ast.Assign | ast.AnnAssign)
            if is_documented and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                yield below.lineno, str(below.value.value)


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring and message. A text without a space is a key, not a message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def problems(source: str) -> list[tuple[int, str]]:
    """Return line and words of each fault of a module's language, by line."""
    tree = ast.parse(source)
    found = [
        (line, match[0]) for line, text in docstrings(tree) if (match := FIRST_WORDS.match(text.lstrip()))
    ]
    for line, text in texts(tree):
        found += [
            (line + text[: match.start()].count("\n"), " ".join(match[0].split()))
            for match in REFUSED.finditer(text)
        ]
    return sorted(set(found))


def test_bad_language_is_found_with_its_line():
    source = (
        '"""What a module does."""\n'
        "LIMIT = 1\n"
        '"""Whether it holds."""\n'
        "class Run:\n"
        '    """A run.\n'
        "\n"
        "    The run goes on.\n"
        '    """\n'
        "    def stop(self):\n"
        '        """Of the verb."""\n'
        "        self.is_told = True\n"
        '        """Where it stands."""\n'
        '        raise ValueError(f"{self} is none of the seams")\n'
    )
    assert problems(source) == [
        (1, "What"),
        (3, "Whether"),
        (7, "run goes on"),
        (10, "Of"),
        (10, "verb"),
        (12, "Where"),
        (13, "is none of"),
        (13, "the seams"),
    ]


def test_plain_english_passes():
    source = (
        '"""Resume a run."""\n'
        "def whatever():\n"
        '    """Return the number of verbatim words: Whether is no first word here.\n'
        "\n"
        "    What follows may begin any later sentence.\n"
        '    """\n'
        '    return {"verb": 1, "Offset": "Officer"}\n'
    )
    assert problems(source) == []


@pytest.mark.parametrize("file", FILES)
def test_docstrings_and_messages_are_plain_english(file: str):
    found = problems(Path(REPOSITORY, file).read_text(encoding="utf-8"))
    assert not found, "\n".join(f"{file}:{line}: {words}" for line, words in found)

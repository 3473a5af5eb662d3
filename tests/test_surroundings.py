"""A terminal of any encoding takes the output, a user needs no home, and files are UTF-8 in every locale."""

import ast
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark_rows import write_root
from conftest import REPOSITORY, Command, run

from xlt.evaluate import evaluate
from xlt.evaluation.report import NONE
from xlt.system import surroundings

COMMANDS = ("fit", "study", "studies.run.node")


def python(args: list[str], **environment: str | None) -> subprocess.CompletedProcess[bytes]:
    """Run Python in the repository, with variables to set or (None) to leave out."""
    own = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    given = {key: value for key, value in own.items() if value is not None}
    command = [sys.executable, *args]
    return subprocess.run(command, env=given, capture_output=True, cwd=REPOSITORY, check=False)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "cp437", "utf-8", "koi8-r"])
def test_a_character_that_the_terminal_lacks_is_spelled(encoding: str):
    program = "import xlt; print('a – ü ж \\udcff')"
    done = python(["-c", program], PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(encoding)
    expected = {
        "latin-1": r"a - ü \u0436",
        "ascii": r"a - \xfc \u0436",
        "cp1252": r"a – ü \u0436",
        "cp437": r"a - ü \u0436",
        "utf-8": "a – ü ж",
        "koi8-r": r"a - \xfc ж",
    }
    assert said.strip() == expected[encoding] + r" \udcff"


def test_a_terminal_whose_errors_the_user_chose_stays_as_it_is(monkeypatch: pytest.MonkeyPatch):
    chosen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    strict = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", chosen)
    monkeypatch.setattr(sys, "stderr", strict)
    surroundings.print_anywhere()
    assert chosen.errors == "replace"
    assert strict.errors == surroundings.PLAIN


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_is_printed_in_a_posix_locale(command: str):
    done = python(
        ["-m", f"xlt.{command}", "--help"],
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING=None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"usage" in done.stdout


def test_an_evaluation_with_missing_languages_is_shown_on_a_latin1_terminal(
    tmp_path: Path, encoder_with_weights: str, samples: list[str], cache: str, monkeypatch: pytest.MonkeyPatch
):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    surroundings.print_anywhere()
    root = tmp_path / "root"
    root.mkdir()
    write_root(Path(samples[0]), root)
    args = [f"--out={tmp_path}/ж", f"--encoder={encoder_with_weights}", "--tasks=[tatoeba]"]
    args += [f"--root=[{root}]", f"--cache={cache}", "--accelerator=cpu"]
    assert run(args, evaluate) == 0
    terminal.flush()
    assert isinstance(terminal.buffer, io.BytesIO)
    said = terminal.buffer.getvalue().decode("latin-1")
    assert NONE not in said
    assert r"\u0436" in said


@pytest.mark.parametrize("home", [None, "", "~", "here"])
def test_without_a_home_nothing_is_written_to_the_working_directory(home: str | None, tmp_path: Path):
    program = (
        "import os, pwd\n"
        "def unknown(_): raise KeyError\n"
        "pwd.getpwuid = unknown\n"
        "import xlt\n"
        "from datasets import config\n"
        "print(os.path.expanduser('~'), config.HF_CACHE_HOME)"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    unset = dict.fromkeys(("HF_HOME", "XDG_CACHE_HOME", "HF_DATASETS_CACHE"))
    done = python(["-c", program], HOME=home, TMPDIR=str(scratch), **unset)
    assert done.returncode == 0, done.stderr
    found, cache = done.stdout.decode().split()
    if home == "":  # which Python takes for the root
        assert found == "/"
        return
    assert found == str(scratch / f"xlt-home-{os.getuid()}")
    assert cache.startswith(found)
    assert b"This user has no home: caches go to" in done.stderr
    assert Path(found).stat().st_mode & 0o777 == 0o700


def test_a_home_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    surroundings.have_home()
    assert os.environ["HOME"] == str(tmp_path)


MODES = ("r", "w", "a", "x")


def calls_without_encoding(source: str) -> Iterator[int]:
    """Lines that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        keywords = {keyword.arg for keyword in node.keywords}
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        mode = [text for text in texts if text and set(text) <= set("rwaxbt+")]
        is_text = {
            "read_text": True,
            "write_text": True,
            "makefile": "b" not in "".join(mode),
            # `open` of a Path without arguments is of text; so is that of a mode without b.
            "open": (not node.args and not keywords) or any("b" not in text for text in mode),
            "fdopen": any("b" not in text for text in mode) or len(node.args) == 1,
            "NamedTemporaryFile": any("b" not in text for text in mode),
            "TemporaryFile": any("b" not in text for text in mode),
            "run": "text" in keywords,
            "Popen": "text" in keywords,
        }.get(name, False)
        if is_text and "encoding" not in keywords:
            yield node.lineno


def test_a_call_without_encoding_is_found():
    bad = "p.read_text()\np.write_text('a')\np.open()\np.open('w')\nopen(p, 'a')\nrun([], text=True)\n"
    good = "p.read_text(encoding='utf-8')\np.open('rb')\nsource.open('train', roots)\nrun([])\n"
    assert list(calls_without_encoding(bad + good)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("folder", ["xlt", "scripts"])
def test_every_file_is_read_and_written_as_utf8(folder: str):
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for line in calls_without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_a_config_and_a_root_that_are_not_ascii_work_in_a_posix_locale(tmp_path: Path, tiny_run: Command):
    config = tmp_path / "config.yaml"
    config.write_text("# größer\nwandb: {group: größer}\n", encoding="utf-8")
    args = [f"--config={config}", *tiny_run(tmp_path / "run", {"data.tasks": "[mnli]"}), "--print_config"]
    done = python(["-m", "xlt.fit", *args], LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfer" in done.stdout or "größer".encode() in done.stdout

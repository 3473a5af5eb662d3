"""Encoded rows of every kind of task are the stored ones, unless a version says that they have changed.

`python tests/test_encoded_rows.py` stores the digests again, after a version has been raised.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

import xlt.kinds
import xlt.tasks
from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sources import RawSplit
from xlt.kinds.task import Task
from xlt.splits import cache, user_code
from xlt.splits.cache import key_of, versions_of
from xlt.splits.encoding import encode_split

REPOSITORY = Path(__file__).parents[1]
STORED = Path(__file__).parent / "data" / "encoded_rows.json"
"""Rows of a task of each kind, the versions of the code that encoded them, and the digest of the result."""

CASES: dict[str, dict[str, Any]] = json.loads(STORED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    return encoder()


def encoder() -> TextEncoder:
    return TextEncoder(load_tokenizer(str(REPOSITORY / "encoders" / "mini")), 64, 16)


def raw_split(name: str, rows: list[Mapping[str, Any]]) -> RawSplit:
    """Rows as the file has them, but for images, which stand there in hexadecimal digits."""
    given = [{k: bytes.fromhex(v) if k == "image" else v for k, v in row.items()} for row in rows]
    return RawSplit(name, name, None, "rows", lambda: Dataset.from_list(given))


def digest_of(name: str, text: TextEncoder, folder: Path) -> str:
    """Hash of all files of the task's encoded rows."""
    found = encode_split(tasks.load(name), [raw_split(name, CASES[name]["rows"])], text, folder)
    facts = [found.meta.content, found.references(), found.meta.labels, found.meta.examples]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_rows_change_only_with_a_version(name: str, text: TextEncoder, tmp_path: Path) -> None:
    case, versions = CASES[name], versions_of(tasks.load(name))
    digest = digest_of(name, text, tmp_path / "encoded")
    if versions == case["versions"]:
        assert digest == case["digest"], (
            f"the encoded rows of {name} have changed under the same versions {versions}: every user's cache "
            "would keep the old rows. Raise the version beside the code that you changed (READING_VERSION, "
            "ENCODING_VERSION, FEATURES_VERSION, or the kind's encoding_version), then run "
            "python tests/test_encoded_rows.py"
        )
    else:
        pytest.fail(
            f"{STORED.name} has the rows of {name} for {case['versions']}, but the code has {versions}. Run "
            "python tests/test_encoded_rows.py and commit the file"
        )


def test_the_rows_are_of_every_kind() -> None:
    assert {type(tasks.load(name)).__name__ for name in CASES} == set(xlt.kinds.__all__)


def key(task: Task[Any], text: TextEncoder, code: list[Path]) -> str:
    return key_of(task, [raw_split("rows", [])], text, code)


def test_a_version_changes_the_key(text: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.load("mnli")
    found = {key(task, text, [])}
    for name in ("READING_VERSION", "ENCODING_VERSION", "FEATURES_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, 1000)
            found.add(key(task, text, []))
    monkeypatch.setattr(type(task), "encoding_version", 1000)
    found.add(key(task, text, []))
    assert len(found) == 5


@pytest.mark.parametrize("name", ["pad_token", "unk_token"])
def test_a_special_token_that_is_missing_changes_the_key(text: TextEncoder, name: str) -> None:
    other = copy.deepcopy(text)
    setattr(other.tokenizer, name, None)
    task = tasks.load("mnli")
    assert other.definition == text.definition
    assert key(task, other, []) != key(task, text, [])


def test_a_comment_or_a_docstring_of_a_task_of_xlt_changes_no_key(
    text: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "xlt" / "tasks"
    folder.mkdir(parents=True)
    path = Path(shutil.copy(Path(xlt.tasks.__file__).parent / "panx.py", folder))
    monkeypatch.setattr(user_code, "_XLT", tmp_path / "xlt")
    task, source = tasks.load("panx"), path.read_text()
    before = key(task, text, [path])
    path.write_text(
        "# A comment.\n" + source.replace('"""', '"""New: ', 1).replace('"""Tags in ', '"""Tags not in ')
    )
    assert path.read_text().count("New") == path.read_text().count("not in the hub") == 1
    assert key(task, text, [path]) == before
    path.write_text(source.replace('row["tokens"]', 'row["words"]'))
    assert key(task, text, [path]) != before


def test_a_comment_in_a_users_own_file_changes_the_key(text: TextEncoder, tmp_path: Path) -> None:
    path, task = tmp_path / "own.py", tasks.load("mnli")
    path.write_text("x = 1\n")
    before = key(task, text, [path])
    path.write_text("x = 1  # one\n")
    assert key(task, text, [path]) != before


if __name__ == "__main__":
    scratch = STORED.parent / ".encoded"
    for name, case in CASES.items():
        case["versions"] = versions_of(tasks.load(name))
        case["digest"] = digest_of(name, encoder(), scratch / name)
    shutil.rmtree(scratch)
    STORED.write_text(json.dumps(CASES, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

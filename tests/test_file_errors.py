"""Errors of the operating system while rows and encoders are read: the file at fault is named."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import XLMRobertaModel

import xlt.data.encode
import xlt.data.sources
import xlt.models.encoders.text
from xlt.data.encode import load_tokenizer
from xlt.data.parquet import ParquetRows
from xlt.data.sources import Hub
from xlt.models.encoders.text import Encoder, load_config
from xlt.system.file_errors import explained, file_error


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of Hugging Face that cannot be made, for a file is in its place."""
    (tmp_path / "file").write_text("")
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "cache"))
    return tmp_path / "file" / "cache"


def raises(error: Exception) -> Callable[..., Any]:
    """A function that raises the error."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def mirrored(root: Path) -> Path:
    """A file of a mirror."""
    path = root / "org/name/default/train.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["one", "two"]}), path)
    return path


def test_a_mirror_needs_no_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored(tmp_path)
    monkeypatch.setattr(xlt.data.sources, "load_dataset", raises(AssertionError("the library was asked")))
    (part,) = Hub("org/name").open("train", [tmp_path])
    assert list(part.rows()) == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize("code", [errno.ENOTDIR, errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOSPC])
def test_a_cache_that_cannot_be_written_is_named(
    code: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = OSError(code, os.strerror(code), str(cache / "datasets"))
    monkeypatch.setattr(xlt.data.sources, "load_dataset", raises(broken))
    with pytest.raises(OSError, match="the cache of Hugging Face") as caught:
        Hub("org/name").open("train", [])
    message = str(caught.value)
    assert str(cache) in message
    assert os.strerror(code) in message
    assert "Set HF_HOME to a writable folder" in message
    assert "hub did not give it" not in message


def test_the_variable_that_names_the_cache_is_the_one_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "rows"))
    found = explained(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "rows" / "lock")))
    assert f"{tmp_path / 'rows'}, cannot be used" in found
    assert "Set HF_DATASETS_CACHE" in found


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENOENT])
@pytest.mark.parametrize("has_name", [True, False])  # pyarrow gives none
def test_a_file_that_the_system_does_not_give_is_not_called_damaged(
    code: int, has_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = mirrored(tmp_path)
    error = OSError(code, os.strerror(code), *([str(path)] if has_name else []))
    (part,) = Hub("org/name").open("train", [tmp_path])
    with monkeypatch.context() as patch:
        patch.setattr(ParquetRows, "iter", raises(error))
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            list(part.rows())
    monkeypatch.setattr(pq, "ParquetFile", raises(error))
    with pytest.raises(OSError, match=os.strerror(code)) as at_once:
        Hub("org/name").open("train", [tmp_path])
    for found in (caught, at_once):
        assert str(path) in str(found.value)
        assert "cannot be read" in str(found.value)
        assert "truncated" not in str(found.value)


def test_the_cache_of_an_encoder_that_cannot_be_written_is_named(
    cache: Path, encoder_with_weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", str(cache / "hub"))
    wrapped = OSError("PermissionError when downloading")
    wrapped.__cause__ = denied
    for owner, load in (
        (xlt.data.encode.AutoTokenizer, lambda: load_tokenizer("org/encoder")),
        (xlt.models.encoders.text.AutoConfig, lambda: load_config("org/encoder")),
        (XLMRobertaModel, lambda: Encoder(encoder_with_weights)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, "from_pretrained", raises(wrapped))
            with pytest.raises(
                OSError, match=r"model.encoder .*the cache of Hugging Face, .*Set HF_HOME"
            ) as caught:
                load()
        assert str(cache) in str(caught.value)


def test_a_file_that_is_looked_for_in_vain_or_a_connection_is_at_no_fault(tmp_path: Path) -> None:
    assert file_error(FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "none"))) is None
    assert file_error(ConnectionRefusedError(errno.ECONNREFUSED, "refused", "host")) is None
    assert file_error(OSError("no number")) is None
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    later = ValueError("wrapped")
    later.__context__ = denied
    assert file_error(later) is denied

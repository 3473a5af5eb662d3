"""Sources: a mirror written with pyarrow, damage to it, and the hub through a stand-in for its loader."""

import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import xlt.data.sources
from xlt.data.sources import Hub, Local, RawSplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = [
    {"text": "one", "label": 0, "answers": {"text": ["x", "y"], "start": [1, 2]}},
    {"text": "zwei", "label": -1, "answers": {"text": [], "start": []}},
    {"text": "三", "label": 2, "answers": {"text": ["z"], "start": [0]}},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` prepares out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    monkeypatch.setattr(xlt.data.sources, "ROWS_AT_A_TIME", 2)


def write(root: Path, path: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows as a parquet file of a mirror."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def rows_of(part: RawSplit) -> list[dict[str, Any]]:
    """The part's rows as plain values."""
    return list(part.rows())


# Mirrors


def test_a_mirror_gives_the_rows_as_written(tmp_path: Path) -> None:
    file = write(tmp_path / "root", "org/name/default/train.parquet")
    (part,) = Hub("org/name").open("train", [tmp_path / "root"])
    assert rows_of(part) == ROWS
    assert part.name == "org/name/default/train"
    assert part.location == str(file)
    assert part.revision is None


def test_the_first_root_that_holds_the_data_set_wins(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.mkdir()
    write(two, "org/name/default/train.parquet", ROWS[:1])
    write(three, "org/name/default/train.parquet", ROWS[1:])
    assert rows_of(Hub("org/name").open("train", [one, two, three])[0]) == ROWS[:1]
    assert rows_of(Hub("org/name").open("train", [one, three, two])[0]) == ROWS[1:]


def test_a_mirror_takes_precedence_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "org/name/default/train.parquet")
    real = xlt.data.sources.load_dataset

    def only_files(path: str, *args: Any, **kwargs: Any) -> Dataset:
        assert path == "parquet", "the hub was asked"
        return real(path, *args, **kwargs)

    monkeypatch.setattr(xlt.data.sources, "load_dataset", only_files)
    assert rows_of(Hub("org/name", revision="v1").open("train", [tmp_path])[0]) == ROWS


def test_several_splits_are_parts_in_their_order(tmp_path: Path) -> None:
    for i, name in enumerate(("r1", "r2", "r3")):
        write(tmp_path, f"org/name/plain/{name}.parquet", ROWS[i : i + 1])
    parts = Hub("org/name", "plain", train=("r3", "r1")).open("train", [tmp_path])
    assert [part.name for part in parts] == ["org/name/plain/r3", "org/name/plain/r1"]
    assert [rows_of(part) for part in parts] == [ROWS[2:], ROWS[:1]]


def test_validation_has_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, "org/name/default/dev.parquet")
    source = Hub("org/name", validation="dev")
    assert source.open("validation", [tmp_path])[0].name == "org/name/default/dev"
    with pytest.raises(FileNotFoundError, match=r"train\.parquet"):
        source.open("train", [tmp_path])


@pytest.mark.parametrize("source", [Hub("org/name"), Local("org/name", "Ask.")])
def test_a_missing_split_lists_those_that_are_there(source: Hub | Local, tmp_path: Path) -> None:
    write(tmp_path / "one", "org/name/default/test.parquet")
    write(tmp_path / "one", "org/name/default/dev.parquet")
    # The second root is not asked: a data set in two halves would be no data set.
    write(tmp_path / "two", "org/name/default/train.parquet")
    with pytest.raises(FileNotFoundError) as caught:
        source.open("train", [tmp_path / "one", tmp_path / "two"])
    message = str(caught.value)
    assert str(tmp_path / "one" / "org/name/default") in message
    assert "dev, test" in message
    assert "not train.parquet" in message
    assert "add the split" in message


def test_the_same_bytes_have_the_same_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    for root in ("one", "two"):
        write(tmp_path / root, "org/name/default/train.parquet")
    write(tmp_path / "three", "org/name/default/train.parquet", ROWS[:2])
    one, two, three = (
        Hub("org/name").open("train", [tmp_path / root])[0].fingerprint for root in ("one", "two", "three")
    )
    assert one == two != three


def test_rows_written_anew_are_read_anew(tmp_path: Path) -> None:
    file = write(tmp_path, "org/name/default/train.parquet", ROWS[:1])
    before = file.stat()
    first = Hub("org/name").open("train", [tmp_path])[0]
    assert rows_of(first) == ROWS[:1]
    write(tmp_path, "org/name/default/train.parquet", ROWS[1:2])
    # As a copy that keeps times does.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = Hub("org/name").open("train", [tmp_path])[0]
    assert second.fingerprint != first.fingerprint
    assert rows_of(second) == ROWS[1:2]


# Damage


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_file_is_named_with_what_to_do(keep: int, tmp_path: Path) -> None:
    file = write(tmp_path, "org/name/default/train.parquet")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"not a readable parquet file .*truncated; copy or download"
    ) as caught:
        Hub("org/name").open("train", [tmp_path])
    assert str(file) in str(caught.value)


def test_a_file_damaged_inside_is_named_when_its_rows_are_read(tmp_path: Path) -> None:
    rows = [{"text": f"{i} {i * i}", "label": i % 3} for i in range(2000)]
    file = write(tmp_path, "org/name/default/train.parquet", rows)
    data = bytearray(file.read_bytes())
    middle = len(data) // 4
    data[middle : middle + 2000] = b"\xff" * 2000
    file.write_bytes(bytes(data))
    (part,) = Hub("org/name").open("train", [tmp_path])
    with pytest.raises(ValueError, match="not a readable parquet file") as caught:
        rows_of(part)
    assert str(file) in str(caught.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "org/name/default/train.parquet")
    file.write_text("text,label\none,0\n" * 20)
    with pytest.raises(ValueError, match="not a readable parquet file"):
        Local("org/name", "Ask.").open("train", [tmp_path])


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "org/name/default/train.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), file)
    with pytest.raises(FileNotFoundError, match="has no rows") as caught:
        Hub("org/name").open("train", [tmp_path])
    assert str(file) in str(caught.value)


# The hub


def hub_dataset(rows: list[dict[str, Any]] = ROWS, commit: str | None = COMMIT) -> Dataset:
    """What `datasets` gives for a repository on the hub: the files it fetched name the commit."""
    dataset = Dataset.from_list(rows)
    if commit:
        url = f"hf://datasets/org/name@{commit}/default/train-00000-of-00001.parquet"
        dataset.info.download_checksums = {url: {"num_bytes": 1, "checksum": None}}
    return dataset


class StandIn:
    """In place of `datasets.load_dataset`; keeps how it was called."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Dataset:
        self.calls.append((args, kwargs))
        return self.dataset


def test_the_hub_gives_the_same_rows_as_its_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "root", "org/name/default/train.parquet")
    (mirrored,) = Hub("org/name").open("train", [tmp_path / "root"])
    expected = rows_of(mirrored)
    stand_in = StandIn(hub_dataset())
    monkeypatch.setattr(xlt.data.sources, "load_dataset", stand_in)
    (part,) = Hub("org/name").open("train", [tmp_path])
    assert rows_of(part) == expected == ROWS
    assert part.name == mirrored.name
    assert stand_in.calls == [(("org/name", "default"), {"split": "train", "revision": None})]


def test_the_commit_that_was_fetched_is_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(hub_dataset())
    monkeypatch.setattr(xlt.data.sources, "load_dataset", stand_in)
    (part,) = Hub("org/name", "plain", validation="dev", revision="main").open("validation", [])
    assert part.revision == COMMIT
    assert part.location == f"hub:org/name@{COMMIT}"
    assert part.name == "org/name/plain/dev"
    assert stand_in.calls == [(("org/name", "plain"), {"split": "dev", "revision": "main"})]


@pytest.mark.parametrize(("revision", "location"), [("v1.0", "hub:org/name@v1.0"), (None, "hub:org/name")])
def test_without_a_record_of_the_commit_the_pin_is_the_revision(
    revision: str | None, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlt.data.sources, "load_dataset", StandIn(hub_dataset(commit=None)))
    (part,) = Hub("org/name", revision=revision).open("train", [])
    assert part.revision == revision
    assert part.location == location


def test_other_rows_of_the_hub_have_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rows in (ROWS, ROWS[:2]):
        monkeypatch.setattr(xlt.data.sources, "load_dataset", StandIn(hub_dataset(rows)))
        found.append(Hub("org/name").open("train", [])[0].fingerprint)
    assert found[0] != found[1]


@pytest.mark.parametrize("roots", [[], ["one", "two"]])
def test_a_data_set_out_of_reach_says_what_to_do(roots: list[str], tmp_path: Path) -> None:
    # conftest.py sets HF_HUB_OFFLINE.
    folders = [tmp_path / root for root in roots]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        Hub("nobody/nothing", "plain").open("train", folders)
    message = str(caught.value)
    assert message.startswith("nobody/nothing/plain/train: ")
    assert all(str(folder) in message for folder in folders)
    assert "data.root (or XLT_DATA)" in message
    assert "nobody/nothing/plain/train.parquet" in message
    assert "xlt prepare" in message
    assert "\n" not in message


@pytest.mark.parametrize("roots", [[], ["one"]])
def test_local_data_out_of_reach_say_how_to_get_them(roots: list[str], tmp_path: Path) -> None:
    source = Local("corpus", "Ask the library for it.", config="v2")
    with pytest.raises(
        FileNotFoundError, match=r"corpus/v2/train\.parquet .*Ask the library for it\."
    ) as caught:
        source.open("train", [tmp_path / root for root in roots])
    assert ("one" if roots else "data.root") in str(caught.value)


def test_local_data_never_ask_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(hub_dataset())
    monkeypatch.setattr(xlt.data.sources, "load_dataset", stand_in)
    with pytest.raises(FileNotFoundError):
        Local("corpus", "Ask.").open("train", [tmp_path])
    assert stand_in.calls == []


def test_local_data_give_the_rows_as_written(tmp_path: Path) -> None:
    file = write(tmp_path, "corpus/default/train.parquet")
    (part,) = Local("corpus", "Ask.").open("train", [tmp_path])
    assert rows_of(part) == ROWS
    assert (part.name, part.location, part.revision) == ("corpus/default/train", str(file), None)

"""Few examples of a language, translated training rows and translated test rows, on real rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import Command, run

from scripts.draws import table
from scripts.iglue_few_shot import convert
from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.datamodule import TransferData
from xlt.evaluate import evaluate
from xlt.splits.data_keys import check_fingerprint
from xlt.splits.reading import read_examples
from xlt.splits.splits import Splits

XTREME = Path("google", "xtreme")


def write(root: Path, path: Path | str, rows: pa.Table) -> None:
    """Rows as a file of a data root."""
    file = root / f"{path}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file)


@pytest.fixture(scope="session")
def panx_root(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PAN-X in English and German: real rows, of which the first are training rows."""
    root = tmp_path_factory.mktemp("panx")
    for language in ("en", "de"):
        rows = pq.read_table(mirror / XTREME / f"PAN-X.{language}" / "validation.parquet")
        for split, part in (("train", rows[:120]), ("validation", rows[120:150]), ("test", rows[150:180])):
            write(root, XTREME / f"PAN-X.{language}" / split, part)
    return root


@pytest.fixture(scope="session")
def xnli(mirror: Path) -> dict[str, list[dict[str, Any]]]:
    """The first 60 test rows of XNLI in English and German, which are translations of each other."""
    rows = pq.read_table(mirror / XTREME / "XNLI" / "test.parquet")
    found = {code: rows.filter(pc.equal(rows["language"], code))[:60].to_pylist() for code in ("en", "de")}
    assert [row["gold_label"] for row in found["en"]] == [row["gold_label"] for row in found["de"]]
    return found


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def scored(**args: Any) -> None:
    """Run an evaluation."""
    given = {"accelerator": "cpu", "max_length": 64, "stride": 16, "tokens_per_micro_batch": 1024, **args}
    assert run([f"--{key}={value}" for key, value in given.items()], evaluate) == 0


# Draws


def few(root: Path, encoder: str, cache: Path, **keys: Any) -> TransferData:
    """German sentences of PAN-X, opened."""
    sizes = {"max_length": 64, "stride": 16, "cache": str(cache), "encoder": encoder, "root": str(root)}
    data = TransferData(["panx/de"], **{"volume": 10, "validation_volume": 20, **sizes, **keys})
    data.prepare_data()
    return data


def drawn(data: TransferData, split: Any = "train") -> list[int]:
    return data.rows_in_use("panx/de", split).tolist()


def test_the_draw_has_a_seed_of_its_own(panx_root: Path, tiny_encoder: str, tmp_path: Path):
    args = panx_root, tiny_encoder, tmp_path
    plain, same = few(*args, seed=1), few(*args, seed=1, volume_seed=1)
    draws = [few(*args, seed=1, volume_seed=number) for number in range(2, 6)]
    assert drawn(same) == drawn(plain)
    assert len({tuple(drawn(data)) for data in [plain, *draws]}) == 5
    assert {len(drawn(data)) for data in draws} == {10}
    assert {tuple(drawn(data, "validation")) for data in draws} == {tuple(drawn(plain, "validation"))}
    assert drawn(few(*args, seed=7, volume_seed=3)) == drawn(few(*args, seed=1, volume_seed=3))
    assert set(drawn(draws[0])) < set(drawn(few(*args, seed=1, volume_seed=2, volume=30)))


def test_another_draw_cannot_continue_a_checkpoint(panx_root: Path, tiny_encoder: str, tmp_path: Path):
    one, other, plain = (
        few(panx_root, tiny_encoder, tmp_path, seed=1, volume_seed=number).fingerprint()
        for number in (1, 2, None)
    )
    check_fingerprint(plain, one)
    with pytest.raises(ValueError, match="volume_seed: 1 in the checkpoint, 2 now"):
        check_fingerprint(one, other)
    older = {key: value for key, value in one.items() if key != "volume_seed"}
    check_fingerprint(older, one)


def test_a_negative_seed_of_the_draw_is_refused(tiny_encoder: str):
    with pytest.raises(ValueError, match=r"data\.volume_seed is -1: it must be 0 or more"):
        TransferData(["panx/de"], encoder=tiny_encoder, volume_seed=-1)


def test_a_few_examples_after_english(panx_root: Path, tiny_run: Command, tmp_path: Path):
    english, cache = tmp_path / "english", tmp_path / "cache"
    sizes = {"data.root": panx_root, "data.cache": cache, "data.validation_volume": 20}
    steps = {"trainer.max_steps": 4, "trainer.val_check_interval": 4}
    assert run(tiny_run(english, {"data.tasks": "[panx]", **sizes, **steps})) == 0
    after = {
        "data.tasks": "[panx/de]",
        "data.volume": 10,
        "model.encoder": english,
        "model.from_scratch": "false",
        "model.keep_heads": "true",
    }
    for draw in (0, 1):
        folder = tmp_path / f"de-{draw}"
        assert run(tiny_run(folder, {**after, **sizes, **steps, "data.volume_seed": draw})) == 0
        assert read_json(folder / "sources.json")["panx/de"]["train"]["examples"] == 120
        args = {"tasks": "[panx]", "languages": "[de]", "split": "test", "root": panx_root, "cache": cache}
        scored(**args, runs=f"[{folder}]", out=tmp_path / f"scores-de-{draw}")
    found = [read_json(tmp_path / f"scores-de-{draw}" / "results.json")["panx"]["de"] for draw in (0, 1)]
    assert [cell["rows"] for cell in found] == [30, 30]
    line = table([tmp_path / "scores-de-0", tmp_path / "scores-de-1"]).splitlines()[2]
    assert line.split()[:4] == ["panx", "de", "f1", "2"]


def test_the_table_of_draws_has_mean_and_sample_deviation(tmp_path: Path):
    for name, score in (("a", 10.0), ("b", 12.0), ("c", 17.0)):
        (tmp_path / name).mkdir()
        head = "task,language,metric,score,chance,rows,split,model,perturbation"
        text = f"{head}\npanx,de,f1,{score},0,9,test,m,\n"
        (tmp_path / name / "results.csv").write_text(text, encoding="utf-8")
    # Mean 13, deviations -3, -1 and 4: the sample variance is 26 / 2 = 13, its root 3.6.
    _, _, line = table([tmp_path / name for name in "abc"]).splitlines()
    assert line.split() == ["panx", "de", "f1", "3", "13.0", "3.6", "10.0", "17.0"]
    with pytest.raises(ValueError, match="at least two evaluations, not 1"):
        table([tmp_path / "a"])
    with pytest.raises(FileNotFoundError, match=r"d/results\.csv does not exist: name the folders"):
        table([tmp_path / "a", tmp_path / "d"])


# Translations


def as_mnli(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows of XNLI in the schema of MNLI."""
    names = ("entailment", "neutral", "contradiction")
    return pa.Table.from_pylist(
        [
            {"premise": r["sentence1"], "hypothesis": r["sentence2"], "label": names.index(r["gold_label"])}
            for r in rows
        ]
    )


def test_translated_training_rows_are_those_that_are_read(
    xnli: dict[str, list[dict[str, Any]]], tiny_run: Command, tmp_path: Path, tiny_encoder: str
):
    root = tmp_path / "root"
    for folder, language in (("", "en"), ("de", "de")):
        for split in ("train", "validation_matched"):
            write(root, Path(folder, "nyu-mll", "glue", "mnli", split), as_mnli(xnli[language]))
    write(root, XTREME / "XNLI" / "validation", pa.Table.from_pylist(xnli["en"] + xnli["de"]))
    (raw,) = Splits([root], tmp_path, TextEncoder(load_tokenizer(tiny_encoder), 64, 16)).raw_splits(
        tasks.load("mnli/de"), "train"
    )
    read = list(read_examples(tasks.load("mnli/de"), [raw]))
    assert [example.first for example in read] == [row["sentence1"] for row in xnli["de"]]
    sizes = {"data.root": root, "data.cache": tmp_path / "cache", "data.validation_volume": None}
    steps = {"trainer.max_steps": 4, "trainer.val_check_interval": 4}
    for name in ("[mnli, mnli/de]", "[xnli/de]"):
        folder = tmp_path / f"run-{len(name)}"
        assert run(tiny_run(folder, {"data.tasks": name, **sizes, **steps})) == 0
        sources = read_json(folder / "sources.json")
        location = sources[name.strip("[]").split(", ")[-1]]["train"]["sources"][0]["location"]
        assert location == str(root / "de" / "nyu-mll" / "glue" / "mnli" / "train.parquet")


def test_translated_test_rows_are_answered_as_english(
    xnli: dict[str, list[dict[str, Any]]], tiny_run: Command, tmp_path: Path
):
    root, translated, cache = (tmp_path / name for name in ("root", "translated", "cache"))
    for split in ("train", "validation_matched"):
        write(root, Path("nyu-mll", "glue", "mnli", split), as_mnli(xnli["en"]))
    for split in ("validation", "test"):
        write(root, XTREME / "XNLI" / split, pa.Table.from_pylist(xnli["en"] + xnli["de"]))
    # The English originals are a perfect translation of the German rows.
    rows = [row | {"language": "de"} for row in xnli["en"]]
    write(translated, XTREME / "XNLI" / "test", pa.Table.from_pylist(rows))
    changes = {
        "data.tasks": "[xnli]",
        "data.root": root,
        "data.cache": cache,
        "trainer.max_steps": 8,
        "trainer.val_check_interval": 8,
    }
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    args = {"tasks": "[xnli]", "runs": f"[{tmp_path / 'run'}]", "split": "test", "cache": cache}
    scored(**args, root=root, out=tmp_path / "originals")
    scored(**args, root=translated, languages="[de]", out=tmp_path / "translations")
    originals = read_json(tmp_path / "originals" / "results.json")["xnli"]
    translations = read_json(tmp_path / "translations" / "results.json")["xnli"]
    assert list(translations) == ["de"]
    assert translations["de"]["accuracy"] == originals["en"]["accuracy"]
    predicted = [
        (tmp_path / folder / "predictions" / "xnli" / f"test-{code}.tsv").read_text(encoding="utf-8")
        for folder, code in (("originals", "en"), ("translations", "de"))
    ]
    assert predicted[0] == predicted[1]


# IGLUE's few-shot rows


def test_iglues_few_shot_rows_become_training_rows(tmp_path: Path):
    rows = [
        {
            "gold_label": label, "sentence1": "Ein Satz.", "sentence2": f"Satz {label}", "captionID": "7",
            "pairID": f"7.jpg#0r1{label[0]}", "Flikr30kID": "7",
        }
        for label in ("neutral", "entailment", "-")
    ]  # fmt: skip
    (tmp_path / "ar").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "ar" / "train_1.jsonl").write_text(text, encoding="utf-8")
    root = tmp_path / "root"
    assert convert(tmp_path, "ar", "1", root) == root / "xvnli_train.parquet"
    write(root, "flickr/train", pa.Table.from_pylist([{"image_id": "7", "image": b"content"}]))
    task = tasks.load("snli_ve/ar")  # whose rows xvnli/ar trains on
    assert tasks.load("xvnli").trains_on == "snli_ve"
    examples = list(read_examples(task, task.sources[0].open("train", [root], "ar")))
    assert [example.first for example in examples] == ["Satz neutral", "Satz entailment", "Satz -"]
    assert [task.is_labelled(example) for example in examples] == [True, True, False]
    assert [example.label for example in examples[:2]] == [1, 0]
    assert examples[0].images[0].read() == b"content"
    (tmp_path / "ar" / "train_5.jsonl").write_text('{"sentence1": "x"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"train_5\.jsonl, line 1 lacks Flikr30kID, gold_label, pairID"):
        convert(tmp_path, "ar", "5", root)

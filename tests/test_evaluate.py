"""xlt.evaluate: tables, files as XTREME's evaluator reads them, going on, what is missing or refused."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from benchmark_rows import read_gold_answers, read_lines, read_sentences, write, write_root
from commands import launch
from conftest import REPOSITORY, Command, run
from PIL import Image
from safetensors.torch import load_file, save_file
from seqeval.metrics import f1_score
from transformers import AutoModel, AutoTokenizer

import xlt.evaluation.evaluation
from xlt import tasks
from xlt.data.encode import load_tokenizer
from xlt.evaluate import evaluate
from xlt.evaluation.groups import GROUPS
from xlt.evaluation.report import Average, Report, summarise
from xlt.evaluation.scores import CellScore
from xlt.export import export
from xlt.fit import fit
from xlt.models.encoders.text import Encoder
from xlt.models.saving import load_heads
from xlt.module import TransferModule
from xlt.prepare import prepare
from xlt.system.signals import INTERRUPTED

Evaluate = Callable[..., int | str | None]

TRAINED = "[xnli, pawsx, udpos, panx, xquad, tydiqa]"


@pytest.fixture(scope="session")
def root(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(Path(samples[0]), tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="session")
def trained(root: Path, tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a head for every target that has one."""
    folder = tmp_path_factory.mktemp("targets") / "run"
    changes = {
        "data.tasks": TRAINED,
        "data.root": root,
        "trainer.max_steps": 18,
        "data.validation_volume": None,
    }
    assert run(tiny_run(folder, changes)) == 0
    return folder


@pytest.fixture(scope="session")
def test(root: Path, cache: str, trained: Path) -> Evaluate:
    """Run the verb on the run; its arguments may be replaced, added, or (None) left out."""

    def call(out: Path, **changes: Any) -> int | str | None:
        settings = {
            "out": out, "root": root, "cache": cache, "runs": f"[{trained}]", "encoder": trained,
            "accelerator": "cpu", "max_length": 128, "stride": 32, "tokens_per_micro_batch": 2048,
        }  # fmt: skip
        chosen = settings | changes
        return run([f"--{key}={value}" for key, value in chosen.items() if value is not None], evaluate)

    return call


@pytest.fixture(scope="session")
def out(test: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of all nine tasks."""
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    assert test(folder) == 0
    return folder


def predicted_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that are predicted from now on, as they are."""
    seen: list[str] = []
    predict = xlt.evaluation.evaluation.predict

    def watched(model: Any, task: Any, *rest: Any) -> Any:
        seen.append(task.name)
        return predict(model, task, *rest)

    monkeypatch.setattr(xlt.evaluation.evaluation, "predict", watched)
    return seen


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


# What comes out


def test_every_task_is_scored_in_every_language_that_has_rows(out: Path):
    found = {task: sorted(by_language) for task, by_language in results(out).items()}
    assert found == {
        "xnli": ["ar", "de", "en"],
        "pawsx": ["de", "en"],
        "udpos": ["de", "en"],
        "panx": ["en", "sw"],
        "xquad": ["en", "vi"],
        "mlqa": ["de"],
        "tydiqa": ["en", "fi"],
        "bucc2018": ["de"],
        "tatoeba": ["de", "sw"],
    }
    assert {cell["rows"] for cell in results(out)["xnli"].values()} == {40}


def accuracy(predictions: list[str], gold: list[str]) -> float:
    return 100 * sum(a == b for a, b in zip(predictions, gold, strict=True)) / len(gold)


@pytest.mark.parametrize("task", ["xnli", "pawsx", "tatoeba"])
def test_accuracy_is_that_of_the_files(out: Path, task: str):
    for language, cell in results(out)[task].items():
        predictions, gold = (
            read_lines(out / part / task / f"test-{language}.tsv") for part in ("predictions", "gold")
        )
        assert len(predictions) == cell["rows"]
        assert accuracy(predictions, gold) == pytest.approx(cell["accuracy"], abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*seems not to be NE tag")
@pytest.mark.parametrize("task", ["udpos", "panx"])
def test_f1_of_spans_is_that_of_the_files(out: Path, task: str):
    for language, cell in results(out)[task].items():
        predictions, gold = (
            read_sentences(out / part / task / f"test-{language}.tsv") for part in ("predictions", "gold")
        )
        assert list(map(len, predictions)) == list(map(len, gold))
        assert 100 * f1_score(gold, predictions) == pytest.approx(cell["f1"], abs=1e-6)


@pytest.mark.parametrize("task", ["xquad", "mlqa", "tydiqa"])
def test_answers_are_given_to_every_question_by_its_id(out: Path, task: str, root: Path):
    for language, cell in results(out)[task].items():
        predictions = json.loads((out / "predictions" / task / f"test-{language}.json").read_text())
        gold = read_gold_answers(out / "gold" / task / f"test-{language}.json")
        assert predictions.keys() == gold.keys()
        assert len(gold) == cell["rows"]
        # The most lenient bound that needs no normalisation: what is verbatim right is right.
        exact = sum(text in gold[key] for key, text in predictions.items())
        assert 100 * exact / len(gold) <= cell["exact_match"] + 1e-6


@pytest.mark.parametrize(
    ("ids", "keys", "count"),
    [
        (["a", "a", "b", "c"], {"a#1", "a#2", "b", "c"}, "2 of 4"),
        ([""] * 4, {"#1", "#2", "#3", "#4"}, "4 of 4"),
    ],
)
def test_no_answer_is_lost_where_ids_are_empty_or_repeated(
    test: Evaluate, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    ids: list[str], keys: set[str], count: str,
):  # fmt: skip
    other = tmp_path / "root" / "google" / "xtreme" / "XQuAD.en"
    other.mkdir(parents=True)
    rows = pq.read_table(root / "google/xtreme/XQuAD.en/validation.parquet").to_pylist()[:4]
    rows = [row | {"id": name} for row, name in zip(rows, ids, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows), other / "validation.parquet")
    settings = {"tasks": "[xquad]", "languages": "[en]", "root": tmp_path / "root"}
    with caplog.at_level("INFO"):
        assert test(tmp_path / "out", perturbations="[noise-10]", **settings) == 0
    predictions = json.loads((tmp_path / "out" / "predictions/xquad/test-en.json").read_text())
    gold = read_gold_answers(tmp_path / "out" / "gold/xquad/test-en.json")
    assert predictions.keys() == gold.keys() == keys
    assert list(gold.values()) == [row["answers"]["text"] for row in rows]
    assert caplog.text.count(f"xquad-en: {count} questions have an empty or repeated id") == 1


def test_mined_pairs_give_the_f1_of_the_files(out: Path):
    predictions, gold = (
        set(read_lines(out / part / "bucc2018" / "test-de.tsv")) for part in ("predictions", "gold")
    )
    right = len(predictions & gold)
    assert right > 0
    f1 = 2 * right / (len(predictions) + len(gold))
    assert 100 * f1 == pytest.approx(results(out)["bucc2018"]["de"]["f1"], abs=1e-6)
    assert not any("de-005" in pair or "de-024" in pair for pair in predictions)  # it stands twice


def test_english_scores_are_those_of_the_runs_own_validation(out: Path, trained: Path):
    best = json.loads((trained / "results.json").read_text())
    for task, metric in {"xnli": "accuracy", "pawsx": "accuracy", "udpos": "f1", "panx": "f1"}.items():
        assert results(out)[task]["en"][metric] == pytest.approx(best[task][metric], abs=1e-4)


def test_csv_summary_and_picture_say_the_same(out: Path):
    with (out / "results.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {(r["task"], r["language"]) for r in rows} == {
        (task, language) for task, by_language in results(out).items() for language in by_language
    }
    for row in rows:
        cell = results(out)[row["task"]][row["language"]]
        assert float(row["score"]) == pytest.approx(cell[row["metric"]], abs=1e-6)
    summary = json.loads((out / "summary.json").read_text())
    scores = [cell["accuracy"] for cell in results(out)["xnli"].values()]
    assert summary["tasks"]["xnli"]["mean"] == {
        "value": pytest.approx(np.mean(scores)), "found": 3, "wanted": 15,
    }  # fmt: skip
    with Image.open(out / "heat_map.png") as picture:
        assert min(picture.size) > 300


def test_missing_languages_are_named_with_a_reason_and_counted(out: Path):
    missing = json.loads((out / "summary.json").read_text())["missing"]
    named = {(entry["task"], entry["language"]) for entry in missing}
    assert {("xnli", "sw"), ("panx", "af"), ("bucc2018", "fr"), ("tydiqa", "ar")} <= named
    assert len(named) + sum(map(len, results(out).values())) == 15 + 7 + 33 + 40 + 11 + 7 + 9 + 4 + 36
    assert all(entry["reason"] for entry in missing)


def test_the_table_shows_averages_with_their_counts(test: Evaluate, out: Path, capsys: Any):
    assert test(out) == 0
    shown = capsys.readouterr().out
    assert "(3/15)" in shown
    assert "gap" in shown
    assert "worst" in shown
    for group in ("classification", "tagging", "question answering", "retrieval", "all tasks"):
        assert group in shown


# Retrieval


def test_retrieval_takes_the_mean_of_the_layer_over_all_tokens(
    test: Evaluate, trained: Path, tmp_path: Path, root: Path
):
    assert test(tmp_path / "out", tasks="[tatoeba]", languages="[de]", layer=1) == 0
    model = AutoModel.from_pretrained(trained / "model", add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    rows = tasks.load("tatoeba/de").sources[0].open("test", [root], "de")[0].load()
    sides: list[list[torch.Tensor]] = [[], []]
    for row in rows:
        for side, name in zip(sides, ("source_sentence", "target_sentence"), strict=True):
            ids = tokenizer(row[name].strip(), return_tensors="pt")
            with torch.no_grad():
                side.append(model(**ids, output_hidden_states=True).hidden_states[1][0].mean(0))
    foreign, english = (torch.nn.functional.normalize(torch.stack(side), dim=-1) for side in sides)
    wanted = (english @ foreign.T).argmax(1).tolist()
    found = read_lines(tmp_path / "out" / "predictions" / "tatoeba" / "test-de.tsv")
    assert list(map(int, found)) == wanted


def test_the_threshold_of_the_test_set_is_that_of_the_development_set(
    test: Evaluate, tmp_path: Path, root: Path
):
    folder = tmp_path / "root"
    shutil.copytree(root / "bucc2018", folder / "bucc2018")
    gold = folder / "bucc2018" / "de-en.test.gold"
    gold.write_text(
        gold.read_text().splitlines()[0] + "\n"
    )  # another set of pairs: its own best would differ
    for split in ("validation", "test"):
        assert test(tmp_path / split, tasks="[bucc2018]", root=folder, split=split) == 0
    dev, final = (results(tmp_path / split)["bucc2018"]["de"] for split in ("validation", "test"))
    assert final["threshold"] == dev["threshold"]
    mined = [
        read_lines(tmp_path / s / "predictions" / "bucc2018" / "test-de.tsv") for s in ("validation", "test")
    ]
    assert mined[0] == mined[1]
    assert final["f1"] != dev["f1"]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("9", "layer is 9: it must be one of the 2 layers of "),
        ("0", "layer is 0: it must be one of the 2 layers of "),
        ("{tatoeba: -1}", "layer is -1: it must be one of the 2 layers of "),
        ("{tatoebaa: 1}", "layer names tatoebaa, which tasks does not"),
    ],
)
def test_a_layer_the_encoder_lacks_is_refused_before_any_work(
    test: Evaluate, tmp_path: Path, capsys: Any, layer: str, message: str
):
    assert test(tmp_path / "out", tasks="[xnli, tatoeba]", layer=layer) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_questions_without_answers_are_left_out_and_a_set_of_them_is_shown_as_missing(
    test: Evaluate, root: Path, tmp_path: Path
):
    other = tmp_path / "root"
    shutil.copytree(root, other, symlinks=True)
    for config, kept in (("XQuAD.en", 5), ("XQuAD.vi", 0)):
        path = other / "google/xtreme" / config / "validation.parquet"
        rows = pq.read_table(path).to_pylist()
        for number, row in enumerate(rows[kept:]):
            # As the hub's schema has none, and as XTREME's download takes them away.
            row["answers"] = (
                {"text": [""], "answer_start": [0]} if number else {"text": [], "answer_start": []}
            )
        pq.write_table(pa.Table.from_pylist(rows), path)
    settings = {"tasks": "[xquad]", "root": other, "languages": "[en, vi]"}
    assert test(tmp_path / "out", **settings) == 0
    found = results(tmp_path / "out")["xquad"]
    assert list(found) == ["en"]
    assert found["en"]["rows"] == 5
    (missing,) = json.loads((tmp_path / "out" / "summary.json").read_text())["missing"]
    assert (missing["task"], missing["language"]) == ("xquad", "vi")
    assert "no row has a label" in missing["reason"]
    assert test(tmp_path / "none", **settings | {"languages": "[vi]"}) == 2


def test_tasks_and_languages_are_named_once(test: Evaluate, tmp_path: Path, capsys: Any):
    for changes in ({"tasks": "[tatoeba, tatoeba]"}, {"languages": "[]"}):
        assert test(tmp_path / "out", **changes) == 2
        assert "name at least one, each once, or be left out" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(
    test: Evaluate, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    tested = predicted_tasks(monkeypatch)
    (tmp_path / "file").write_text("")
    assert test(tmp_path / "file" / "out", tasks="[xnli]", languages="[de]") == 2
    assert "file/out cannot be written (Not a directory): set out to" in capsys.readouterr().err
    assert not tested


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_an_accelerator_that_is_not_there_is_named(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", accelerator="cuda") == 2
    assert "error: accelerator 'cuda' with precision '32-true': " in capsys.readouterr().err


def test_scores_of_another_precision_are_not_taken_over(test: Evaluate, tmp_path: Path, capsys: Any):
    settings = {"tasks": "[xnli]", "languages": "[de]"}
    assert test(tmp_path / "out", **settings) == 0
    assert test(tmp_path / "out", precision="bf16-mixed", **settings) == 2
    assert "of another model, rows or settings" in capsys.readouterr().err


def test_a_resumed_evaluation_keeps_the_precision_of_its_finished_cells(
    test: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = {"tasks": "[xnli]", "precision": "auto"}
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: False)
    assert test(tmp_path / "out", languages="[de]", **settings) == 0
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: True)
    assert test(tmp_path / "out", languages="[de, ar]", **settings) == 0
    files = [json.loads(path.read_text()) for path in (tmp_path / "out" / "scores").glob("*.json")]
    assert {file["language"]: file["precision"] for file in files} == {"de": "32-true", "ar": "32-true"}
    assert test(tmp_path / "other", languages="[de]", **settings) == 0
    (other,) = (tmp_path / "other" / "scores").glob("*.json")
    assert json.loads(other.read_text())["precision"] == "bf16-mixed"


def test_scores_depend_on_the_rows_that_set_their_threshold(
    test: Evaluate, root: Path, tmp_path: Path, capsys: Any
):
    other = tmp_path / "root"
    shutil.copytree(root / "bucc2018", other / "bucc2018")
    settings = {"tasks": "[bucc2018]", "languages": "[de]", "split": "test", "root": other}
    assert test(tmp_path / "out", **settings) == 0
    gold = other / "bucc2018" / "de-en.dev.gold"
    gold.write_text("".join(gold.read_text().splitlines(keepends=True)[:-1]))
    assert test(tmp_path / "out", **settings) == 2
    assert "of another model, rows or settings" in capsys.readouterr().err


# Going on


def test_a_finished_evaluation_tests_nothing_again(
    test: Evaluate, out: Path, monkeypatch: pytest.MonkeyPatch
):
    before = (out / "results.json").read_text()
    monkeypatch.setattr(xlt.evaluation.evaluation, "predict", None)
    assert test(out) == 0
    assert (out / "results.json").read_text() == before


def test_only_what_is_not_finished_is_tested(
    test: Evaluate, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / "scores" / "xnli-de.json").unlink()
    seen = predicted_tasks(monkeypatch)
    assert test(copy) == 0
    assert seen == ["xnli/de"]
    assert results(copy) == results(out)


def test_scores_of_another_model_are_not_mixed_in(
    test: Evaluate, out: Path, trained: Path, tmp_path: Path, capsys: Any
):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    heads = other / "model" / "heads.safetensors"
    state = load_file(heads)
    labels = {"labels": json.dumps(load_heads(str(trained))[1])}
    save_file({name: tensor + 1 for name, tensor in state.items()}, heads, labels)
    assert test(out, runs=f"[{other}]") == 2
    assert "has scores of" in capsys.readouterr().err
    assert test(tmp_path / "apart", runs=f"[{other}]", tasks="[xnli]") == 0


def test_a_volume_takes_the_same_examples_in_every_language(test: Evaluate, tmp_path: Path, root: Path):
    assert test(tmp_path / "out", tasks="[xnli, tatoeba]", volume=7) == 0
    found = results(tmp_path / "out")
    assert {cell["rows"] for cell in found["xnli"].values()} == {7}
    again = {"volume": 7, "tasks": "[xnli, tatoeba]"}
    assert test(tmp_path / "out", **again) == 0
    assert results(tmp_path / "out") == found
    assert {cell["rows"] for cell in found["tatoeba"].values()} == {30}  # retrieval is among all sentences


# Perturbed rows, and values of examples


def add_up(example_scores: np.ndarray) -> float:
    """The score that per-example values make."""
    if example_scores.ndim == 1:
        return float(example_scores.mean())
    right, predicted, gold = example_scores.sum(0)
    return float(200 * right / (predicted + gold))


def mean(cell: dict[str, Any]) -> float:
    return float(np.mean([cell[name] for name in ("accuracy", "f1", "exact_match") if name in cell]))


def test_the_items_of_every_task_add_up_to_its_score(out: Path):
    names = set()
    for task, by_language in results(out).items():
        for language, cell in by_language.items():
            path = out / "example_scores" / f"{task}-{language}.npy"
            names.add(path.name)
            if task == "bucc2018":
                assert not path.exists()
                continue
            example_scores = np.load(path)
            assert example_scores.dtype == np.float32
            assert len(example_scores) == cell["rows"]
            score = cell["f1"] if example_scores.ndim == 2 else mean(cell)
            assert add_up(example_scores) == pytest.approx(score, abs=1e-4)
    assert {path.name for path in (out / "example_scores").iterdir()} == names - {"bucc2018-de.npy"}


@pytest.fixture(scope="session")
def noisy(test: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation under noise."""
    folder = tmp_path_factory.mktemp("noisy") / "out"
    tasks = "[xnli, udpos, xquad, tatoeba, bucc2018]"
    assert test(folder, tasks=tasks, perturbations="[noise-10, noise-100]") == 0
    return folder


def test_perturbed_cells_stand_beside_the_clean_ones(noisy: Path, out: Path):
    perturbed = json.loads((noisy / "perturbed.json").read_text())
    clean = {task: cells for task, cells in results(out).items() if task in results(noisy)}
    assert results(noisy) == clean
    assert list(perturbed) == ["noise-10", "noise-100"]
    for name, by_task in perturbed.items():
        assert {task: list(cells) for task, cells in by_task.items()} == {
            task: list(cells) for task, cells in clean.items() if task != "bucc2018"
        }
        for task, cells in by_task.items():
            for language, cell in cells.items():
                assert cell["rows"] == clean[task][language]["rows"]
                example_scores = np.load(noisy / "example_scores" / f"{task}-{language}-{name}.npy")
                assert len(example_scores) == cell["rows"]
                assert add_up(example_scores) == pytest.approx(
                    cell["f1"] if example_scores.ndim == 2 else mean(cell), abs=1e-4
                )
    assert perturbed["noise-100"]["tatoeba"] != clean["tatoeba"]
    files = {path.name for path in (noisy / "predictions" / "xnli").iterdir()}
    assert files == {"test-ar.tsv", "test-de.tsv", "test-en.tsv"}


def test_the_csv_and_the_summary_tell_of_perturbations(noisy: Path):
    with (noisy / "results.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    perturbed = json.loads((noisy / "perturbed.json").read_text())
    assert {row["perturbation"] for row in rows} == {"", "noise-10", "noise-100"}
    for row in rows:
        of = perturbed[row["perturbation"]] if row["perturbation"] else results(noisy)
        assert float(row["score"]) == pytest.approx(of[row["task"]][row["language"]][row["metric"]], abs=1e-6)
    summary = json.loads((noisy / "summary.json").read_text())
    assert summary["tasks"]["xnli"]["mean"]["found"] == 3
    missing = [entry for entry in summary["missing"] if entry["perturbation"]]
    assert [(entry["task"], entry["perturbation"]) for entry in missing] == [
        ("bucc2018", "noise-10"),
        ("bucc2018", "noise-100"),
    ]
    assert all(entry["reason"] for entry in missing)


def test_a_perturbed_cell_that_is_not_finished_is_tested_alone(
    test: Evaluate, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    copy = tmp_path / "copy"
    shutil.copytree(noisy, copy)
    (copy / "scores" / "xnli-de-noise-10.json").unlink()
    (copy / "example_scores" / "xnli-de-noise-10.npy").unlink()
    seen = predicted_tasks(monkeypatch)
    settings = {"tasks": "[xnli, udpos, xquad, tatoeba, bucc2018]", "perturbations": "[noise-10, noise-100]"}
    assert test(copy, **settings) == 0
    assert seen == ["xnli/de"]
    for path in ("perturbed.json", "results.csv", "example_scores/xnli-de-noise-10.npy"):
        assert (copy / path).read_bytes() == (noisy / path).read_bytes()
    table = capsys.readouterr().out.split("means over the languages")[1].splitlines()
    assert [line.split()[0] for line in table if line][:5] == [
        "xnli",
        table[3],
        "clean",
        table[5],
        "noise-10",
    ]


def test_a_task_that_perturbations_does_not_name_is_tested_as_it_is(test: Evaluate, tmp_path: Path):
    settings = {"tasks": "[xnli, udpos]", "languages": "[de]", "perturbations": "{udpos: [noise-10]}"}
    assert test(tmp_path / "out", **settings) == 0
    assert list(results(tmp_path / "out")) == ["xnli", "udpos"]
    perturbed = json.loads((tmp_path / "out" / "perturbed.json").read_text())
    assert {name: list(by_task) for name, by_task in perturbed.items()} == {"noise-10": ["udpos"]}


def test_perturbations_of_a_task_that_is_not_tested_are_refused(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", tasks="[xnli]", perturbations="{panx: [noise-10]}") == 2
    assert "perturbations names panx, which tasks does not" in capsys.readouterr().err


def test_an_unknown_perturbation_is_refused_before_any_work(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", perturbations="[typos-5]") == 2
    assert "perturbations names 'typos-5'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Answers in other languages as in English, and the evaluation without images


@pytest.fixture(scope="session")
def parallel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with XNLI in English and German: the same pairs, but German lacks the fourth."""
    path = tmp_path_factory.mktemp("parallel")
    rows = pq.read_table(root / "google/xtreme/XNLI/validation.parquet").to_pylist()
    english = [{**row, "language": "en"} for row in rows if row["language"] == "en"][:20]
    german = [{**row, "language": "de"} for row in english[:3] + english[4:]]
    write(path, "XNLI", "validation", english + german)
    return path


def test_the_same_pairs_are_answered_as_in_english(
    test: Evaluate, parallel: Path, tmp_path: Path, capsys: Any
):
    folder = tmp_path / "out"
    settings = {"tasks": "[xnli]", "root": parallel, "perturbations": "[noise-100]"}
    assert test(folder, **settings) == 0
    shown = capsys.readouterr().out
    assert "examples answered as in English, in percent\n\n                  xnli\n" in shown
    found = json.loads((folder / "summary.json").read_text())["consistency"]["xnli"]
    assert found == {"mean": 100.0, "languages": {"de": {"percent": 100.0, "examples": 19}}}
    assert sorted(path.name for path in (folder / "answers").iterdir()) == ["xnli-de.npy", "xnli-en.npy"]
    answers = np.load(folder / "answers" / "xnli-de.npy")
    assert answers[:, 0].tolist() == [n for n in range(20) if n != 3]
    classes = tasks.load("xnli").labels
    predicted = (folder / "predictions" / "xnli" / "test-de.tsv").read_text().split()
    assert [classes[index] for index in answers[:, 1]] == predicted


def test_a_volume_compares_the_pairs_that_both_languages_test(test: Evaluate, parallel: Path, tmp_path: Path):
    assert test(tmp_path / "out", tasks="[xnli]", root=parallel, volume=8) == 0
    numbers = [np.load(tmp_path / "out" / "answers" / f"xnli-{code}.npy")[:, 0] for code in ("de", "en")]
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["consistency"]["xnli"]
    assert found["languages"]["de"]["examples"] == len(set(numbers[0]) & set(numbers[1])) >= 7


def test_an_evaluation_of_an_older_version_resumes_without_its_answers(
    test: Evaluate, parallel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    assert test(tmp_path / "out", tasks="[xnli]", root=parallel) == 0
    shutil.rmtree(tmp_path / "out" / "answers")
    seen = predicted_tasks(monkeypatch)
    assert test(tmp_path / "out", tasks="[xnli]", root=parallel) == 0
    assert seen == []
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["consistency"] == {}
    (tmp_path / "out" / "scores" / "xnli-de.json").unlink()
    (tmp_path / "out" / "scores" / "xnli-en.json").unlink()
    assert test(tmp_path / "out", tasks="[xnli]", root=parallel) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["consistency"] != {}


def test_a_blind_evaluation_that_cannot_be_compared_is_refused_before_any_work(
    test: Evaluate, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    seen = predicted_tasks(monkeypatch)
    assert test(tmp_path / "out", blind=tmp_path / "absent") == 2
    assert "absent, but there is no such folder" in capsys.readouterr().err
    assert test(tmp_path / "out", blind=out) == 2
    assert "it must be left out: none of the tasks has images" in capsys.readouterr().err
    assert seen == []


def test_images_of_tasks_without_images_are_missing(test: Evaluate, tmp_path: Path):
    settings = {"tasks": "[xnli]", "languages": "[de]", "perturbations": "[corrupt-fog-3, no-image]"}
    assert test(tmp_path / "out", **settings) == 0
    missing = json.loads((tmp_path / "out" / "summary.json").read_text())["missing"]
    assert [(entry["perturbation"], entry["reason"]) for entry in missing] == [
        ("corrupt-fog-3", "its examples have no images"),
        ("no-image", "its examples have no images"),
    ]


# Other checkpoints of a run


def test_another_checkpoint_of_a_run_is_exported_and_tested(
    test: Evaluate, trained: Path, tmp_path: Path, capsys: Any
):
    steps = sorted(int(path.stem.removeprefix("step-")) for path in (trained / "checkpoints").glob("*.ckpt"))
    best = json.loads((trained / "results.json").read_text())["run"]["best_step"]
    other = next(step for step in steps if step != best)
    assert run([f"--run={trained}", f"--out={tmp_path / 'other'}", f"--checkpoint={other}"], export) == 0
    state = torch.load(trained / "checkpoints" / f"step-{other:09d}.ckpt", weights_only=True)["state_dict"]
    heads, labels = load_heads(str(tmp_path / "other"))
    assert heads["mnli"]
    for name, weight in heads["mnli"].items():
        assert torch.equal(weight, state[f"heads.mnli.{name}"])
    assert labels["mnli"] == ["entailment", "neutral", "contradiction"]
    exported = {"runs": f"[{tmp_path / 'other'}]", "encoder": None, "tasks": "[xnli]", "languages": "[de]"}
    assert test(tmp_path / "out", **exported) == 0
    assert results(tmp_path / "out")["xnli"]["de"]["rows"] == 40
    direct = exported | {"runs": f"[{trained}]", "checkpoint": other}
    assert test(tmp_path / "direct", **direct) == 0
    assert results(tmp_path / "direct") == results(tmp_path / "out")
    assert test(tmp_path / "best", **direct | {"checkpoint": best}) == 0
    assert test(tmp_path / "model", **direct | {"checkpoint": None}) == 0
    assert results(tmp_path / "best") == results(tmp_path / "model")
    assert test(tmp_path / "gone", **direct | {"checkpoint": 7}) == 2
    assert "is missing: give another step" in capsys.readouterr().err
    assert test(tmp_path / "gone", **direct | {"runs": None, "encoder": "none"}) == 2
    assert f"checkpoint is {other}" in capsys.readouterr().err
    assert run([f"--run={trained}", f"--out={tmp_path / 'none'}", "--checkpoint=7"], export) == 2
    assert f"is missing: give another step; there are {', '.join(map(str, steps))}" in capsys.readouterr().err


# Bad input


def test_a_language_without_rows_is_refused_before_any_work(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", tasks="[xnli]", languages="[de, sw]") == 2
    assert "has no row in sw, but in ar, de, en" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_language_that_no_task_has_is_refused(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", tasks="[xnli]", languages="[xx]") == 2
    assert "languages names xx" in capsys.readouterr().err


def test_a_run_without_a_finished_checkpoint_is_refused(
    test: Evaluate, trained: Path, tmp_path: Path, capsys: Any
):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained, unfinished, ignore=shutil.ignore_patterns("model", "results.json"))
    assert test(tmp_path / "out", runs=f"[{unfinished}]") == 2
    message = capsys.readouterr().err
    assert "no finished checkpoint" in message
    assert "xlt export" in message


def test_a_folder_that_is_no_run_is_refused(test: Evaluate, tmp_path: Path, capsys: Any):
    (tmp_path / "empty").mkdir()
    assert test(tmp_path / "out", runs=f"[{tmp_path / 'empty'}]") == 2
    assert "is no run's folder" in capsys.readouterr().err


def test_a_run_of_another_task_is_refused(test: Evaluate, trained: Path, tmp_path: Path, capsys: Any):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    path = other / "model" / "heads.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if name.startswith("udpos.")}
    save_file(kept, path, {"labels": json.dumps({"udpos": load_heads(str(trained))[1]["udpos"]})})
    assert test(tmp_path / "out", runs=f"[{other}]", tasks="[xnli]") == 2
    assert "the heads are udpos, but the tasks need mnli" in capsys.readouterr().err
    assert test(tmp_path / "out", runs=f"[{other}]", tasks="[xnli, udpos]") == 2
    assert "task xnli cannot be tested: no run with the head mnli" in capsys.readouterr().err
    assert test(tmp_path / "out", runs=f"[{other}]", languages="[en]") == 0  # the others are shown as missing
    assert set(results(tmp_path / "out")) == {"udpos"}


def test_two_runs_of_a_task_are_not_chosen_between(
    test: Evaluate, trained: Path, tmp_path: Path, capsys: Any
):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    assert test(tmp_path / "out", runs=f"[{trained}, {other}]") == 2
    assert "could be tested with any of" in capsys.readouterr().err


def test_a_run_with_another_tokenizer_is_refused(test: Evaluate, trained: Path, tmp_path: Path, capsys: Any):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    path = other / "model" / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["model"]["vocab"][100][1] -= 1
    path.write_text(json.dumps(definition))
    assert test(tmp_path / "out", runs=f"[{other}]") == 2
    assert "has another tokenizer" in capsys.readouterr().err


def test_gold_ids_that_do_not_match_are_refused(test: Evaluate, root: Path, tmp_path: Path, capsys: Any):
    folder = tmp_path / "root"
    shutil.copytree(root / "bucc2018", folder / "bucc2018")
    (folder / "bucc2018" / "de-en.dev.gold").write_text("de-999\ten-000\n")
    assert test(tmp_path / "out", tasks="[bucc2018]", root=folder) == 2
    assert "the id de-999 is not in" in capsys.readouterr().err


def test_a_misspelt_key_is_named(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", langauges="[de]") == 2
    assert "did you mean languages?" in capsys.readouterr().err


def test_nothing_to_evaluate_is_said(test: Evaluate, tmp_path: Path, capsys: Any):
    assert test(tmp_path / "out", runs=None, encoder=None) == 2
    assert "nothing to evaluate" in capsys.readouterr().err


# Tasks of one's own

OWN = """
from xlt.data.examples import TextPair
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub
from xlt.kinds import Classification


def read(row):
    return TextPair(row["sentence1"], row["sentence2"], str(row["label"]))


TASK = Classification(
    source=Multilingual(Hub("google/xtreme", "PAWS-X.{language}")),
    read=read,
    labels=("0", "1"),
    languages=("en", "de"),
)
"""
"""A kind without files for XTREME's evaluator."""


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a user's own, in the working directory."""
    folder = tmp_path / "work" / "mylab"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "own.py").write_text(OWN)
    monkeypatch.chdir(folder.parent)
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_a_task_of_ones_own_is_trained_and_evaluated(
    test: Evaluate, tiny_run: Command, mylab: Path, root: Path, tmp_path: Path, capsys: Any
):
    shares = "from dataclasses import replace\nimport mylab.own\n"
    (mylab / "other.py").write_text(f'{shares}TASK = replace(mylab.own.TASK, trains_on="mylab.own")\n')
    changes = {"data.tasks": "[mylab.own, mylab.other]", "data.root": root, "trainer.max_steps": 2}
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    settings = {
        "tasks": "[mylab.own, mylab.other]", "runs": f"[{tmp_path / 'run'}]", "encoder": None,
        "split": "{mylab.own: validation}", "perturbations": "{mylab.own: [noise-10]}",
    }  # fmt: skip
    assert test(tmp_path / "out", **settings) == 0
    found = results(tmp_path / "out")
    assert {name: list(by_language) for name, by_language in found.items()} == {
        "own": ["en", "de"],
        "other": ["en", "de"],
    }
    assert json.loads((tmp_path / "out" / "perturbed.json").read_text())["noise-10"].keys() == {"own"}
    assert not (tmp_path / "out" / "predictions").exists()
    assert "classification" not in capsys.readouterr().out  # an average of XTREME's tasks


@pytest.mark.parametrize(
    ("file", "text", "place", "said"),
    [
        ("own.py", "import mylab.nothing\n", "own.py, line 1", "ModuleNotFoundError: No module named"),
        ("own.py", "from xlt.kinds import Sorting\n", "own.py, line 1", "ImportError: cannot import name"),
        ("own.py", "\nTASK = Task(\n", "own.py, line 2", "SyntaxError: '(' was never closed"),
        ("own.py", "\n\nTASK = 1 / 0\n", "own.py, line 3", "ZeroDivisionError: division by zero"),
        ("own.py", OWN.replace("labels", "classes"), "own.py, line 12", "unexpected keyword argument"),
        ("__init__.py", "x = y\n", "__init__.py, line 1", "NameError: name 'y' is not defined"),
    ],
)
def test_an_error_in_the_file_of_a_task_is_one_message_that_names_its_line(
    tiny_run: Command, mylab: Path, tmp_path: Path, capsys: Any, file: str, text: str, place: str, said: str
):
    (mylab / file).write_text(text)
    fitted = tiny_run(tmp_path / "run", {"data.tasks": "[mylab.own]"})
    evaluated = [f"--out={tmp_path / 'out'}", "--tasks=[mylab.own]", "--encoder=e"]
    for verb, args in ((evaluate, evaluated), (fit, fitted), (prepare, fitted)):
        assert run(args, verb) == 2
        message = capsys.readouterr().err
        assert f"task 'mylab.own': mylab.own cannot be imported ({mylab}/{place}): " in message
        assert said in message
        assert "Traceback" not in message


@pytest.mark.parametrize(
    ("task", "more"), [("udpos/de", ""), ("udpos/uk", "udpos is evaluated in en, af, ar"), ("xnli/de", "")]
)
def test_a_task_in_one_language_is_asked_for_by_languages(
    test: Evaluate, tmp_path: Path, capsys: Any, task: str, more: str
):
    assert test(tmp_path / "out", tasks=f"[{task}]") == 2
    name, _, language = task.partition("/")
    message = capsys.readouterr().err
    assert f"tasks names {task}" in message
    assert f"--tasks '[{name}]'" in message
    assert f"--languages '[{language}]'" in message
    assert more in message


def test_a_task_without_languages_and_a_task_under_two_names_are_refused(
    test: Evaluate, mylab: Path, tmp_path: Path, capsys: Any
):
    assert test(tmp_path / "out", tasks="[mnli]") == 2
    assert "tasks is mnli: it must be a task that is evaluated in languages" in capsys.readouterr().err
    (mylab / "xnli.py").write_text(OWN)
    assert test(tmp_path / "out", tasks="[xnli, mylab.xnli]") == 2
    assert "name at least one, each once" in capsys.readouterr().err
    assert test(tmp_path / "out", tasks="[mylab.own]", split="{mylab.own: test, own: test}") == 2
    assert "mylab.own, own: two of these name the same task" in capsys.readouterr().err


# Runs that are not there


def missing_tasks(out: Path) -> dict[str, str]:
    """The tasks without a model, and why."""
    missing = json.loads((out / "summary.json").read_text())["missing"]
    return {entry["task"]: entry["reason"] for entry in missing if not entry["language"]}


def part_of(trained: Path, folder: Path, tasks: list[str]) -> Path:
    """A copy of a run that has trained these tasks alone."""
    shutil.copytree(trained, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["tasks"] = tasks
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    heads, labels = load_heads(str(trained))
    kept = {name: heads[name] for name in tasks}
    flat = {f"{head}.{name}": tensor for head, state in kept.items() for name, tensor in state.items()}
    named = {"labels": json.dumps({head: labels.get(head, []) for head in kept})}
    save_file(flat, folder / "model" / "heads.safetensors", named)
    return folder


def test_a_run_that_is_not_there_or_not_finished_leaves_the_others_to_be_tested(
    test: Evaluate, trained: Path, tmp_path: Path, capsys: Any
):
    there = part_of(trained, tmp_path / "udpos", ["udpos"])
    unfinished = part_of(trained, tmp_path / "panx", ["panx"])
    shutil.rmtree(unfinished / "model")
    runs = f"[{there}, {unfinished}, {tmp_path / 'gone'}]"
    assert (
        test(tmp_path / "out", runs=runs, tasks="[udpos, panx, pawsx, tatoeba]", languages="[de, en, sw]")
        == 0
    )
    assert set(results(tmp_path / "out")) == {"udpos", "tatoeba"}
    found = missing_tasks(tmp_path / "out")
    assert list(found) == ["panx", "pawsx"]
    assert f"run {unfinished} has no finished checkpoint" in found["panx"]
    assert f"{tmp_path / 'gone'} is no run's folder" in found["panx"]
    assert found["pawsx"].startswith(f"{tmp_path / 'gone'} is no run's folder")
    assert "no finished checkpoint" not in found["pawsx"]  # that run trains PAN-X alone
    assert test(tmp_path / "none", runs=f"[{there}, {unfinished}]", tasks="[pawsx]") == 2
    assert "task pawsx cannot be tested: no run with the head pawsx" in capsys.readouterr().err
    assert test(tmp_path / "none", runs=f"[{there}, {unfinished}]", tasks="[panx]") == 2
    assert "nothing can be evaluated: run" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_run_without_the_checkpoint_leaves_the_others_to_be_tested(
    test: Evaluate, trained: Path, tmp_path: Path
):
    best = json.loads((trained / "results.json").read_text())["run"]["best_step"]
    other = part_of(trained, tmp_path / "panx", ["panx"])
    for path in (other / "checkpoints").glob(f"step-{best:09d}*"):
        path.unlink()
    settings = {"runs": f"[{trained}, {other}]", "encoder": None, "checkpoint": best, "languages": "[en]"}
    assert test(tmp_path / "out", tasks="[udpos, panx]", **settings) == 0
    assert set(results(tmp_path / "out")) == {"udpos", "panx"}  # the first run trained PAN-X too


# As a command of its own


def test_the_command_says_what_is_missing_and_how_far_it_is(
    trained: Path, root: Path, cache: str, tmp_path: Path
):
    settings = {
        "out": tmp_path / "out", "root": root, "cache": cache, "runs": f"[{trained}]", "accelerator": "cpu",
        "max_length": 128, "stride": 32, "tasks": "[pawsx]",
    }  # fmt: skip
    code, output = launch([f"--{key}={value}" for key, value in settings.items()], "xlt.evaluate")
    lines = output.splitlines()
    assert code == 0
    assert any(line.startswith("missing: pawsx es") for line in lines)
    assert any(re.fullmatch(r"pawsx-de: [0-9.]+", line) for line in lines)


# Averages


def test_average_gap_and_worst_language_of_a_worked_example():
    found = summarise(tasks.load("mlqa"), {"en": 70.0, "de": 60.0, "ar": 41.0})
    assert found.mean == Average(57.0, 3, 7)
    assert str(found.mean) == "57.0 (3/7)"
    assert found.gap == pytest.approx(70 - 50.5)
    assert (found.worst, found.lowest) == ("ar", 41.0)
    assert summarise(tasks.load("mlqa"), {"de": 60.0}).gap is None


def cell(task: str, language: str, **metrics: float) -> CellScore:
    return CellScore(task, language, "test", "m", 10, metrics, dict.fromkeys(metrics, 0.0), {}, "")


def test_groups_average_tasks_and_say_what_they_lack():
    names = ["xquad", "tydiqa", "tatoeba"]
    scored = [cell("xquad", lang, exact_match=40.0, f1=60.0) for lang in tasks.load("xquad").languages]
    scored += [cell("tydiqa", "en", exact_match=10.0, f1=30.0)]
    report = Report([tasks.load(name) for name in names], scored)
    groups = report.groups()
    assert groups["question answering"] == Average(35.0, 2, 3)  # (50 + 20) / 2, of two of the three tasks
    assert groups["retrieval"] == Average(None, 0, 2)
    assert str(groups["all tasks"]) == "35.0 (2/9)"
    assert report.averages() == [
        "question answering  35.0 (2/3 tasks, 12/20 languages)",
        "retrieval           –",
        "tasks averaged      35.0 (2/9 tasks, 12/20 languages)",
    ]
    assert report.summary()["groups"]["question answering"] == {
        "value": 35.0, "found": 2, "wanted": 3, "languages": {"found": 12, "wanted": 20},
    }  # fmt: skip


def test_only_an_average_of_all_tasks_in_all_languages_has_no_count():
    loaded = [tasks.load(name) for names in GROUPS.values() for name in names]
    scored = [cell(task.name, lang, f1=40.0) for task in loaded for lang in task.languages]
    assert Report(loaded, scored).averages()[-1] == "all tasks           40.0"
    partial = [score for score in scored if score.language != "de"]
    assert Report(loaded, partial).averages()[-1] == "all tasks           40.0 (154/162 languages)"
    alone = Report(loaded[:1], [cell("xnli", "en", accuracy=40.0)])
    assert alone.averages() == [
        "classification      40.0 (1/2 tasks, 1/15 languages)",
        "tasks averaged      40.0 (1/9 tasks, 1/15 languages)",
    ]


# Models of runs


def test_a_run_begins_with_the_encoder_of_another(
    trained: Path, tiny_run: Command, tmp_path: Path, root: Path
):
    module = TransferModule(str(trained))
    states = load_file(trained / "model" / "model.safetensors")
    for name, tensor in module.encoder.transformer.state_dict().items():
        assert torch.equal(states[name], tensor)
    changes = {
        "data.tasks": "[pawsx]",
        "data.root": root,
        "model.encoder": trained,
        "model.from_scratch": None,
    }
    folder = tmp_path / "phase3"
    assert run(tiny_run(folder, {**changes, "trainer.max_steps": 4, "model.keep_heads": "true"})) == 0
    assert sorted(load_heads(str(folder))[0]) == ["pawsx"]
    # It needs nothing of the run that it began with.
    assert Encoder(str(folder)).shape == module.encoder.shape
    assert load_tokenizer(str(folder)).vocab_size == load_tokenizer(str(trained)).vocab_size


def test_the_model_of_a_run_is_its_best_checkpoint(trained: Path):
    best = json.loads((trained / "results.json").read_text())["run"]["best_step"]
    state = torch.load(trained / "checkpoints" / f"step-{best:09d}.ckpt", weights_only=True)["state_dict"]
    heads, labels = load_heads(str(trained))
    assert set(heads) == {"mnli", "pawsx", "udpos", "panx", "squad_v1", "tydiqa"}
    assert labels["mnli"] == ["entailment", "neutral", "contradiction"]
    for head, tensors in heads.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, state[f"heads.{head}.{name}"])


def test_a_head_that_was_not_trained_cannot_be_kept(
    trained: Path, tiny_run: Command, tmp_path: Path, samples: list[str], capsys: Any
):
    changes = {
        "data.tasks": "[qqp]",
        "model.encoder": trained,
        "model.from_scratch": None,
        "model.keep_heads": "true",
    }
    assert run(tiny_run(tmp_path / "run", changes)) == 2
    assert (
        "model.keep_heads is true, but the head qqp is not among the trained heads: "
        in capsys.readouterr().err
    )


def test_a_run_cannot_begin_with_an_unfinished_one(
    trained: Path, tiny_run: Command, tmp_path: Path, capsys: Any
):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained, unfinished, ignore=shutil.ignore_patterns("model"))
    changes = {"model.encoder": unfinished, "model.from_scratch": None}
    assert run(tiny_run(tmp_path / "run", changes)) == 2
    assert "no finished checkpoint" in capsys.readouterr().err


def test_the_shipped_config_names_the_runs_of_the_shipped_configs():
    configs = Path(__file__).parents[1] / "configs"
    runs = yaml.safe_load((configs / "evaluate" / "xtreme.yaml").read_text())["runs"]
    for run_folder in runs:
        name = run_folder.removeprefix("runs/target-")
        config = yaml.safe_load((configs / "target" / f"{name}.yaml").read_text())
        assert config["trainer"]["default_root_dir"] == run_folder


def test_ctrl_c_is_one_line_and_the_finished_cells_stay(
    root: Path, cache: str, encoder_with_weights: str, tmp_path: Path
):
    settings = {
        "out": tmp_path / "out", "root": root, "cache": cache, "encoder": encoder_with_weights,
        "tasks": "[tatoeba, bucc2018]", "accelerator": "cpu",
    }  # fmt: skip
    words = [sys.executable, "-m", "xlt.evaluate", *(f"--{key}={value}" for key, value in settings.items())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, text=True, cwd=REPOSITORY, start_new_session=True, **pipes)
    while not (done := finished_cells(tmp_path / "out")) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in errors
    assert done
    assert run(words[3:], evaluate) == 0
    assert done.items() <= finished_cells(tmp_path / "out").items()


def finished_cells(out: Path) -> dict[Path, int]:
    """The files of an evaluation's finished cells, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("scores/**/*.json")}

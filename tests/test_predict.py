"""xlt predict: the predictions of an evaluation on the same rows, from any file; errors with their place."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_evaluate
import torch
from benchmark_rows import read_lines, read_sentences
from conftest import Command, run
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from xlt import tasks
from xlt.batch.packing import pack
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import TaggedWords
from xlt.data.sources import roots_of
from xlt.evaluation.own_rows import predictor
from xlt.evaluation.own_rows.columns import RowReader
from xlt.evaluation.own_rows.reading import UserRow, UserRows
from xlt.evaluation.own_rows.writing import schema_of, writer
from xlt.evaluation.plan import with_classes
from xlt.evaluation.predict import EvaluationModel, open_device
from xlt.evaluation.predict import predict as predict_split
from xlt.predict import predict
from xlt.splits.splits import Splits

root, trained, test, out = test_evaluate.root, test_evaluate.trained, test_evaluate.test, test_evaluate.out

Predict = Callable[..., int | str | None]
Row = Mapping[str, Any]


@pytest.fixture(scope="session")
def ask(trained: Path) -> Predict:
    """Run the command; its arguments may be replaced, added, or (None) left out."""

    def call(**changes: Any) -> int | str | None:
        settings = {
            "run": trained, "accelerator": "cpu", "max_length": 128, "stride": 32,
            "tokens_per_micro_batch": 2048,
        }  # fmt: skip
        chosen = settings | changes
        return run([f"--{key}={value}" for key, value in chosen.items() if value is not None], predict)

    return call


@pytest.fixture(scope="session")
def choosing(samples: list[str], tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with heads for multiple choice."""
    folder = tmp_path_factory.mktemp("choices") / "run"
    changes = {
        "data.tasks": "[cosmosqa, commonsenseqa]",
        "trainer.max_steps": 4,
        "trainer.val_check_interval": 4,
    }
    assert run(tiny_run(folder, changes)) == 0
    return folder


def xtreme(root: Path, config: str) -> list[dict[str, Any]]:
    return pq.read_table(root / "google" / "xtreme" / config / "validation.parquet").to_pylist()


def in_german(root: Path) -> list[dict[str, Any]]:
    return [row for row in xtreme(root, "XNLI") if row["language"] == "de"]


def without(rows: Sequence[Row], *columns: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows in the format of the suffix, by other means than xlt's own."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


# Predictions


@pytest.mark.parametrize("chunk_size", [1000, 7])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_classes_are_those_of_an_evaluation(
    ask: Predict, root: Path, out: Path, tmp_path: Path, suffix: str, chunk_size: int
):
    rows = without(in_german(root), "gold_label")
    source, found = write(tmp_path / f"rows{suffix}", rows), tmp_path / f"found{suffix}"
    assert ask(input=source, task="xnli", out=found, chunk_size=chunk_size) == 0
    assert [row["prediction"] for row in read(found)] == read_lines(out / "predictions/xnli/test-de.tsv")
    assert without(read(found), "prediction", "probability") == rows


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_tags_are_those_of_an_evaluation(ask: Predict, root: Path, out: Path, tmp_path: Path, suffix: str):
    rows = without(xtreme(root, "udpos.German"), "pos_tags")
    source, found = write(tmp_path / f"rows{suffix}", rows), tmp_path / f"found{suffix}"
    assert ask(input=source, task="udpos", out=found, chunk_size=9) == 0
    assert [row["prediction"] for row in read(found)] == read_sentences(out / "predictions/udpos/test-de.tsv")
    for row in read(found):
        assert row["words"] == row["tokens"]
        assert len(row["probability"]) == len(row["words"])


def test_words_may_be_text_with_spaces_in_a_table_or_in_lines(
    ask: Predict, root: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    sentences = [" ".join(row["tokens"]) for row in xtreme(root, "udpos.German")]
    expected = read_sentences(out / "predictions/udpos/test-de.tsv")
    source = write(tmp_path / "rows.csv", [{"sentence": text} for text in sentences])
    assert ask(input=source, task="udpos", out=tmp_path / "found.csv", columns="{tokens: sentence}") == 0
    found = read(tmp_path / "found.csv")
    assert [json.loads(row["prediction"]) for row in found] == expected
    assert [json.loads(row["words"]) for row in found] == [text.split() for text in sentences]
    # A blank line has its own row, so that lines and predictions stay aligned.
    lines = "\n".join([sentences[0], "", *sentences[1:], ""])
    (tmp_path / "rows.txt").write_text(lines, encoding="utf-8")
    assert ask(input=tmp_path / "rows.txt", task="udpos", out=tmp_path / "found.jsonl") == 0
    predictions = [row["prediction"] for row in read(tmp_path / "found.jsonl")]
    assert predictions == [expected[0], [], *expected[1:]]
    pipe = io.TextIOWrapper(io.BytesIO("\n".join(sentences).encode()))
    monkeypatch.setattr(sys, "stdin", pipe)
    capsys.readouterr()
    assert ask(input="-", task="udpos") == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prediction"] for row in printed] == expected
    assert [row["text"] for row in printed] == sentences


@pytest.mark.parametrize("chunk_size", [1000, 5])
def test_answers_are_those_of_an_evaluation_with_their_characters(
    ask: Predict, root: Path, out: Path, tmp_path: Path, chunk_size: int
):
    rows = without(xtreme(root, "XQuAD.vi"), "answers")
    source, found = write(tmp_path / "rows.parquet", rows), tmp_path / "found.jsonl"
    assert ask(input=source, task="xquad", out=found, chunk_size=chunk_size) == 0
    expected = json.loads((out / "predictions/xquad/test-vi.json").read_text(encoding="utf-8"))
    assert {row["id"]: row["prediction"] for row in read(found)} == expected
    for row in read(found):
        assert row["context"][row["start"] : row["end"]] == row["prediction"]
        assert 0 < row["probability"] <= 1


@pytest.mark.parametrize("name", ["cosmosqa", "commonsenseqa"])
def test_choices_are_those_of_the_whole_split(
    ask: Predict, choosing: Path, samples: list[str], cache: str, tmp_path: Path, name: str
):
    path = {"cosmosqa": "allenai/cosmos_qa", "commonsenseqa": "tau/commonsense_qa"}[name]
    rows = pq.read_table(Path(samples[0]) / path / "default" / "validation.parquet").to_pylist()[:30]
    # No column of labels or ids is needed.
    source = write(tmp_path / "rows.jsonl", without(rows, "label", "answerKey", "id"))
    assert ask(run=choosing, task=name, input=source, out=tmp_path / "found.jsonl", chunk_size=8) == 0
    text = TextEncoder(load_tokenizer(str(choosing)), 128, 32)
    task = with_classes(tasks.load(name), str(choosing))
    stored = Splits(roots_of(samples), Path(cache), text).open(task, "validation")
    asked = np.arange(30), 2048, open_device("cpu", "32-true")
    predictions = predict_split(EvaluationModel(str(choosing)).eval(), task, stored, *asked)
    found = read(tmp_path / "found.jsonl")
    assert [row["prediction"] for row in found] == predictions.classes.tolist()
    for row, original in zip(found, rows, strict=True):
        assert row["prediction_text"] == task.read(original).choices[row["prediction"]]


def test_probabilities_are_the_softmax_of_transformers_states(
    ask: Predict, root: Path, trained: Path, tmp_path: Path
):
    rows = without(in_german(root), "gold_label")[:6]
    source = write(tmp_path / "rows.jsonl", rows)
    assert ask(input=source, task="xnli", out=tmp_path / "found.jsonl", all_probabilities="true") == 0
    model, tokenizer = (part.from_pretrained(trained / "model") for part in (AutoModel, AutoTokenizer))
    head = {
        k: v for k, v in load_file(trained / "model" / "heads.safetensors").items() if k.startswith("mnli.")
    }
    weights = [head[f"mnli.pooler.{part}"] for part in ("dense.weight", "dense.bias", "out_proj.weight")]
    for row in read(tmp_path / "found.jsonl"):
        ids = tokenizer(row["sentence1"], row["sentence2"], return_tensors="pt")
        with torch.no_grad():
            first = model.eval()(**ids).last_hidden_state[0, 0].float()
            hidden = torch.tanh(weights[0] @ first + weights[1])
            expected = (weights[2] @ hidden + head["mnli.pooler.out_proj.bias"]).softmax(-1).tolist()
        assert list(row["probabilities"]) == ["entailment", "neutral", "contradiction"]
        assert list(row["probabilities"].values()) == pytest.approx(expected, abs=2e-5)
        assert row["probability"] == max(row["probabilities"].values())
        assert row["probabilities"][row["prediction"]] == row["probability"]


def test_a_span_has_the_product_of_its_start_and_end_probability():
    head = tasks.load("squad_v1").head(2, 0.0)
    logits = torch.tensor([[[0.0, 0.5], [-torch.inf, -torch.inf], [2.0, 0.0], [1.0, 3.0]]])
    found = head.predict(logits, pack([4]), {})
    start, end = (logits[0, :, side].softmax(0) for side in (0, 1))
    assert (found["start"].item(), found["end"].item()) == (2, 3)
    assert (found["score"] - found["total"]).exp().item() == pytest.approx((start[2] * end[3]).item())
    assert (found["null"] - found["total"]).exp().item() == pytest.approx((start[0] * end[0]).item())


def test_a_label_that_is_unknown_is_ignored(ask: Predict, root: Path, out: Path, tmp_path: Path):
    rows = [{**row, "gold_label": "perhaps"} for row in in_german(root)]
    source = write(tmp_path / "rows.jsonl", rows)
    assert ask(input=source, task="xnli", out=tmp_path / "found.jsonl") == 0
    found = read(tmp_path / "found.jsonl")
    assert [row["prediction"] for row in found] == read_lines(out / "predictions/xnli/test-de.tsv")
    assert {row["gold_label"] for row in found} == {"perhaps"}


def test_the_only_head_of_an_export_needs_no_task(
    ask: Predict, tiny_run: Command, samples: list[str], tmp_path: Path
):
    changes = {"data.tasks": "[mnli]", "trainer.max_steps": 2, "trainer.val_check_interval": 2}
    assert run(tiny_run(tmp_path / "run", changes)) == 0
    source = write(tmp_path / "rows.csv", [{"premise": "A cat sleeps.", "hypothesis": "A dog barks."}])
    for folder in ("run", "run/model"):
        assert ask(run=tmp_path / folder, input=source, out=tmp_path / "found.csv") == 0
    (row,) = read(tmp_path / "found.csv")
    assert row["prediction"] in tasks.load("mnli").labels


# Pipes


def test_a_pipe_gets_each_chunk_before_the_next_is_read(
    ask: Predict, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    printed: list[int] = []

    class Slow(io.RawIOBase):
        """A pipe that notes how many lines are printed when a line is asked for."""

        def __iter__(self) -> Any:
            for number in range(5):
                printed.append(capsys.readouterr().out.count("\n"))
                yield json.dumps({"sentence1": f"Cat {number}.", "sentence2": "A dog."}).encode() + b"\n"

    class Standard:
        buffer = Slow()

    monkeypatch.setattr(sys, "stdin", Standard())
    assert ask(input="-", task="xnli", chunk_size=2) == 0
    assert printed == [0, 0, 2, 0, 2]  # the lines before each line, since the line before
    assert capsys.readouterr().out.count("\n") == 1


def test_a_reader_that_has_enough_ends_the_command_without_a_message(trained: Path, tmp_path: Path):
    rows = [{"sentence1": f"Cat {number}.", "sentence2": "A dog."} for number in range(400)]
    source = write(tmp_path / "rows.jsonl", rows)
    command = [sys.executable, "-m", "xlt.predict", f"--run={trained}", f"--input={source}", "--task=xnli"]
    options = ["--chunk_size=2", "--accelerator=cpu", "--max_length=32", "--stride=8"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 141
    assert "error" not in errors
    assert "Broken pipe" not in errors


# Errors


def refused(capsys: Any, code: int | str | None) -> str:
    assert code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("values", [{"sentence": "Ada saw it"}, {"sentence": ""}])
def test_a_task_that_divides_the_text_itself_reads_text(values: dict[str, Any], tmp_path: Path):
    task = replace(
        tasks.load("udpos"), read=lambda row: TaggedWords(tuple(row["sentence"].split()), tuple(row["tags"]))
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps(values) + "\n")
    rows = UserRows(str(tmp_path / "rows.jsonl"))
    example = RowReader(task, rows, {}).read(next(iter(rows)))
    assert list(example.words) == values["sentence"].split()


def test_missing_columns_are_named_with_those_that_exist(ask: Predict, tmp_path: Path, capsys: Any):
    source = write(tmp_path / "rows.csv", [{"text_a": "A cat.", "sentence2": "A dog."}])
    assert refused(capsys, ask(input=source, task="xnli")) == (
        f"error: {source} has no column sentence1, which task xnli reads; its columns are text_a, sentence2. "
        "Rename columns, or set --columns '{sentence1: YOUR_COLUMN}'\n"
    )
    wrong = "{sentence1: text_b}"
    assert f"{source} has no column text_b, which columns names" in refused(
        capsys, ask(input=source, task="xnli", columns=wrong)
    )
    wrong = "{sentence1: text_a, sentence_2: text_a}"
    assert "columns names sentence_2, but task xnli reads sentence1, sentence2" in refused(
        capsys, ask(input=source, task="xnli", columns=wrong)
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"", "rows.csv has no rows"),
        ("rows.csv", b"sentence1,sentence2\n", "rows.csv has no rows"),
        ("rows.jsonl", b"\n\n", "rows.jsonl has no rows"),
        (
            "rows.csv",
            b"sentence1,sentence2\na,b\na,b,c\n",
            "rows.csv, line 3 has 3 values, but the first line names 2 columns: sentence1, sentence2",
        ),
        (
            "rows.csv",
            b"sentence1,sentence1\na,b\n",
            "rows.csv: the first line names the column 'sentence1' twice",
        ),
        ("rows.csv", b"sentence1,sentence2\ra,b\r", "rows.csv, line 1 has a carriage return (CR) alone"),
        ("rows.csv", b'sentence1,sentence2\na,"b" c\n', "rows.csv, line 2: ',' expected after"),
        ("rows.csv", b"sentence1,sentence2\na,\xe4\n", "rows.csv, line 2 is not UTF-8 text ("),
        (
            "rows.csv",
            "sentence1\n".encode("utf-16"),
            "rows.csv, line 1 is not UTF-8 text (invalid start byte at byte 1",
        ),
        ("rows.jsonl", b'{"sentence1": "a"\n', "rows.jsonl, line 1 is not JSON"),
        (
            "rows.jsonl",
            b'{"sentence1": "a \\ud83d b"}\n',
            r"rows.jsonl, line 1 has \ud83d without its other half",
        ),
        ("rows.jsonl", b"[1]\n", "rows.jsonl, line 1 is [1], not an object"),
        (
            "rows.jsonl",
            b'{"sentence1": "a", "sentence2": "b"}\n\n{"sentence1": "a"}\n',
            "rows.jsonl, line 3: column 'sentence2' is missing; the columns are sentence1",
        ),
        (
            "rows.jsonl",
            b'{"sentence1": "a", "sentence2": "b"}\n{"sentence1": "a", "sentence2": null}\n',
            "rows.jsonl, line 2: there must be text in column sentence2 (None)",
        ),
        (
            "rows.jsonl",
            b'{"sentence1": "a", "sentence2": "b", "prediction": 1}\n',
            "rows.jsonl, line 1: the column prediction exists already",
        ),
        (
            "rows.csv",
            b"sentence1;sentence2\na;b\n",
            "If ';' separates columns, replace it by ','",
        ),
        ("rows.parquet", b"PAR1", "rows.parquet"),
        ("rows.txt", b"A cat.\n", "rows.txt has plain lines, but task xnli reads several texts or lists"),
        ("rows.xls", b"", "rows.xls: it must end in .csv, .tsv, .jsonl, .parquet, .txt, or be -"),
    ],
)
def test_bad_rows_are_refused_with_their_line(
    ask: Predict, tmp_path: Path, capsys: Any, name: str, content: bytes, message: str
):
    (tmp_path / name).write_bytes(content)
    result = ask(input=tmp_path / name, task="xnli", out=tmp_path / "found.jsonl")
    assert message in refused(capsys, result)
    assert not (tmp_path / "found.jsonl").exists()


def test_lists_are_refused_in_a_table_with_a_hint(ask: Predict, choosing: Path, tmp_path: Path, capsys: Any):
    source = write(tmp_path / "rows.csv", [{"question": "Where?", "choices": "here, there"}])
    message = refused(capsys, ask(run=choosing, task="commonsenseqa", input=source))
    assert f"{source}, line 2: task commonsenseqa cannot read the row (" in message
    assert (
        "reads the columns choices, answerKey, question, id, of which labels and ids may be left" in message
    )
    assert "the row has question, choices. Lists need JSON lines or parquet" in message


def test_wrong_runs_tasks_and_outputs_are_refused(
    ask: Predict, trained: Path, tmp_path: Path, capsys: Any, encoder_with_weights: str
):
    source = write(tmp_path / "rows.csv", [{"sentence1": "A cat.", "sentence2": "A dog."}])
    for changes, message in (
        ({"task": None}, "has several heads: set --task to the task that predicts, such as xnli, pawsx"),
        ({"task": "qqp"}, "task is qqp, whose head qqp is not among the heads of"),
        ({"task": "tatoeba"}, "task is tatoeba, whose head tatoeba is not among"),
        ({"task": "xnlj"}, "Did you mean xnli?"),
        ({"input": tmp_path / "none.csv"}, "none.csv, but there is no such file"),
        ({"out": tmp_path / "found.txt"}, "found.txt: it must end in .csv, .tsv, .jsonl, .parquet, or be -"),
        ({"out": source}, "rows.csv, which is the input: name another file"),
        ({"out": tmp_path / "no" / "found.csv"}, "make the folder first"),
        ({"out": "/proc/found.csv"}, "the output's folder /proc cannot be written"),
        ({"chunk_size": 0}, "chunk_size is 0: it must be at least 1 row"),
        ({"run": encoder_with_weights}, "is no run's folder"),
        ({"run": tmp_path}, "is no run's folder"),
    ):
        assert message in refused(capsys, ask(**{"input": source, "task": "xnli", **changes})), changes


def test_a_task_of_images_and_a_task_without_answers_are_refused(
    ask: Predict, choosing: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "xlt.evaluation.own_rows.predictor.load_heads", lambda _: ({"xgqa": {}, "mlm": {}}, {})
    )
    monkeypatch.setattr(
        "xlt.evaluation.own_rows.predictor.load", lambda name: replace(tasks.load(name), head_name=name)
    )
    source = write(tmp_path / "rows.csv", [{"text": "A cat."}])
    for name, message in (("xgqa", "which reads images"), ("mlm", "which does not predict single rows")):
        assert message in refused(capsys, ask(run=choosing, input=source, task=name))


# Columns


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("mnli", ["premise", "hypothesis"]),
        ("xnli", ["sentence1", "sentence2"]),
        ("pawsx", ["sentence1", "sentence2"]),
        ("qqp", ["question1", "question2"]),
        ("squad_v1", ["question", "context"]),
        ("squad_v2", ["question", "context"]),
        ("tydiqa", ["question", "context"]),
        ("udpos", ["tokens"]),
        ("ccg", ["tokens"]),
        ("cosmosqa", ["question", "answer0", "answer1", "answer2", "answer3", "context"]),
    ],
)
def test_a_task_needs_the_columns_of_its_texts_alone(tmp_path: Path, name: str, texts: list[str]):
    task = tasks.load(name)
    rows = UserRows(str(write(tmp_path / "rows.jsonl", [dict.fromkeys(texts, "Some words here")])))
    example = RowReader(task, rows, {}).read(rows.first)
    if name in ("udpos", "ccg"):
        assert example.words == ("Some", "words", "here")
    lacking = UserRows(str(write(tmp_path / "other.jsonl", [{"none": "text"}])))
    with pytest.raises(
        ValueError, match=f"other.jsonl has no column {', '.join(texts)}, which task {name} reads"
    ):
        RowReader(task, lacking, {})


def test_a_task_of_ones_own_may_be_named_without_its_package(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        return tasks.load("xnli")

    monkeypatch.setattr(predictor, "tasks_of", lambda _: ["mylab.names/de", "mylab.facts"])
    monkeypatch.setattr(predictor, "load_heads", lambda _: ({"names": {}, "facts": {}, "mnli": {}}, {}))
    monkeypatch.setattr(predictor, "with_classes", lambda task, _: task)
    monkeypatch.setattr(predictor, "load", load)
    for name in ("names", "mylab.names", "facts", "udpos"):
        try:
            predictor.choose_task("run", name, None)
        except ValueError:
            continue
    assert asked == ["mylab.names", "mylab.names", "mylab.facts", "udpos"]


def test_a_list_of_choices_needs_no_label(tmp_path: Path):
    row = {"ctx": "A cat", "endings": ["sleeps", "runs", "eats", "sings"]}
    rows = UserRows(str(write(tmp_path / "rows.jsonl", [row, {"ctx": "A cat", "endings": ["sleeps"]}])))
    reader = RowReader(tasks.load("hellaswag"), rows, {})
    one, other = rows
    assert reader.read(one).choices == ("sleeps", "runs", "eats", "sings")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: 1 choices, not 4"):
        reader.read(other)
    first = {"question": "Why?", "choices": {"label": ["A", "B"], "text": ["x", "y"]}}
    rows = UserRows(str(write(tmp_path / "first.jsonl", [first])))
    with pytest.raises(ValueError, match=r"first\.jsonl, line 1: .* \(2 choices, not 5\)"):
        RowReader(tasks.load("commonsenseqa"), rows, {})


def test_a_list_of_words_in_a_table_is_read_as_it_was_written(tmp_path: Path):
    texts = ['["New York", "is", "big"]', "[1] is a number", "[sic]"]
    rows = UserRows(str(write(tmp_path / "rows.csv", [{"tokens": text} for text in texts])))
    reader = RowReader(tasks.load("udpos"), rows, {})
    found = [reader.read(row).words for row in rows]
    assert found == [("New York", "is", "big"), ("[1]", "is", "a", "number"), ("[sic]",)]


def test_an_integer_above_64_bits_is_refused_in_parquet(tmp_path: Path):
    with (
        pytest.raises(ValueError, match="does not fit into 64 bits"),
        writer(str(tmp_path / "x.parquet")) as add,
    ):
        add([{"id": 2**70}])
    assert list(tmp_path.iterdir()) == []


def test_the_types_of_a_parquet_file_are_those_of_the_first_rows():
    schema = schema_of([{"text": "a", "note": None, "numbers": [1]}])
    assert schema.field("note").type == pa.string()
    assert schema.field("numbers").type == pa.list_(pa.int64())


def test_a_table_refuses_rows_with_other_columns(ask: Predict, tmp_path: Path, capsys: Any):
    rows = [{"sentence1": "a", "sentence2": "b"}, {"sentence1": "a", "sentence2": "b", "more": 1}]
    source = write(tmp_path / "rows.jsonl", rows)
    for name in ("found.csv", "found.parquet"):
        message = refused(capsys, ask(input=source, task="xnli", out=tmp_path / name))
        assert "row 2 has the columns sentence1, sentence2, more, " in message
    rows = [
        {"sentence1": "a", "sentence2": "b", "more": 1},
        {"sentence1": "a", "sentence2": "b", "more": "x"},
    ]
    source = write(tmp_path / "rows.jsonl", rows)
    message = refused(capsys, ask(input=source, task="xnli", out=tmp_path / "found.parquet"))
    assert "a value does not have the type of its column in the first rows" in message


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path):
    (tmp_path / "rows.csv").write_bytes("﻿text\nKatze\n".encode())
    assert UserRows(str(tmp_path / "rows.csv")).first == UserRow(
        {"text": "Katze"}, f"{tmp_path / 'rows.csv'}, line 2"
    )

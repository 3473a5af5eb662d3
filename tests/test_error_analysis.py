"""Error analysis: the examples that an evaluation keeps, figures about errors by hand, and report.html."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_evaluate
from benchmark_rows import read_gold_answers, read_lines, read_sentences
from test_evaluate import Evaluate, results
from test_run_report import Page

from xlt.evaluation.error_page import MAX_CHARACTERS, shown, task_sections
from xlt.evaluation.errors import calibration, errors_of, flips, rows_at
from xlt.evaluation.example_tables import read_columns

root, trained, test, out = test_evaluate.root, test_evaluate.trained, test_evaluate.test, test_evaluate.out


def examples(out: Path, task: str, language: str) -> list[dict[str, Any]]:
    return pq.read_table(out / "examples" / task / f"{language}.parquet").to_pylist()


# Tables of examples


@pytest.mark.parametrize("task", ["xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa"])
def test_the_examples_give_the_scores_of_the_evaluation(out: Path, task: str):
    for language, cell in results(out)[task].items():
        rows = examples(out, task, language)
        assert len(rows) == cell["rows"]
        assert {row["language"] for row in rows} == {language}
        assert [row["correct"] for row in rows] == [row["score"] == 100 for row in rows]
        scores = [row["score"] for row in rows]
        kept = np.load(out / "example_scores" / f"{task}-{language}.npy")
        if kept.ndim == 1:
            assert scores == pytest.approx(kept)
        else:
            right, found, wanted = kept.sum(0)
            assert cell["f1"] == pytest.approx(200 * right / (found + wanted))
            assert scores == pytest.approx([200 * a / (b + c) for a, b, c in kept.tolist()])


def test_a_folder_of_examples_is_read_as_one_table(out: Path):
    table = pq.read_table(out / "examples" / "xnli")
    assert sorted(set(table["language"].to_pylist())) == ["ar", "de", "en"]
    assert table.num_rows == 120


def test_examples_have_texts_gold_and_prediction_as_the_files_of_the_benchmark(out: Path, root: Path):
    source = pq.read_table(root / "google/xtreme/XNLI/validation.parquet").to_pylist()
    source = [row for row in source if row["language"] == "de"]
    rows = examples(out, "xnli", "de")
    assert [(r["first"], r["second"], r["gold"]) for r in rows] == [
        (r["sentence1"], r["sentence2"], r["gold_label"]) for r in source
    ]
    assert [row["prediction"] for row in rows] == read_lines(out / "predictions/xnli/test-de.tsv")
    assert [row["example"] for row in rows] == list(range(40))
    for row in rows:
        assert 1 / 3 <= row["probability"] <= 1
        is_gold = row["gold"] == row["prediction"]
        assert (row["gold_probability"] == row["probability"]) == is_gold
    rows = examples(out, "udpos", "de")
    assert [row["prediction"] for row in rows] == read_sentences(out / "predictions/udpos/test-de.tsv")
    assert [row["gold"] for row in rows] == read_sentences(out / "gold/udpos/test-de.tsv")
    source = pq.read_table(root / "google/xtreme/udpos.German/validation.parquet").to_pylist()
    assert [row["words"] for row in rows] == [row["tokens"] for row in source]
    rows = examples(out, "xquad", "vi")
    gold = read_gold_answers(out / "gold/xquad/test-vi.json")
    answers = json.loads((out / "predictions/xquad/test-vi.json").read_text(encoding="utf-8"))
    assert {row["id"]: row["gold"] for row in rows} == gold
    assert {row["id"]: row["prediction"] for row in rows} == answers
    for row in rows:
        assert row["context"][row["start"] : row["end"]] == row["prediction"]


def test_tokens_are_those_of_all_windows(out: Path, trained: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    for row in examples(out, "xnli", "ar"):
        assert row["tokens"] == min(128, len(tokenizer(row["first"], row["second"]).input_ids))
    for row in examples(out, "xquad", "en"):
        pieces = tokenizer(
            row["question"].strip(),
            row["context"],
            max_length=128,
            stride=32,
            truncation="only_second",
            return_overflowing_tokens=True,
        )
        if len(tokenizer(row["question"]).input_ids) < 66:
            assert row["tokens"] == sum(map(len, pieces["input_ids"]))


def test_a_volume_keeps_the_examples_of_the_volume_with_their_english_rows(test: Evaluate, tmp_path: Path):
    assert test(tmp_path, encoder=None, tasks="[pawsx]", volume=7, perturbations="[noise-50]") == 0
    own, english = examples(tmp_path, "pawsx", "de"), examples(tmp_path, "pawsx", "en")
    assert len(own) == len(english) == 7
    assert [row["english"] for row in english] == [row["example"] for row in english]
    noisy = examples(tmp_path, "pawsx", "de-noise-50")
    assert {row["perturbation"] for row in noisy} == {"noise-50"}
    assert "english" not in noisy[0]
    assert [row["example"] for row in noisy] == [row["example"] for row in own]
    assert all(a["first"] != b["first"] for a, b in zip(own, noisy, strict=True))


def test_a_resumed_evaluation_writes_the_examples_of_the_missing_cell_alone(test: Evaluate, tmp_path: Path):
    keys: dict[str, Any] = {"encoder": None, "tasks": "[xnli]"}
    assert test(tmp_path, **keys) == 0
    first = {path: path.read_bytes() for path in (tmp_path / "examples").rglob("*.parquet")}
    times = {path: path.stat().st_mtime_ns for path in first}
    (tmp_path / "scores" / "xnli-de.json").unlink()
    assert test(tmp_path, **keys) == 0
    assert {path: path.read_bytes() for path in first} == first
    changed = [path.name for path in first if path.stat().st_mtime_ns != times[path]]
    assert changed == ["de.parquet"]


def test_damaged_examples_are_named_with_the_remedy(tmp_path: Path):
    (tmp_path / "de.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"de\.parquet cannot be read .* Delete the scores of the same task"):
        read_columns(tmp_path / "de.parquet")


# Figures


def test_the_calibration_error_is_that_worked_out_by_hand():
    # Bin 0.5–0.6: mean confidence 0.56, 1 of 2 right; 0.9–1: 0.95 and 1.0, both right; 0.1–0.2: wrong.
    found = calibration(np.array([0.52, 0.6, 0.95, 1.0, 0.2]), np.array([True, False, True, True, False]))
    assert found.counts.tolist() == [0, 1, 0, 0, 0, 2, 0, 0, 0, 2]
    by_hand = (2 * abs(0.56 - 0.5) + 2 * abs(0.975 - 1.0) + abs(0.2 - 0.0)) / 5
    assert found.error == pytest.approx(100 * by_hand)
    assert (found + found).error == pytest.approx(100 * by_hand)
    assert calibration(np.zeros(0), np.zeros(0, bool)).error == 0


def table(path: Path, language: str, lines: list[tuple[Any, ...]], **more: Any) -> Path:
    """A table of examples: text, gold, prediction, probability, tokens, and the English row."""
    names = ("first", "gold", "prediction", "probability", "tokens", "english")
    rows = [dict(zip(names, line, strict=True)) for line in lines]
    for i, row in enumerate(rows):
        right = row["gold"] == row["prediction"]
        row |= {"language": language, "perturbation": "", "example": i, "gold_probability": None}
        row |= {"correct": right, "score": 100.0 * right} | more
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Three English examples, and four Arabic ones, of which one has no translation."""
    english = [
        ("one", "yes", "yes", 0.9, 4, 0),
        ("two", "no", "yes", 0.8, 20, 1),
        ("three", "no", "no", 0.7, 40, 2),
    ]
    arabic = [
        ("اثنان", "no", "no", 0.6, 21, 1),
        ("ثلاثة", "no", "yes", 0.75, 41, 2),
        ("واحد", "yes", "no", 0.95, 5, 0),
        ("أربعة", "yes", "maybe", 0.99, 6, -1),
    ]
    return {
        "en": table(tmp_path / "en.parquet", "en", english),
        "ar": table(tmp_path / "ar.parquet", "ar", arabic),
    }


def test_confusions_worst_errors_and_scores_by_length(tables: dict[str, Path]):
    found = errors_of("ar", tables["ar"])
    pairs = {("no", "no"): 1, ("no", "yes"): 1, ("yes", "no"): 1, ("yes", "maybe"): 1}
    assert found.confusion == pairs
    assert found.worst(2) == [(pytest.approx(0.99), 3), (pytest.approx(0.95), 2)]
    assert len(found.worst(9)) == 3
    assert found.by_length() == [(0.0, 2), (100.0, 1), (0.0, 1), (0.0, 0), (0.0, 0), (0.0, 0), (0.0, 0)]


def test_flips_join_each_example_with_its_translation(tables: dict[str, Path]):
    (found,) = flips([errors_of(language, path) for language, path in tables.items()])
    assert found.language == "ar"
    assert (found.both, found.neither) == (0, 0)
    assert found.lost == [(2, 0), (1, 2)]  # the most confident error first
    assert found.gained == [(0, 1)]
    assert flips([errors_of("ar", tables["ar"])]) == []


def test_tags_are_counted_by_word(tmp_path: Path):
    rows = [
        {"words": ["a", "b"], "gold": ["N", "V"], "prediction": ["N", "N"], "probability": [0.5, 0.9]},
        {"words": ["c"], "gold": ["V"], "prediction": ["V"], "probability": [0.8]},
    ]
    for row, score in zip(rows, (50.0, 100.0), strict=True):
        row |= {"correct": score == 100, "score": score, "tokens": 3}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "de.parquet")
    found = errors_of("de", tmp_path / "de.parquet")
    assert found.confusion == {("N", "N"): 1, ("V", "N"): 1, ("V", "V"): 1}
    assert found.calibration.counts.sum() == 3
    assert found.calibration.correct.sum() == 2
    assert found.worst(5) == [(0.9, 0)]
    assert rows_at(tmp_path / "de.parquet", [1, 0])[0]["words"] == ["c"]


def test_a_long_passage_is_cut_around_the_gold_answer():
    context = "x" * 900 + " the answer " + "y" * 900
    row = {"language": "en", "example": 0, "context": context, "gold": ["the answer"], "prediction": "x"}
    ((_, text),) = shown(row | {"probability": 0.5, "score": 0.0, "correct": False})["texts"]
    assert "the answer" in text
    assert text.startswith("… ")
    assert text.endswith(" …")
    assert len(text) == MAX_CHARACTERS + 4


def test_the_sections_of_a_task_hold_its_figures(tables: dict[str, Path]):
    (found,) = task_sections({"xnli": tables})
    cells = [[text for text, _ in row] for row in found["languages"]["rows"]]
    assert cells[0][:5] == ["English (en)", "3", "66.7", "3", "66.7"]
    assert cells[1][:5] == ["Arabic (ar)", "4", "25.0", "4", "25.0"]
    cells = [[text for text, _ in row] for row in found["flips"]["rows"]]
    assert cells == [["Arabic (ar)", "3", "0", "2", "1", "0"]]
    assert [e["probability"] for e in found["worst"]] == ["99.0 %", "95.0 %", "80.0 %", "75.0 %"]
    (flipped,) = found["flipped"]
    assert [(e["texts"][0][1], o["texts"][0][1]) for e, o in flipped["pairs"]] == [
        ("one", "واحد"),
        ("three", "ثلاثة"),
        ("two", "اثنان"),
    ]


# The page


def test_the_page_is_one_file_with_every_score(out: Path):
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.addresses == []
    assert page.pictures == 1
    assert len(text.encode()) < 2**20
    assert "<script" not in text
    for task, by_language in results(out).items():
        for language, cell in by_language.items():
            (row,) = [r for r in page.rows if r[0] == task and r[1].endswith(f"({language})") and len(r) == 8]
            names = [name for name in cell if f"{name.replace('_', ' ')} " in row[5]]
            score = sum(cell[name] for name in names) / len(names)
            assert row[2].rstrip("*") == f"{score:.1f}"
            assert row[4] == f"{cell['rows']:,}"
    for fact in ("Seed", "Precision", "Volume", "Command", "Max length", "Versions", "Unlabelled", "32-true"):
        assert fact in text, fact
    assert re.search(r'<a href="#task-xnli">', text)
    assert "There are no tables of examples of bucc2018, tatoeba" in text


def test_the_page_shows_texts_with_their_language_and_direction(test: Evaluate, tmp_path: Path):
    assert test(tmp_path, encoder=None, tasks="[xnli, udpos]") == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'dir="auto" lang="ar"' in text
    assert "<mark>" in text
    for heading in ("By length", "By confidence", "Largest confusions", "Compared with English"):
        assert heading in text


def test_names_are_escaped_on_the_page(tables: dict[str, Path], tmp_path: Path):
    from xlt.evaluation.page import PAGES
    from xlt.training.html import environment

    evil = "<script>alert(1)</script>"
    table(tables["en"], "en", [(evil, "yes", evil, 0.9, 4, 0)])
    sections = list(task_sections({"xnli": tables}))
    empty = {"head": [], "rows": []}
    text = environment(PAGES).get_template("evaluation.html").render(
        name=evil, headline="", models=empty, scores=empty, mark="*", averages=[evil], collapsed=[evil],
        perturbed=evil, missing=[evil], reasons=[evil, evil], picture="", tasks=sections, without=[],
        facts=[("a", evil)], data=empty, written="",
    )  # fmt: skip
    assert evil not in text
    assert "&lt;script&gt;" in text
    # One line about missing scores comes before the scores, the reasons come after them.
    assert text.index("<h3>Missing</h3>") < text.index("<img") < text.index("Why scores are missing")

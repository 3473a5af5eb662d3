"""Collapse: which predictions count as collapsed, by kind, and where a collapsed score is named."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from xlt import tasks
from xlt.batch.packing import pack
from xlt.batch.predictions import Predictions
from xlt.data.features import Features, write_features
from xlt.evaluation.report import Report
from xlt.evaluation.scores import CellScore
from xlt.kinds import Classification, MultipleChoice, SpanExtraction, Tagging, XtremeTagging
from xlt.kinds.task import Scores
from xlt.metrics.collapse import COLLAPSED, collapse_details, collapse_note, is_collapsed, verdict_of
from xlt.training.results import table

FOUND = {COLLAPSED: 1.0, "constant_share": 100.0}
OTHER = {COLLAPSED: 0.0, "constant_share": 60.0}


def rows(**columns: Any) -> Mapping[str, list[list[int]]]:
    """Columns with one value a row."""
    return {name: [[value] for value in values] for name, values in columns.items()}


def features(path: Path, columns: Mapping[str, list[list[int]]]) -> Features:
    """The columns on disk."""
    write_features(path / "features.arrow", [columns])
    return Features(path / "features.arrow")


# The definition


def test_one_class_for_all_rows_is_a_collapse() -> None:
    assert collapse_details([0] * 30, [0, 1, 2] * 10) == {COLLAPSED: 1.0, "constant_share": 100.0}


def test_a_model_that_finds_another_class_has_not_collapsed() -> None:
    gold = [0] * 20 + [1] * 10
    assert collapse_details([0] * 29 + [1], gold)[COLLAPSED] == 0  # one of ten found


def test_a_few_other_predictions_that_are_all_wrong_do_not_hide_a_collapse() -> None:
    gold = [0] * 60 + [1] * 40
    predicted = [1] * 3 + [0] * 97
    # As in QQP with F1 0: no true positive.
    assert collapse_details(predicted, gold) == {COLLAPSED: 1.0, "constant_share": 97.0}


def test_the_limit_is_one_in_a_hundred_of_the_other_references() -> None:
    gold = [0] * 600 + [1] * 400
    for found, collapsed in ((0, 1), (3, 1), (4, 0)):  # 4 of 400 is 1 percent
        assert collapse_details([0] * (1000 - found) + [1] * found, gold)[COLLAPSED] == collapsed


def test_wrong_predictions_of_many_classes_are_no_collapse() -> None:
    gold = [0] * 20 + [1] * 20
    assert collapse_details([2] * 20 + [3] * 20, gold)[COLLAPSED] == 0


def test_a_good_model_on_a_skewed_split_has_not_collapsed() -> None:
    gold = [0] * 980 + [1] * 20
    assert collapse_details([0] * 990 + [1] * 10, gold)[COLLAPSED] == 0  # half of the 20 found


@pytest.mark.parametrize("gold", [[], [0] * 100, [0, 1] * 9, [0] * 91 + [1] * 9])
def test_tiny_splits_and_splits_of_one_class_cannot_be_judged(gold: list[int]) -> None:
    details = collapse_details([0] * len(gold), gold)
    assert details == {}
    assert verdict_of(details) == "unknown"
    assert not is_collapsed(details)


def test_a_split_is_judged_from_ten_other_references_on() -> None:
    assert verdict_of(collapse_details([0] * 20, [0, 1] * 10)) == "yes"
    assert verdict_of(collapse_details([0, 1] * 10, [0, 1] * 10)) == "no"


def test_the_note_counts_and_names() -> None:
    assert collapse_note([]) == ""
    assert collapse_note(["qqp"]) == "1 collapsed: qqp"
    many = collapse_note(map(str, range(14)))
    assert many == "14 collapsed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"


# By kind


def test_qqp_with_f1_zero_has_collapsed(tmp_path: Path) -> None:
    found = tasks.load("qqp").score(
        Predictions(
            {"prediction": np.array([0] * 30)},
            features(tmp_path, rows(targets=[0] * 20 + [1] * 10)),
            np.arange(30),
        )
    )
    assert found.metrics["f1"] == 0
    assert found.details == {COLLAPSED: 1.0, "constant_share": 100.0}


def test_an_unseen_class_does_not_matter_to_single_texts(tmp_path: Path) -> None:
    task = Classification(source=(), read=len, labels=("a", "b", "c"))
    predictions = Predictions(
        {"prediction": np.array([0, 1] * 15)}, features(tmp_path, rows(targets=[0, 1] * 15)), np.arange(30)
    )
    assert task.score(predictions).details == {COLLAPSED: 0.0, "constant_share": 50.0}


def test_one_position_of_all_choices_is_a_collapse(tmp_path: Path) -> None:
    task = MultipleChoice(source=(), read=len, num_choices=5)
    gold = features(tmp_path, rows(targets=[0, 1, 2, 3, 4] * 6))
    apart = {"spread": np.ones(30)}
    constant = Predictions({"prediction": np.full(30, 2)} | apart, gold, np.arange(30))
    assert is_collapsed(task.score(constant).details)
    right = Predictions({"prediction": np.array([0, 1, 2, 3, 4] * 6)} | apart, gold, np.arange(30))
    assert verdict_of(task.score(right).details) == "no"


def test_equal_scores_of_all_choices_are_a_collapse_whichever_is_the_best(tmp_path: Path) -> None:
    task = MultipleChoice(source=(), read=len, num_choices=4)
    gold = features(tmp_path, rows(targets=[0, 1, 2, 3] * 10))
    # The encoder gives each text the same state, up to rounding, and each choice the same logit.
    states = torch.ones(160, 8) + 1e-6 * torch.randn(160, 8, generator=torch.Generator().manual_seed(0))
    head, packing = task.head(8, 0.0), pack([1] * 160)
    for scale, verdict in ((0.0, "yes"), (3.0, "no")):
        noise = scale * torch.randn(160, 8, generator=torch.Generator().manual_seed(1))
        logits = head(states + noise, packing, {})
        outputs = {name: value.numpy() for name, value in head.predict(logits.detach(), packing, {}).items()}
        assert len(set(outputs["prediction"].tolist())) == 4
        assert verdict_of(task.score(Predictions(outputs, gold, np.arange(40))).details) == verdict


@pytest.mark.parametrize("kind", [Tagging, XtremeTagging])
def test_one_tag_for_all_words_is_a_collapse(kind: type[Tagging], tmp_path: Path) -> None:
    task = kind(source=(), read=len, labels=("O", "B-PER", "I-PER"))
    gold = features(tmp_path, {"targets": [[0, 0, 1, 2], [0, 1, 0]] * 5})
    # Five sentences of each: 20 words O, 10 B-PER and 5 I-PER, so 15 differ from O.
    constant = [np.zeros(4, int), np.zeros(3, int)] * 5
    assert is_collapsed(task.score(Predictions({"prediction": constant}, gold, np.arange(10))).details)
    first = [np.array([0, 0, 1, 0]), np.array([0, 1, 0])] * 5
    assert verdict_of(task.score(Predictions({"prediction": first}, gold, np.arange(10))).details) == "no"


def questions(path: Path, gains: list[float]) -> Predictions:
    """Questions on the passage "Ann met Bob" with the best span "Ann", ten with that answer, ten without."""
    count = len(gains)
    references = [
        {"id": str(i), "context": "Ann met Bob", "answers": ["Ann"] if i < count // 2 else []}
        for i in range(count)
    ]
    columns = {
        "example": [[i] for i in range(count)],
        "passage": [[0, 3]] * count,
        "offsets": [[0, 3, 4, 7, 8, 11]] * count,
    }
    outputs = {
        "start": np.zeros(count, int),
        "end": np.zeros(count, int),
        "score": np.zeros(count),
        "null": np.array(gains),
    }
    return Predictions(outputs, features(path, columns), np.arange(count), references)


def test_an_empty_answer_to_every_question_is_a_collapse(tmp_path: Path) -> None:
    task = SpanExtraction(source=(), read=len, null_threshold=0.0)
    silent = task.score(questions(tmp_path, [1.0] * 20))
    assert silent.metrics == {"exact_match": 50, "f1": 50}
    assert is_collapsed(silent.details)
    (tmp_path / "other").mkdir()
    right = task.score(questions(tmp_path / "other", [-1.0] * 10 + [1.0] * 10))
    assert right.mean == 100
    assert verdict_of(right.details) == "no"


# Where scores are averaged


def test_the_table_of_a_run_names_the_collapsed_tasks() -> None:
    scores = {
        "qqp": Scores({"accuracy": 60.0, "f1": 0.0}, {"accuracy": 60.0, "f1": 0.0}, FOUND),
        "mnli": Scores({"accuracy": 50.0}, {"accuracy": 33.0}, OTHER),
    }
    results: dict[str, Any] = {
        name: {**found.metrics, **found.details, "rows": 100} for name, found in scores.items()
    }
    module: Any = SimpleNamespace(scores=scores)
    shown = table({**results, "run": {"score": 40.0}}, module)
    assert shown.splitlines()[-1] == "mean of 2 tasks: 40.0, 1 collapsed: qqp"
    results["qqp"][COLLAPSED] = 0.0  # the best validation counts, not the last
    shown = table({**results, "run": {"score": 40.0}}, module)
    assert shown.splitlines()[-1] == "mean of 2 tasks: 40.0"


def test_the_mean_of_a_run_on_one_task_is_called_a_mean_of_its_languages() -> None:
    scores = {name: Scores({"f1": 60.0}, {"f1": 0.0}, OTHER) for name in ("panx", "panx/de", "panx/sw")}
    results: dict[str, Any] = {name: {"f1": 60.0, **OTHER, "rows": 9} for name in scores}
    for names, what in (("panx",), "1 task"), (tuple(scores), "3 languages"):
        module: Any = SimpleNamespace(scores={name: scores[name] for name in names})
        shown = table({**results, "run": {"score": 60.0}}, module)
        assert shown.splitlines()[-1] == f"mean of {what}: 60.0"


def report(*details: Mapping[str, float]) -> Report:
    """A report of XNLI in English, German and Swahili."""
    cells = [
        CellScore("xnli", code, "test", "m", 60, {"accuracy": 33.0}, {"accuracy": 33.0}, found, "")
        for code, found in zip(("en", "de", "sw"), details, strict=True)
    ]
    return Report([tasks.load("xnli")], cells)


def test_an_evaluation_names_collapsed_cells_beside_each_average() -> None:
    found = report(OTHER, {}, FOUND)
    assert found.averages() == [
        "classification      33.0 (1/2 tasks, 3/15 languages), 1 collapsed: xnli sw",
        "tasks averaged      33.0 (1/9 tasks, 3/15 languages), 1 collapsed: xnli sw",
    ]
    assert "33.0*" in next(line for line in found.table().splitlines() if line.startswith("sw"))
    assert found.table().count("*") == 1
    assert found.summary()["collapsed"] == {"xnli": ["sw"]}
    lines = found.csv().splitlines()
    assert lines[0].endswith(",collapsed")
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["no", "unknown", "yes"]


def test_the_heat_map_has_a_star_for_a_collapsed_cell() -> None:
    figure = report(OTHER, {}, FOUND).figure()
    assert [text.get_text() for text in figure.axes[0].texts] == ["33", "33", "33*"]
    assert figure.axes[1].get_ylabel() == "score, in percent (* collapsed)"
    assert report(OTHER, {}, OTHER).figure().axes[1].get_ylabel() == "score, in percent"

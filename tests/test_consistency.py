"""Consistency with English, image gain, corruption drop: worked numbers, tables, files, and bad folders."""

import csv
import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xlt import tasks
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import ImageCaption, TextPair
from xlt.data.image_store import Imagery
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub
from xlt.evaluation.answers import EnglishNumbers, read_answers
from xlt.evaluation.blind import Blind
from xlt.evaluation.plan import Cell
from xlt.evaluation.report import Report
from xlt.evaluation.robustness import (
    Consistency,
    Robustness,
    consistency,
    corruption_drops,
    image_gains,
    language_table,
    mean_of,
)
from xlt.evaluation.scores import CellScore, ScoreFolder
from xlt.evaluation.wandb_run import _robustness
from xlt.kinds.classification import Classification
from xlt.kinds.image_retrieval import VisualRetrieval
from xlt.kinds.task import Scores, TaskResult
from xlt.models.encoders.multimodal import VisionSettings
from xlt.models.saving import VISION_SETTINGS
from xlt.splits.splits import Splits

XNLI = tasks.load("xnli")


def score(language: str, accuracy: float, perturbation: str = "", **changes: Any) -> CellScore:
    found = CellScore(
        "xnli", language, "test", "m", 4, {"accuracy": accuracy}, {"accuracy": 33.0}, {}, "", perturbation
    )
    return replace(found, **changes)


def answers(*lines: tuple[int, int]) -> np.ndarray:
    return np.array(lines, np.int32).reshape(-1, 2)


# Consistency


def test_consistency_of_a_worked_example():
    english = answers((0, 2), (1, 0), (3, 1))
    # Example 1 is answered as in English, 0 is not, 2 was not tested in English, -1 has no translation.
    assert consistency(answers((1, 0), (0, 1), (2, 1), (-1, 2)), english) == Consistency(50.0, 2)
    assert consistency(english, english) == Consistency(100.0, 3)
    assert consistency(answers((-1, 0), (9, 1)), english) is None
    assert consistency(answers(), english) is None


ANSWERS = {
    ("xnli", "en"): answers((0, 0), (1, 1), (2, 2), (3, 0)),
    ("xnli", "de"): answers((0, 0), (1, 1), (2, 2), (3, 1)),
    ("xnli", "sw"): answers((0, 0), (2, 1), (3, 1)),
    ("pawsx", "de"): answers((0, 0)),  # without English
}


def test_the_report_shows_consistency_everywhere():
    cells = [score("en", 50.0), score("de", 40.0), score("de", 30.0, "noise-5"), score("sw", 20.0)]
    report = Report([XNLI], cells, Robustness(cells, ANSWERS))
    assert report.robustness.consistency == {"xnli": {"de": 75.0, "sw": pytest.approx(100 / 3)}}
    assert report.summary()["consistency"] == {
        "xnli": {
            "mean": pytest.approx((75 + 100 / 3) / 2),
            "languages": {
                "de": {"percent": 75.0, "examples": 4},
                "sw": {"percent": pytest.approx(100 / 3), "examples": 3},
            },
        }
    }
    lines = list(csv.DictReader(io.StringIO(report.csv())))
    assert [line["consistency"] for line in lines] == ["", "75.000000", "", "33.333333"]
    (table,) = report.robustness.tables()
    assert table.splitlines() == [
        "examples answered as in English, in percent",
        "",
        "                 xnli",
        "---------------------",
        "de               75.0",
        "sw               33.3",
        "---------------------",
        "mean without en  54.2",
    ]
    assert _robustness(report) == {"consistency/xnli": pytest.approx(54.1666666)}


def test_without_answers_the_report_is_as_before():
    report = Report([XNLI], [score("en", 50.0), score("de", 40.0, "noise-5")])
    assert report.robustness.tables() == []
    assert [report.summary()[key] for key in ("consistency", "image_gain", "corruption_drop")] == [{}, {}, {}]
    assert report.perturbed_table().splitlines()[-1].split() == ["noise-5", "40.0"]
    lines = report.csv().splitlines()
    assert lines[0].split(",")[:9] == [
        "task", "language", "metric", "score", "chance", "rows", "split", "model", "perturbation",
    ]  # fmt: skip
    assert lines[1] == "xnli,en,accuracy,50.000000,33.000000,4,test,m,,,,unknown"


# Image gain


def test_image_gain_of_a_worked_example():
    cells = [score("en", 60.0), score("de", 45.0), score("sw", 30.0), score("de", 1.0, "no-image")]
    blind = {("xnli", "en"): score("en", 50.0), ("xnli", "de"): score("de", 47.5)}
    assert image_gains(cells, blind) == {"xnli": {"en": 10.0, "de": -2.5}}
    report = Report([XNLI], cells, Robustness(cells, blind=blind))
    assert report.summary()["image_gain"] == {"xnli": {"mean": -2.5, "languages": {"en": 10.0, "de": -2.5}}}
    lines = list(csv.DictReader(io.StringIO(report.csv())))
    assert [line["blind_score"] for line in lines] == ["50.000000", "47.500000", "", ""]
    (table,) = report.robustness.tables()
    assert table.splitlines()[0] == "image gain: points above the score without images"
    assert [line.split() for line in table.splitlines()[4:]] == [
        ["en", "+10.0"], ["de", "-2.5"], ["-" * 22], ["mean", "without", "en", "-2.5"],
    ]  # fmt: skip


def test_the_gain_of_two_metrics_is_the_gain_of_their_mean():
    two = score("de", 0.0, metrics={"text_to_image": 30.0, "image_to_text": 40.0})
    blind = score("de", 0.0, metrics={"text_to_image": 10.0, "image_to_text": 20.0})
    assert image_gains([two], {("xnli", "de"): blind}) == {"xnli": {"de": 20.0}}


def test_a_language_without_a_figure_has_a_dash():
    lines = language_table({"one": {"en": 1.0, "de": 2.0}, "two": {"en": 3.0}}).splitlines()
    assert [line.split() for line in lines if "---" not in line] == [
        ["one", "two"], ["en", "1.0", "3.0"], ["de", "2.0", "–"], ["mean", "without", "en", "2.0", "–"],
    ]  # fmt: skip
    assert mean_of({"en": 3.0}) is None
    assert mean_of({"en": 3.0, "de": 1.0, "sw": 2.0}) == 1.5


# Corruption drop

CORRUPTED = [
    score("en", 80.0), score("de", 50.0), score("sw", 0.0),
    score("en", 60.0, "corrupt-fog-1"), score("de", 40.0, "corrupt-fog-1"), score("sw", 5.0, "corrupt-fog-1"),
    score("en", 40.0, "corrupt-snow-5"), score("de", 45.0, "corrupt-snow-5"),
    score("en", 8.0, "noise-5"), score("en", 9.0, "no-image"),
]  # fmt: skip


def test_corruption_drop_of_a_worked_example():
    # en: (80 - 60) / 80 = 25 % and (80 - 40) / 80 = 50 %; de: 20 % and 10 %; sw has nothing to lose.
    assert corruption_drops(CORRUPTED) == {"xnli": {"en": 37.5, "de": 15.0}}


def test_the_table_of_perturbations_ends_with_the_drop():
    report = Report([XNLI, tasks.load("pawsx")], [*CORRUPTED, score("en", 70.0, task="pawsx")])
    lines = [line.split() for line in report.perturbed_table().splitlines()]
    assert [line[0] for line in lines[4:]] == [
        "corrupt-fog-1", "corrupt-snow-5", "noise-5", "no-image", "corruption",
    ]  # fmt: skip
    assert lines[-1] == ["corruption", "drop", "15.0", "%", "–"]
    assert report.summary()["corruption_drop"] == {
        "xnli": {"mean": 15.0, "languages": {"en": 37.5, "de": 15.0}}
    }


# Answers on disk


@dataclass(frozen=True, kw_only=True)
class WithImages(Classification):
    def imagery(self) -> Imagery:
        return Imagery(True)


def read(row: Any) -> TextPair:
    return TextPair(row["first"], row["second"], row["label"], row["id"])


TASK = WithImages(
    source=Multilingual(Hub("drawn/pairs"), language_of=lambda row: row["language"]),
    read=read,
    labels=("yes", "no"),
    languages=("en", "de"),
    is_parallel=True,
    name="drawn",
)


def cell(language: str, task: Any = TASK, perturbation: str = "") -> Cell:
    return Cell(replace(task, name=f"{task.name}/{language}"), language, "test", "m", (), perturbation)


@pytest.fixture
def splits(tmp_path: Path, tiny_encoder: str) -> Splits:
    """Four English rows, of which one has no label, and their translations, of which one is missing."""
    rows = [("en", n, n % 2 if n != 1 else None) for n in range(4)]
    rows += [("de", n, n % 2) for n in (0, 1, 3)]
    path = tmp_path / "root" / "drawn" / "pairs" / "default" / "test.parquet"
    path.parent.mkdir(parents=True)
    table = [
        {"language": code, "id": str(n), "first": f"dog {n}", "second": "cat", "label": label}
        for code, n, label in rows
    ]
    pq.write_table(pa.Table.from_pylist(table), path)
    return Splits([tmp_path / "root"], tmp_path / "cache", TextEncoder(load_tokenizer(tiny_encoder), 64, 16))


def test_examples_are_numbered_by_their_english_translation(splits: Splits):
    numbers = EnglishNumbers(splits)
    assert numbers.of(cell("en").task, "test").tolist() == [0, 2, 3]  # row 1 has no label
    assert numbers.of(cell("de").task, "test").tolist() == [0, 1, 3]


def test_captions_are_numbered_by_their_english_translation(splits: Splits):
    task = VisualRetrieval(
        source=TASK.source,
        read=lambda row: ImageCaption(row["first"].encode(), row["first"], row["id"]),
        languages=TASK.languages,
        is_parallel=True,
        name="drawn",
    )
    assert EnglishNumbers(splits).of(cell("de", task).task, "test").tolist() == [0, 1, 3]


def test_examples_that_cannot_be_matched_have_no_consistency(
    splits: Splits, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "root" / "drawn" / "pairs" / "default" / "test.parquet"
    rows = [{**row, "id": ""} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist([*rows, *rows[-1:] * 9]), path)
    with caplog.at_level("INFO", "xlt"):
        assert EnglishNumbers(splits).of(cell("de").task, "test").tolist() == [-1] * 12
    assert "drawn/de: the consistency with English is unknown: its 12 examples" in caplog.text


def written(folder: ScoreFolder, of: Cell, *lines: tuple[int, int]) -> None:
    result = TaskResult(Scores({"accuracy": 50.0}, {"accuracy": 33.0}, {}), None, None)
    found = CellScore("drawn", of.language, "test", "m", 3, *result.scores, "")
    folder.write(of, found, result, answers(*lines) if lines else None)


def test_answers_are_read_as_they_were_written(tmp_path: Path):
    folder = ScoreFolder(tmp_path)
    written(folder, cell("en"), (0, 1), (2, 0))
    found = read_answers([cell("en"), cell("de")], folder)  # German is not finished
    assert {key: array.tolist() for key, array in found.items()} == {("drawn", "en"): [[0, 1], [2, 0]]}
    assert np.load(tmp_path / "answers" / "drawn-en.npy").dtype == np.int32


@pytest.mark.parametrize(
    "untold",
    [
        cell("de", replace(TASK, is_parallel=False)),
        cell("de", perturbation="noise-5"),
        cell("de", tasks.load("xquad")),
    ],
    ids=["not parallel", "perturbed", "no classes"],
)
def test_cells_that_cannot_be_compared_have_no_answers(
    untold: Cell, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = ScoreFolder(tmp_path)
    written(folder, untold)
    with caplog.at_level("INFO", "xlt"):
        assert read_answers([untold], folder) == {}
    assert not caplog.text


def test_cells_of_an_older_version_are_kept_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = ScoreFolder(tmp_path)
    written(folder, cell("en"), (0, 1))
    written(folder, cell("de"))
    with caplog.at_level("INFO", "xlt"):
        assert list(read_answers([cell("en"), cell("de")], folder)) == [("drawn", "en")]
    assert "drawn-de.json: scored by an older version, which kept no answers" in caplog.text


def test_damaged_answers_are_refused_with_the_file(tmp_path: Path):
    folder = ScoreFolder(tmp_path)
    written(folder, cell("de"), (0, 1))
    for content in (b"", b"no array"):
        (tmp_path / "answers" / "drawn-de.npy").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"drawn-de.npy cannot be read .* Delete .*drawn-de.json to score"
        ):
            folder.answers(cell("de"))


def test_every_classification_keeps_its_classes():
    assert type(XNLI).predicted_classes is Classification.predicted_classes


# The evaluation without images


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    """The folder of an evaluation of a run without images, in English and German."""
    folder = tmp_path / "blind"
    (folder / "scores").mkdir(parents=True)
    run = tmp_path / "run"
    run.mkdir()
    settings = VisionSettings("efficientnet-lite0", 1, 0, is_blind=True)
    (run / VISION_SETTINGS).write_text(json.dumps(settings._asdict()))
    for name in ("en", "de", "de-noise-5"):
        language, _, perturbation = name.partition("-")
        found = score(language, 40.0, perturbation, task="drawn", model=str(run), rows=3)
        (folder / "scores" / f"drawn-{name}.json").write_text(json.dumps(asdict(found)))
    (folder / "results.json").write_text("{}")
    return folder


def checked(blind: Path, *cells: Cell, num_examples: int = 3) -> Blind:
    found = Blind(blind, Path("out"))
    found.check(cells, lambda _: num_examples)
    return found


def test_the_clean_scores_without_images_are_read(blind: Path):
    found = checked(blind, cell("en"), cell("de"), cell("de", perturbation="no-image"), cell("en", XNLI))
    assert set(found.scores) == {("drawn", "en"), ("drawn", "de")}
    assert found.scores["drawn", "de"].mean == 40.0
    none = Blind(None, Path("out"))
    none.check([cell("en", XNLI)], lambda _: 3)
    assert none.scores == {}


def test_every_difference_from_the_evaluation_without_images_is_named(blind: Path):
    (blind / "scores" / "drawn-en.json").unlink()
    with pytest.raises(
        ValueError,
        match=r"but drawn-en is missing there; drawn-de has 3 rows \(test\) there and 1,004 \(test\) here\. "
        r"Set blind to .* the same tasks, languages, split, volume and seed",
    ):
        checked(blind, cell("en"), cell("de"), num_examples=1004)
    with pytest.raises(ValueError, match=r"3 rows \(test\) there and 3 \(validation\) here"):
        checked(blind, replace(cell("de"), split="validation"))
    checked(blind, cell("en"), num_examples=0)


def test_tasks_without_images_have_no_image_gain(blind: Path):
    with pytest.raises(ValueError, match=r"blind is .*: it must be left out: none of the tasks has images"):
        checked(blind, cell("en", XNLI))


def test_a_folder_without_a_finished_evaluation_is_refused(blind: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"blind is .*/absent, but there is no such folder"):
        Blind(tmp_path / "absent", tmp_path)
    (blind / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"results\.json is missing there, so no evaluation is"):
        Blind(blind, tmp_path)


def test_the_evaluation_itself_is_refused(blind: Path):
    with pytest.raises(ValueError, match="it must be another folder than out"):
        Blind(blind, blind)


def test_a_damaged_score_is_refused(blind: Path):
    (blind / "scores" / "drawn-de.json").write_text("{")
    with pytest.raises(ValueError, match=r"drawn-de\.json cannot be read .* Evaluate without images again"):
        Blind(blind, Path("out"))


def test_a_run_that_saw_images_is_refused(blind: Path, tmp_path: Path):
    settings = VisionSettings("efficientnet-lite0", 1, 1280)
    (tmp_path / "run" / VISION_SETTINGS).write_text(json.dumps(settings._asdict()))
    with pytest.raises(ValueError, match=r"run was trained with images\. Set blind to the folder"):
        Blind(blind, Path("out"))


def test_a_folder_with_files_of_another_origin_is_refused(tmp_path: Path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"out is .*run, which is the folder of a run: .* such as .*evaluation"
    ):
        ScoreFolder(tmp_path / "run")
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"has results\.csv already: the evaluation would replace its files"):
        ScoreFolder(tmp_path)
    (tmp_path / "scores").mkdir()
    ScoreFolder(tmp_path)

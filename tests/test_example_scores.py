"""Per-example values: the score of every kind is what they add up to, on real rows with drawn predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xlt import tasks
from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.metrics.tagging import span_counts
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.splits import Splits

CELLS = [
    "xnli/sw",
    "pawsx/ja",
    "udpos/te",
    "udpos/en",
    "panx/yo",
    "xquad/zh",
    "mlqa/de",
    "tydiqa/sw",
    "tatoeba/jv",
]
ROWS = 150


@pytest.fixture(scope="session")
def opened(mirror: Path, cache: str, tiny_encoder: str) -> Any:
    """Opens a task's evaluation rows in a language."""
    splits = Splits([mirror], Path(cache), TextEncoder(load_tokenizer(tiny_encoder), 128, 32))

    def of(name: str) -> EncodedSplit:
        task = tasks.load(name)
        return splits.open(task, "test" if task.only_test else "validation")

    return of


def classes(stored: EncodedSplit, rows: np.ndarray, draws: np.random.Generator) -> dict[str, Any]:
    """The right class, or tags, of about two thirds of the rows' predictions, and drawn ones."""
    targets, counts = stored.features.gather("targets", rows)
    drawn = draws.integers(len(stored.meta.labels), size=len(targets))
    found = np.where(draws.random(len(targets)) < 0.66, targets, drawn)
    return {"prediction": np.split(found, np.cumsum(counts)[:-1])}


def spans(stored: EncodedSplit, rows: np.ndarray, draws: np.random.Generator) -> dict[str, Any]:
    """The gold span of half the windows, and drawn ones."""
    targets = stored.features.gather("targets", rows)[0].reshape(-1, 2)
    passages = stored.features.gather("passage", rows)[0].reshape(-1, 2)
    drawn = np.sort(draws.integers(passages[:, :1], passages[:, 1:], size=(len(rows), 2)))
    found = np.where((draws.random((len(rows), 1)) < 0.5) & (targets[:, :1] > 0), targets, drawn)
    score = draws.random(len(rows)).astype(np.float32)
    return {"start": found[:, 0], "end": found[:, 1], "score": score, "null": np.zeros(len(rows))}


def vectors(stored: EncodedSplit, rows: np.ndarray, draws: np.random.Generator) -> dict[str, Any]:
    """Sentences of which most lie near their translations."""
    one = draws.normal(size=(len(rows), 8))
    both = np.stack([one, one + draws.normal(size=one.shape)], axis=1)
    return {"vectors": (both / np.linalg.norm(both, axis=-1, keepdims=True)).astype(np.float32)}


PREDICTIONS = {
    "xnli": classes, "pawsx": classes, "udpos": classes, "panx": classes, "xquad": spans, "mlqa": spans,
    "tydiqa": spans, "tatoeba": vectors,
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_the_score_is_what_the_items_add_up_to(name: str, opened: Any):
    task, stored = tasks.load(name), opened(name)
    kept = np.arange(min(ROWS, stored.meta.examples))
    rows = stored.rows_of(kept)
    outputs = PREDICTIONS[task.group](stored, rows, np.random.default_rng(0))
    predictions = Predictions(outputs, stored.features, rows, stored.references())
    score, example_scores = task.score(predictions).mean, task.example_scores(predictions)
    assert example_scores is not None
    assert len(example_scores) == len(kept)
    assert 0 < score < 100
    if example_scores.ndim == 1:
        assert set(example_scores) - {0.0, 100.0} == set() or task.group in ("xquad", "mlqa", "tydiqa")
        assert example_scores.mean() == pytest.approx(score, abs=1e-6)
    else:
        right, predicted, gold = example_scores.sum(0)
        assert 200 * right / (predicted + gold) == pytest.approx(score, abs=1e-6)


def test_mined_pairs_have_no_items():
    task = tasks.load("bucc2018/zh")
    nothing: Any = None
    assert task.example_scores(Predictions({}, nothing, np.zeros(0))) is None


def test_span_counts_of_a_worked_example():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O"], ["B-LOC", "I-LOC"]]
    found = [["B-PER", "I-PER", "O", "B-ORG"], ["B-PER"], ["B-LOC", "O"]]
    assert span_counts(found, gold).tolist() == [[1, 2, 2], [0, 1, 0], [0, 1, 1]]

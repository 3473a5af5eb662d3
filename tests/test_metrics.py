"""Scores against torchmetrics' SQuAD on a stored table, and against numbers worked out by hand."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.functional.text import squad

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Question
from xlt.data.features import Features, write_features
from xlt.data.sampling.collate import collate
from xlt.kinds import Classification, MultipleChoice, SpanExtraction, Tagging
from xlt.metrics.classification import accuracy, majority, positive_f1
from xlt.metrics.squad import best_threshold, exact_match, f1, normalize, squad_scores
from xlt.metrics.transfer_gap import transfer_gap

LAW = settings(deadline=None, max_examples=100, derandomize=True, database=None)

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")

ANSWERS: list[tuple[str, list[str]]] = [
    ("Denver Broncos", ["Denver Broncos", "The Denver Broncos", "Broncos"]),
    ("the Denver Broncos.", ["Carolina Panthers"]),
    ("Santa Clara, California", ["Levi's Stadium", "Santa Clara"]),
    ("in Levis stadium", ["Levi's Stadium"]),
    ("a golden anniversary", ["the  Golden\tAnniversary!"]),
    ("an apple a day", ["apple day"]),
    ("theatre", ["atre"]),
    ("Another day", ["day"]),
    ("1,000,000", ["1000000", "one million"]),
    ("$5.50", ["5.50 dollars"]),
    ("U.S.A.", ["USA", "United States"]),
    ("self-evident", ["self evident"]),
    ("Beyoncé Knowles", ["Beyonce Knowles", "Beyoncé"]),
    ("ÉCOLE NORMALE", ["École normale supérieure"]),
    ("東京", ["東京", "東京都"]),
    ("„Straße“", ["Straße"]),
    ("Straße", ["STRASSE"]),
    ("1914–1918", ["1914-1918", "1914–1918"]),
    ("New York New York", ["New York"]),
    ("York New", ["New York"]),
    ("", ["something"]),
    ("the", ["something"]),
    ("twenty two", ["two", "twenty", "twenty-two years"]),
    ("half a mile", ["half mile", "0.5 mile"]),
    ("“a” priori", ["a priori"]),
    ("x y z", ["w x y z", "x y"]),
]
"""Predictions and gold answers: punctuation, articles, scripts, several golds, repeated words."""


@pytest.mark.parametrize(("prediction", "gold"), ANSWERS)
def test_squad_scores_are_those_of_torchmetrics(prediction: str, gold: list[str]) -> None:
    answers = {"answer_start": [0] * len(gold), "text": gold}
    expected = squad({"prediction_text": prediction, "id": "1"}, {"answers": answers, "id": "1"})
    assert 100 * exact_match(prediction, gold) == pytest.approx(expected["exact_match"].item(), abs=1e-4)
    assert 100 * f1(prediction, gold) == pytest.approx(expected["f1"].item(), abs=1e-4)


def test_squad_means_are_those_of_torchmetrics() -> None:
    predictions = [{"prediction_text": p, "id": str(i)} for i, (p, _) in enumerate(ANSWERS)]
    targets = [
        {"answers": {"answer_start": [0] * len(gold), "text": gold}, "id": str(i)}
        for i, (_, gold) in enumerate(ANSWERS)
    ]
    expected = squad(predictions, targets)
    found = squad_scores([p for p, _ in ANSWERS], [gold for _, gold in ANSWERS])
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, abs=1e-4)
    assert 0 < found["exact_match"] < found["f1"] < 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel-Tower!", "eiffeltower"),
        ("a an the", ""),
        ("Anthem of THE an-them", "anthem of anthem"),
        ("  x \t\n y ", "x y"),
        ("a.b", "ab"),
        ("the-cat", "thecat"),
        ("…", "…"),
        ("", ""),
    ],
)
def test_normalised_answers_by_hand(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "match", "overlap"),
    [
        # cat, sat against cat, sat, down: 2 x 2 / (2 + 3).
        ("The cat sat", ["cat sat down"], 0, 0.8),
        # to, be, to against to, be: two words in common, 2 x 2 / (3 + 2).
        ("to be to", ["to be"], 0, 0.8),
        # The best of the golds counts.
        ("x y", ["y z", "x y w"], 0, 0.8),
        # SQuAD 2: nothing is right where there is no answer, and only there.
        ("", [], 1, 1),
        ("x", [], 0, 0),
        ("", ["x"], 0, 0),
        ("the", [], 1, 1),
        # A gold answer that holds no word counts as none; beside others it is left out.
        ("", [""], 1, 1),
        ("", ["the"], 1, 1),
        ("", ["", "x"], 0, 0),
        ("x", ["", "x"], 1, 1),
    ],
)
def test_squad_scores_by_hand(prediction: str, gold: list[str], match: float, overlap: float) -> None:
    assert exact_match(prediction, gold) == match
    assert f1(prediction, gold) == pytest.approx(overlap)


quarters = st.integers(0, 4).map(lambda n: n / 4)
questions = st.lists(st.tuples(st.integers(-5, 5).map(float), quarters, quarters), min_size=1, max_size=12)


@LAW
@given(questions)
def test_the_best_threshold_is_as_good_as_any(asked: list[tuple[float, float, float]]) -> None:
    gains, answered, empty = map(list, zip(*asked, strict=True))

    def total(threshold: float) -> float:
        return sum(a if gain <= threshold else e for gain, a, e in asked)

    best = max(map(total, [-100.0, *gains, 100.0]))
    assert total(best_threshold(gains, answered, empty)) == best


def test_the_best_threshold_by_hand() -> None:
    # Answering the first two is right; the third has no answer.
    assert best_threshold([-3.0, 1.5, 4.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]) == 1.5
    # Answering nothing is best, so the threshold lies below every gain.
    assert best_threshold([-3.0, 2.0], [0.0, 0.0], [1.0, 1.0]) < -3
    # Two questions of equal gain are answered together or not at all.
    assert best_threshold([1.0, 1.0], [1.0, 0.0], [0.0, 1.0]) < 1


# Classes


def test_accuracy_by_hand_counts_an_unknown_target_as_an_error() -> None:
    assert accuracy(torch.tensor([0, 1, 2, 0]), torch.tensor([0, -1, 2, 1])) == 50
    assert accuracy(torch.tensor([0]), torch.tensor([-1])) == 0


def test_positive_f1_by_hand() -> None:
    # Two right, one too many, one missed: 2 x 2 / (2 x 2 + 1 + 1).
    found = positive_f1(torch.tensor([1, 1, 0, 1, 0]), torch.tensor([1, 0, 1, 1, 0]))
    assert found == pytest.approx(100 * 4 / 6, rel=1e-6)
    assert positive_f1(torch.tensor([0, 0]), torch.tensor([1, 0])) == 0
    # Symmetric in neither class: the negatives alone are right here.
    assert positive_f1(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0])) == 0


def test_majority_is_the_most_frequent_known_target() -> None:
    assert majority(torch.tensor([2, -1, 2, 0, -1, -1])).tolist() == [2] * 6
    assert majority(torch.tensor([-1, -1])).tolist() == [0, 0]


def test_the_transfer_gap_by_hand() -> None:
    assert transfer_gap({"en": 70.0, "de": 60.0, "ar": 41.0}) == pytest.approx(70 - 50.5)
    assert transfer_gap({"de": 60.0, "en": 70.0, "ar": 41.0}, "de") == pytest.approx(60 - 55.5)
    assert transfer_gap({"en": 70.0}) is None
    assert transfer_gap({"de": 60.0, "ar": 41.0}) is None
    assert transfer_gap({}) is None


def stored(path: Path, columns: Mapping[str, list[list[int]]]) -> Features:
    """The columns on disk."""
    write_features(path / "features.arrow", [columns])
    return Features(path / "features.arrow")


def test_classification_scores_the_rows_it_is_given(tmp_path: Path) -> None:
    features = stored(tmp_path, {"targets": [[1], [0], [1], [1], [0]]})
    task = Classification(source=(), read=len, labels=("no", "yes"), f1=True)
    rows = np.array([0, 1, 3, 4])
    found = task.score(Predictions({"prediction": [np.array(p) for p in (1, 1, 0, 0)]}, features, rows))
    # Targets 1 0 1 0, predictions 1 1 0 0: half right; one right, one too many, one missed.
    assert found.metrics == pytest.approx({"accuracy": 50, "f1": 50})
    # Answering 1 everywhere: all positives, as many too many: 2 x 2 / (2 x 2 + 2).
    assert found.chance == pytest.approx({"accuracy": 50, "f1": 100 * 2 / 3}, rel=1e-6)
    assert found.mean == pytest.approx(50)


def test_multiple_choice_scores_by_hand(tmp_path: Path) -> None:
    features = stored(tmp_path, {"targets": [[2], [0], [2], [1]]})
    task = MultipleChoice(source=(), read=len, num_choices=3)
    outputs = {"prediction": [np.array(p) for p in (2, 0, 1, 1)], "spread": np.ones(4)}
    found = task.score(Predictions(outputs, features, np.arange(4), [None] * 4))
    assert found.metrics == {"accuracy": 75}
    assert found.chance == {"accuracy": 50}


def test_tagging_counts_unseen_tags_as_errors(tmp_path: Path) -> None:
    features = stored(tmp_path, {"targets": [[0, 1], [-1], [1, -1, 1], [0]]})
    task = Tagging(source=(), read=len, labels=("A", "B"))
    predictions = [np.array([0, 0]), np.array([0]), np.array([1, 1, 0])]
    found = task.score(Predictions({"prediction": predictions}, features, np.array([0, 1, 2])))
    # Targets 0 1 | -1 | 1 -1 1, predictions 0 0 | 0 | 1 1 0: two of six words right.
    assert found.metrics == pytest.approx({"accuracy": 100 * 2 / 6})
    # B everywhere: three of six.
    assert found.chance == pytest.approx({"accuracy": 50})
    assert found.details == {"unseen_tags": 2}


# Spans

PASSAGE = "Ann met Bob in Paris in May."
PLACES = [(0, 3), (4, 7), (8, 11), (12, 14), (15, 20), (21, 23), (24, 27), (27, 28)]
"""Characters of its eight tokens."""


@pytest.fixture
def windows(tmp_path: Path) -> Features:
    """Four windows: example 0 in two of tokens 0-4 and 3-7, examples 1 and 2 in one each."""
    spans = [(0, 5), (3, 8), (0, 8), (0, 8)]
    return stored(
        tmp_path,
        {
            "example": [[0], [0], [1], [2]],
            # The passage begins at another token in each window.
            "passage": [[4, 9], [4, 9], [6, 14], [3, 11]],
            "offsets": [[place for pair in PLACES[a:b] for place in pair] for a, b in spans],
        },
    )


REFERENCES = [
    {"id": "0", "context": PASSAGE, "answers": ["Paris", "in Paris"]},
    {"id": "1", "context": PASSAGE, "answers": []},
    {"id": "2", "context": PASSAGE, "answers": ["Bob"]},
]

OUTPUTS = {
    # Window 0: "Ann met"; window 1, the better: "Paris in"; example 1: "May."; example 2: "Bob".
    "start": np.array([4, 5, 12, 5]),
    "end": np.array([5, 6, 13, 5]),
    "score": np.array([5.0, 6.0, 2.0, 3.0]),
    # Of example 0 the smaller counts, so answering gains 5; nothing is better for 1 by 1, for 2 by 4.
    "null": np.array([7.0, 1.0, 3.0, 7.0]),
}


def question_task(**settings: float) -> SpanExtraction:
    """A task of questions."""
    return SpanExtraction(source=(), read=len, **settings)


def test_the_best_span_over_all_windows_is_the_answer(windows: Features) -> None:
    found = question_task().score(Predictions(OUTPUTS, windows, np.arange(4), REFERENCES))
    # "Paris in" against "in Paris": all words, none exact; "May." against nothing: 0; "Bob": right.
    assert found.metrics == pytest.approx({"exact_match": 100 / 3, "f1": 200 / 3})
    # Saying nothing is right once in three.
    assert found.chance == pytest.approx({"exact_match": 100 / 3, "f1": 100 / 3})
    assert found.details == {}
    assert found.mean == pytest.approx(50)


def test_the_answer_is_empty_where_the_null_score_wins_by_the_threshold(windows: Features) -> None:
    found = question_task(null_threshold=0.0).score(Predictions(OUTPUTS, windows, np.arange(4), REFERENCES))
    # "Paris in", "", "": the second is right.
    assert found.metrics == pytest.approx({"exact_match": 100 / 3, "f1": 200 / 3})
    lenient = question_task(null_threshold=2.0).score(Predictions(OUTPUTS, windows, np.arange(4), REFERENCES))
    # "Paris in", "May.", "".
    assert lenient.metrics == pytest.approx({"exact_match": 0, "f1": 100 / 3})


def test_the_best_f1_is_at_the_best_threshold(windows: Features) -> None:
    found = question_task(null_threshold=0.0).score(Predictions(OUTPUTS, windows, np.arange(4), REFERENCES))
    # Gains -5, 1, 4. Answering none, 0 + 1 + 0; the first, 1 + 1 + 0; two, 1 + 0 + 0; all, 1 + 0 + 1.
    assert found.details["best_f1"] == pytest.approx(200 / 3)
    assert found.details["best_threshold"] == -5


def test_only_the_rows_given_are_scored(windows: Features) -> None:
    chosen = np.array([0, 1, 3])
    outputs = {name: values[chosen] for name, values in OUTPUTS.items()}
    found = question_task().score(Predictions(outputs, windows, chosen, REFERENCES))
    assert found.metrics == pytest.approx({"exact_match": 50, "f1": 100})


def scored(task: SpanExtraction, question: Question, path: Path, starts: Any, ends: Any) -> Any:
    """The question encoded, its passage's tokens given these start and end logits, and scored."""
    text = TextEncoder(load_tokenizer(MINI), 384, 128)
    columns, _ = task.encode([question], 0, text)
    assert len(columns["input_ids"]) == 1
    features = stored(path, columns)
    batch = collate("t", features, np.arange(features.num_rows), task.inputs, first_position=2)
    states = torch.zeros(batch.num_tokens, 2)
    begin, end = columns["passage"][0]
    states[begin:end] = torch.stack([torch.as_tensor(f(end - begin)) for f in (starts, ends)], -1).float()
    head = task.head(2, 0.0)
    nn.init.eye_(head.out_proj.weight)
    nn.init.zeros_(head.out_proj.bias)
    found = head.predict(head(states, batch.packing, batch.columns), batch.packing, batch.columns)
    outputs: Mapping[str, Sequence[np.ndarray]] = {k: list(v.detach().numpy()) for k, v in found.items()}
    rows = np.arange(features.num_rows)
    return task.score(Predictions(outputs, features, rows, [task.reference(question)]))


def test_head_and_score_together_give_the_answers_text(tmp_path: Path) -> None:
    question = Question("Whom did Ann meet?", PASSAGE, ("Bob",), (8,))
    tokens = load_tokenizer(MINI)(PASSAGE, add_special_tokens=False)
    first, last = tokens.char_to_token(8), tokens.char_to_token(10)

    def at(place: int) -> Any:
        return lambda num: 9.0 * torch.nn.functional.one_hot(torch.tensor(place), num)

    found = scored(question_task(), question, tmp_path, at(first), at(last))
    assert found.metrics == {"exact_match": 100, "f1": 100}


def test_no_answer_is_longer_than_allowed(tmp_path: Path) -> None:
    # The likeliest starts all lie so far before the likeliest ends that no pair of them is short enough.
    passage = " ".join(["man"] * 90)
    question = Question("Which?", passage, (passage,), (0,))

    def falling(num: int) -> torch.Tensor:
        return -torch.arange(num)

    def rising(num: int) -> torch.Tensor:
        return torch.arange(num)

    long = scored(question_task(), question, tmp_path, falling, rising)
    # Any span at all would share words with the gold answer, which is the whole passage.
    assert long.metrics == {"exact_match": 0, "f1": 0}


def test_scores_stay_finite_where_no_span_is_possible(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(40)]
    question = Question("Which?", " ".join(words), (), ())
    found = scored(
        question_task(null_threshold=0.0), question, tmp_path, torch.arange, lambda n: -torch.arange(n)
    )
    assert found.metrics == {"exact_match": 100, "f1": 100}
    assert all(map(math.isfinite, found.details.values()))


@pytest.mark.parametrize("passage", ["", " "])
def test_an_empty_passage_has_the_empty_answer(passage: str, tmp_path: Path) -> None:
    found = scored(
        question_task(null_threshold=0.0),
        Question("Who?", passage, (), ()),
        tmp_path,
        torch.zeros,
        torch.zeros,
    )
    assert found.metrics == {"exact_match": 100, "f1": 100}

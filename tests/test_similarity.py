"""Word alignment by token similarities: worked examples, an independent implementation, a small encoder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lightning.fabric import Fabric
from transformers import AutoModel, AutoTokenizer

from xlt.data.encode import Window
from xlt.evaluation.perturbations.alignment import words
from xlt.evaluation.perturbations.similarity import Aligner, Stretch, _units, mutual

MINI = str(REPOSITORY / "encoders" / "mini")


def links(found: np.ndarray) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in np.argwhere(found)}


def test_argmax_of_a_worked_example():
    # Rows like best 0, 0, 1 and 3; columns like best 0, 2, 2 and 3. Row 1 and column 0 do not agree, nor do
    # row 2 and column 2.
    similarity = [[0.9, 0.2, 0.1, 0.3], [0.8, 0.5, 0.1, 0.2], [0.1, 0.6, 0.5, 0.1], [0.0, 0.1, 0.2, 0.4]]
    assert links(mutual(np.array(similarity))) == {(0, 0), (2, 1), (3, 3)}


def test_the_first_of_equal_words_is_linked():
    assert links(mutual(np.ones((2, 3)))) == {(0, 0)}


def by_loops(similarity: np.ndarray) -> set[tuple[int, int]]:
    """Argmax word by word, as section 2.2 of the paper tells it."""
    found = set()
    for i in range(similarity.shape[0]):
        j = max(range(similarity.shape[1]), key=lambda column: similarity[i, column])
        if i == max(range(similarity.shape[0]), key=lambda row: similarity[row, j]):
            found.add((i, j))
    return found


SIDES = st.integers(1, 6)


@given(st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(0, 8))))
def test_links_are_those_of_an_implementation_by_loops(matrix: np.ndarray):
    assert links(mutual(matrix)) == by_loops(matrix)


@pytest.fixture(scope="module")
def aligner() -> Callable[..., Aligner]:
    fabric = Fabric(accelerator="cpu", devices=1)
    return lambda tokens=4096: Aligner(MINI, lambda name: f"hash of {name}", tokens, fabric)


def stretch(text: str) -> Stretch:
    return Stretch(text, words(text))


PAIRS = [
    (stretch("In 1998, Paris won."), stretch("Paris gewann 1998.")),
    (stretch("Yes!"), stretch("Ja!")),
    (stretch("他在NBA打球。"), stretch("He plays in the NBA.")),
]


def test_words_that_stay_the_same_are_linked(aligner: Callable[..., Aligner]):
    """The small encoder aligns few other words rightly."""
    found = aligner().links(PAIRS)
    assert {(1, 2), (3, 0), (5, 3)} <= set(found[0])
    assert (1, 1) in found[1]
    assert (2, 4) in found[2]
    assert all(of_pair == sorted(of_pair) for of_pair in found)


def test_batches_do_not_alter_links(aligner: Callable[..., Aligner]):
    whole = aligner().links(PAIRS)
    assert aligner(1).links(PAIRS) == whole
    assert aligner(40).links(PAIRS[::-1]) == whole[::-1]
    assert aligner().links([]) == []


def test_the_key_names_the_encoder(aligner: Callable[..., Aligner]):
    assert aligner().key.endswith(f"hash of {MINI}")


def test_memory_is_given_back_and_taken_again(aligner: Callable[..., Aligner]):
    one = aligner()
    found = one.links(PAIRS)
    one.release()
    assert "_encoder" not in vars(one)
    one.release()
    assert one.links(PAIRS) == found


def test_vectors_of_words_are_the_means_of_transformers_states(aligner: Callable[..., Aligner]):
    """Layer 3 of the four of encoders/mini (8 of 12), by transformers alone."""
    one, text = aligner(), "In 1998, Paris won unexpectedly."
    (windows,) = one._text.located([text])
    found = _units(stretch(text), windows, torch.cat(one._states(windows)))
    tokenizer: Any = AutoTokenizer.from_pretrained(MINI)
    model = AutoModel.from_pretrained(MINI, dtype=torch.float32).eval()
    encoded = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded, output_hidden_states=True).hidden_states[3][0, 1:-1]
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    means = [
        states[[k for k, (a, b) in enumerate(offsets) if a < end and b > start]].mean(0)
        for start, end in words(text)
    ]
    expected = torch.nn.functional.normalize(torch.stack(means), dim=1).numpy()
    assert found.of_word.tolist() == list(range(7))
    np.testing.assert_allclose(found.vectors, expected, atol=2e-5)


def test_neighbours_that_share_a_token_are_one_unit():
    """Words are 0-1, 1-2, 2-3 and 4-6; the first token is of two words, the third of none."""
    windows = [Window([9, 5, 6, 7, 8, 9], 1, np.array([[0, 2], [2, 3], [3, 4], [4, 6]]), False)]
    states = torch.tensor([[3.0, 4.0], [0.0, 2.0], [7.0, 7.0], [5.0, 0.0]])
    found = _units(Stretch("abc de", [(0, 1), (1, 2), (2, 3), (4, 6)]), windows, states)
    assert found.of_word.tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(found.vectors, [[0.6, 0.8], [0, 1], [1, 0]], atol=1e-6)


def test_a_text_longer_than_the_encoder_reads_is_read_in_parts(aligner: Callable[..., Aligner]):
    text = stretch(" ".join(map(str, range(900))))
    (found,) = aligner().links([(text, text)])
    assert np.mean([i == j for i, j in found]) > 0.9
    assert len({i for i, _ in found}) > 800

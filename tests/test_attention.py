"""The packed encoder against `transformers`' own padded XLM-R with the same weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from padded import (
    WIDTH,
    fresh_encoder,
    random_rows,
    run_packed,
    run_padded,
    stored,
    write_config,
)
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.batch.packing import Packing
from xlt.data.sampling.collate import collate
from xlt.models.encoders.agreement import padded_model
from xlt.models.encoders.text import Encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a config."""
    return write_config(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: str) -> Encoder:
    """The packed encoder without dropout."""
    return fresh_encoder(folder)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def padded(request: pytest.FixtureRequest, encoder: Encoder) -> XLMRobertaModel:
    """The model of transformers with the same weights."""
    return padded_model(encoder, request.param)


def random_lengths(seed: int) -> list[int]:
    """Between 3 and 12 lengths from 1 to 512, the ends among them."""
    generator = np.random.default_rng(seed)
    found = (512 ** generator.random(generator.integers(1, 11))).astype(int).tolist()
    return generator.permutation([1, 512, *found]).tolist()


def error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    with torch.no_grad():
        return ((found - expected).double().norm() / expected.double().norm()).item()


def gradients(model: nn.Module, output: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Gradient of a weighted sum of the output for each parameter."""
    model.zero_grad()
    (output.float() * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_gradients_agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Each gradient agrees; one that is zero but for rounding, as a key's bias has, against the rest."""
    assert set(found) == set(expected)
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, gradient in expected.items():
        difference = (found[name] - gradient).norm()
        assert difference < tolerance * max(gradient.norm(), 1e-2 * whole), name


LENGTHS = {
    "one token": [1],
    "one sequence": [300],
    "longest": [512],
    "ends": [512, 1],
    "ones": [1, 1, 1],
    "equal": [20, 20, 20],
    "already sorted": [64, 32, 8],
    "one block": [30, 28, 29, 27],
    **{f"seed {seed}": random_lengths(seed) for seed in range(4)},
}


def within(packing: Packing, wanted: Callable[[int], list[int]]) -> Tensor:
    """Tokens at these positions of each sequence, given its length."""
    bounds = zip(packing.starts.tolist(), packing.lengths.tolist(), strict=True)
    return torch.tensor([start + position for start, length in bounds for position in wanted(length)])


def some_words(length: int) -> list[int]:
    """First tokens of words of 1 to 3 tokens, after a special token where there is room."""
    gaps = np.random.default_rng(length).integers(1, 4, length)
    return [p for p in np.cumsum(gaps).tolist() if p < length] or [0]


TOKEN_INDICES: dict[str, Callable[[Packing], Tensor | None]] = {
    "None": lambda packing: None,
    "starts": lambda packing: packing.starts,
    "copied starts": lambda packing: packing.starts.clone(),
    "every second": lambda packing: within(packing, lambda length: list(range(0, length, 2))),
    "words": lambda packing: within(packing, some_words),
    "every": lambda packing: torch.arange(int(packing.lengths.sum())),
}


@pytest.mark.parametrize("read", TOKEN_INDICES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_packed_equals_padded_in_single_precision(
    lengths: list[int], read: str, encoder: Encoder, padded: XLMRobertaModel, tmp_path: Path
) -> None:
    columns = random_rows(lengths, seed=len(lengths))
    order = np.random.default_rng(1).permutation(len(lengths))
    batch = collate("task", stored(tmp_path, columns), order, inputs=(), first_position=2)
    token_indices = TOKEN_INDICES[read](batch.packing)
    found = run_packed(encoder, batch, token_indices)
    expected = torch.cat(run_padded(padded, [columns["input_ids"][row] for row in order]))
    expected = expected if token_indices is None else expected[token_indices]
    assert found.shape == expected.shape == (len(expected), WIDTH)
    assert error(found, expected) < 1e-5
    torch.manual_seed(2)
    weights = torch.randn_like(found)
    assert_gradients_agree(
        gradients(encoder.transformer, found, weights), gradients(padded, expected, weights), 1e-5
    )


@pytest.mark.parametrize("read", ["None", "starts", "words"])
@pytest.mark.parametrize("lengths", [LENGTHS["ends"], LENGTHS["one block"], LENGTHS["seed 0"]])
def test_packed_equals_padded_in_bf16(
    lengths: list[int], read: str, encoder: Encoder, padded: XLMRobertaModel, tmp_path: Path
) -> None:
    columns = random_rows(lengths, seed=0)
    batch = collate("task", stored(tmp_path, columns), np.arange(len(lengths)), inputs=(), first_position=2)
    token_indices = TOKEN_INDICES[read](batch.packing)
    with torch.autocast("cpu", torch.bfloat16):
        found = run_packed(encoder, batch, token_indices)
        expected = torch.cat(run_padded(padded, columns["input_ids"]))
    expected = expected if token_indices is None else expected[token_indices]
    assert error(found, expected) < 2e-2
    torch.manual_seed(2)
    weights = torch.randn(found.shape)
    ours = gradients(encoder.transformer, found, weights)
    theirs = gradients(padded, expected, weights)
    joined = [torch.cat([g[name].flatten() for name in sorted(theirs)]) for g in (ours, theirs)]
    assert error(*joined) < 2e-2


def test_a_sequence_does_not_see_its_neighbours(encoder: Encoder, tmp_path: Path) -> None:
    columns = random_rows([7, 30, 31, 12], seed=3)
    features = stored(tmp_path, columns)
    together = run_packed(encoder, collate("task", features, np.array([3, 1, 2, 0]), (), first_position=2))
    alone = run_packed(encoder, collate("task", features, np.array([1]), (), first_position=2))
    assert error(together[12:42], alone) < 1e-5
    changed = {**columns, "input_ids": [*columns["input_ids"][:3], [5] * 12]}
    (tmp_path / "changed").mkdir()
    other = run_packed(
        encoder,
        collate("task", stored(tmp_path / "changed", changed), np.array([3, 1, 2, 0]), (), first_position=2),
    )
    assert torch.equal(together[12:], other[12:])
    assert not torch.equal(together[:12], other[:12])


def test_positions_start_anew_in_each_sequence_of_a_row(tmp_path: Path) -> None:
    columns = {"input_ids": [[9, 8, 7, 6, 5], [4]], "lengths": [[2, 3], [1]]}
    batch = collate("task", stored(tmp_path, columns), np.array([1, 0, 1]), (), first_position=2)
    assert batch.input_ids.tolist() == [[4, 9, 8, 7, 6, 5, 4]]
    # XLM-R's positions start at its padding id + 1.
    assert batch.position_ids.tolist() == [[2, 2, 3, 2, 3, 4, 2]]
    assert batch.packing.lengths.tolist() == [1, 2, 3, 1]
    assert batch.rows.tolist() == [1, 0, 1]
    assert batch.num_tokens == 7


def test_a_micro_batch_without_rows(tmp_path: Path) -> None:
    columns = {"input_ids": [[9, 8]], "lengths": [[2]], "targets": [[0]], "token_indices": [[1]]}
    batch = collate(
        "task",
        stored(tmp_path, columns),
        np.zeros(0, np.int64),
        ("targets", "token_indices"),
        first_position=2,
    )
    assert batch.num_tokens == 0
    assert batch.columns["targets"].tolist() == batch.columns["token_indices"].tolist() == []


# Dropout


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("read", ["None", "starts", "words"])
def test_attention_dropout_follows_the_seed_and_the_mode(
    read: str, num_layers: int, folder: str, tmp_path: Path
) -> None:
    config = XLMRobertaConfig.from_pretrained(folder)
    config.num_hidden_layers = num_layers
    config.hidden_dropout_prob, config.attention_probs_dropout_prob = 0.0, 0.5
    config.save_pretrained(tmp_path)
    encoder = Encoder(str(tmp_path), from_scratch=True).train()
    batch = collate("task", stored(tmp_path, random_rows([9, 30, 28], 0)), np.arange(3), (), first_position=2)

    def states(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return run_packed(encoder, batch, TOKEN_INDICES[read](batch.packing))

    assert torch.equal(states(0), states(0))
    assert not torch.equal(states(0), states(1))
    encoder.eval()
    assert torch.equal(states(0), states(1))

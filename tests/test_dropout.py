"""Dropout: rate, scale, gradient, independence, seeds."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.models.kernels.dropout import DRAWN, Dropout, dropout, keep_mask, replace_dropout

RATES = [0.1, 0.3, 0.5]
COUNT = 400_000


def kept(probability: float, seed: int, count: int = COUNT) -> Tensor:
    """Which of so many elements are kept, as 0 and 1."""
    torch.manual_seed(seed)
    return (dropout(torch.ones(count), probability) != 0).double()


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's coefficient."""
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


@pytest.mark.parametrize("probability", RATES)
def test_the_rate_is_the_probability(probability: float) -> None:
    deviation = (probability * (1 - probability) / COUNT) ** 0.5
    for seed in range(4):
        assert abs(kept(probability, seed).mean().item() - (1 - probability)) < 4 * deviation


@pytest.mark.parametrize("probability", RATES)
def test_what_is_kept_is_scaled_to_the_same_mean(probability: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.full((1000,), 3.0), probability)
    values = found[found != 0]
    # The probability is rounded to a multiple of 2^-16.
    assert values.min() == values.max()
    assert values[0].item() == pytest.approx(3 / (1 - probability), rel=2**-15)
    deviation = (probability / (1 - probability) / COUNT) ** 0.5
    assert abs(dropout(torch.ones(COUNT), probability).mean().item() - 1) < 4 * deviation


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_has_the_same_mask_and_scale(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    states = torch.randn(7, 11, dtype=dtype).abs().add(1).requires_grad_()
    found = dropout(states, 0.25)
    found.backward(torch.ones_like(found))
    assert states.grad is not None
    assert found.dtype == states.grad.dtype == dtype
    mask = found != 0
    assert 0 < mask.sum() < mask.numel()
    # 1 / (1 - 0.25), and 0.25 is a multiple of 2^-16.
    expected = torch.where(mask, torch.tensor(4 / 3, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    assert torch.equal(states.grad, expected)
    torch.testing.assert_close(found, states.detach() * expected)


def test_the_gradient_is_that_of_the_function() -> None:
    states = torch.randn(30, dtype=torch.double, requires_grad=True)

    def same_mask(values: Tensor) -> Tensor:
        torch.manual_seed(5)
        return dropout(values, 0.5) ** 2

    assert torch.autograd.gradcheck(same_mask, (states,))


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 5, 256])
@pytest.mark.parametrize("probability", RATES)
def test_neighbouring_elements_are_independent(probability: float, distance: int) -> None:
    mask = kept(probability, seed=2)
    assert abs(correlation(mask[:-distance], mask[distance:])) < 4 / COUNT**0.5


@pytest.mark.parametrize("probability", RATES)
def test_two_seeds_are_independent(probability: float) -> None:
    assert abs(correlation(kept(probability, 3), kept(probability, 4))) < 4 / COUNT**0.5


@pytest.mark.parametrize("seeds", [(7, 7), (7, 8), (8, 9)])
def test_no_two_elements_at_any_distance_go_together(seeds: tuple[int, int]) -> None:
    count = 2**18
    one, other = (torch.fft.rfft(kept(0.1, seed, count) - 0.9) for seed in seeds)
    found = torch.fft.irfft(one * other.conj(), n=count) / (count * 0.1 * 0.9)
    # An element goes together with itself.
    distances = found[1:] if seeds[0] == seeds[1] else found
    # The largest of so many normal variables exceeds this once in a thousand times.
    assert distances.abs().max() < (2 * math.log(2 * count * 1000) / count) ** 0.5


@pytest.mark.parametrize("probability", RATES)
def test_two_calls_are_independent(probability: float) -> None:
    torch.manual_seed(0)
    one, other = (dropout(torch.ones(COUNT), probability) for _ in range(2))
    assert abs(correlation((one != 0).double(), (other != 0).double())) < 4 / COUNT**0.5


def test_every_place_within_a_drawn_word_has_the_same_rate() -> None:
    mask = kept(0.3, seed=6).view(-1, 4)
    deviation = (0.3 * 0.7 / len(mask)) ** 0.5
    assert all(abs(mask[:, i].mean().item() - 0.7) < 4 * deviation for i in range(4))


@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (5,), (2, 3, 5), (0,)])
def test_any_shape_keeps_its_shape_and_seed(shape: tuple[int, ...]) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(9)
        found.append(dropout(torch.ones(shape), 0.5))
    assert found[0].shape == shape
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_share_a_large_mask_out_and_do_not_change_it(
    dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    states, found = torch.ones(3 * DRAWN + 5, dtype=dtype), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(9)
        found.append(keep_mask(states, 0.1))
        assert found[0].equal(found[-1])
    parts = found[0][: 3 * DRAWN].double().view(3, DRAWN)
    assert (torch.corrcoef(parts) - torch.eye(3)).abs().max() < 4 / DRAWN**0.5
    deviation = (0.1 * 0.9 / DRAWN) ** 0.5
    assert (parts.mean(1) - 0.9).abs().max() < 4 * deviation


def test_another_seed_gives_another_mask() -> None:
    masks = {tuple(kept(0.5, seed, count=64).tolist()) for seed in range(100)}
    assert len(masks) == 100


def test_states_that_are_not_contiguous() -> None:
    states = torch.arange(1.0, 25).view(4, 6).t()
    torch.manual_seed(0)
    found = dropout(states, 0.5)
    assert torch.equal(found, torch.where(found != 0, 2 * states, 0.0))


def test_probability_zero_is_the_identity() -> None:
    states = torch.randn(5)
    assert torch.equal(dropout(states, 0.0), states)


@pytest.mark.parametrize("probability", [1.0, 1 - 1e-7])
def test_probability_one_drops_everything(probability: float) -> None:
    assert torch.equal(dropout(torch.ones(50), probability), torch.zeros(50))


def test_the_states_are_left_as_they_were() -> None:
    states = torch.ones(100)
    dropout(states, 0.5)
    assert torch.equal(states, torch.ones(100))


def test_evaluation_is_the_identity() -> None:
    layer, states = Dropout(0.5), torch.ones(100)
    assert not torch.equal(layer(states), states)
    assert torch.equal(layer.eval()(states), states)


def small_model() -> XLMRobertaModel:
    """XLM-R, two layers of 32."""
    config = XLMRobertaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.2,
    )
    return XLMRobertaModel(config, add_pooling_layer=False)


def test_every_dropout_of_the_encoder_is_replaced() -> None:
    model = small_model()
    before = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    # One after the embeddings; in each layer one in the attention, one after it, one after the feed-forward.
    assert len(before) == 1 + 2 * 3
    replace_dropout(model)
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert set(found) == before
    assert all(type(module) is Dropout for module in found.values())
    assert {module.p for name, module in found.items() if not name.endswith("self.dropout")} == {0.2}


@pytest.mark.parametrize("training", [True, False])
def test_replacing_leaves_every_module_in_its_mode(training: bool) -> None:
    model = small_model().train(training)
    replace_dropout(model)
    assert {module.training for module in model.modules()} == {training}


def test_dropouts_in_lists_and_sequences_are_replaced_in_their_place() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.4), nn.ModuleList([nn.Dropout(0.1)]))
    replace_dropout(model)
    assert type(model[1]) is Dropout
    assert model[1].p == 0.4
    assert type(model[2][0]) is Dropout
    assert len(model) == 3

"""The Triton kernels of attention: on a GPU where there is one, else in Triton's interpreter."""

from collections.abc import Sequence

import pytest
import torch
from plain import error, plain_attention
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton, which torch's builds for CUDA bring")

from xlt.kernels import triton_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HEADS = 2

SHAPES = {
    "one short sequence": ([5], [5]),
    "lengths around a block's": ([15, 16, 17, 64, 65], [15, 16, 17, 64, 65]),
    "from 1 token to several blocks": ([30, 130, 1, 29, 7], [30, 130, 1, 29, 7]),
    "one query each": ([1, 1, 1], [30, 70, 5]),
    "sequences without a query": ([2, 0, 3, 0], [30, 70, 5, 1]),
}

shapes = pytest.mark.parametrize("shape", SHAPES)


def ends(counts: Sequence[int]) -> Tensor:
    return torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32, device=DEVICE)


def random_states(counts: Sequence[int], width: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(sum(counts), HEADS, width).to(DEVICE, dtype).requires_grad_()


def attend(
    states: Sequence[Tensor],
    counts: Sequence[int],
    lengths: Sequence[int],
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    return triton_attention(*states, ends(counts), ends(lengths), max(counts), max(lengths), scale, dropout)


@shapes
@pytest.mark.parametrize("width", [8, 64, 80])
def test_states_and_gradients_are_those_of_plain_attention(shape: str, width: int) -> None:
    torch.manual_seed(0)
    counts, lengths = SHAPES[shape]
    states = [random_states(c, width) for c in (counts, lengths, lengths)]
    scale = width**-0.5
    found = attend(states, counts, lengths, scale)
    grad = torch.randn_like(found)
    exact = [part.detach().double().cpu().requires_grad_() for part in states]
    expected = plain_attention(*exact, counts, lengths, scale)
    pairs = zip(
        (found, *torch.autograd.grad(found, states, grad)),
        (expected, *torch.autograd.grad(expected, exact, grad.double().cpu())),
        strict=True,
    )
    assert all(error(one.cpu(), other) < 2e-3 for one, other in pairs)


def kept_weights(length: int, sequences: int, dropout: float) -> Tensor:
    """Which weights are kept, of shape (sequences, heads, queries, keys).

    Queries of zeros weigh all keys alike, and the values are the keys' own places.
    """
    lengths = [length] * sequences
    zeros = torch.zeros(sequences * length, HEADS, length, device=DEVICE, dtype=torch.float16)
    places = torch.eye(length, device=DEVICE, dtype=torch.float16).repeat(sequences, 1)
    values = places[:, None].expand(-1, HEADS, -1)
    found = attend((zeros, zeros, values), lengths, lengths, 1.0, dropout) * length * (1 - dropout)
    assert ((found - found.round()).abs() < 2e-2).all()
    return found.round().view(sequences, length, HEADS, length).transpose(1, 2).bool().cpu()


def test_what_is_dropped_has_the_rate_and_no_pattern() -> None:
    torch.manual_seed(0)
    first, second = (kept_weights(32, 40, 0.25).double() - 0.75 for _ in range(2))
    count = first.numel()
    assert abs(first.mean()) < 4.5 * (0.75 * 0.25 / count) ** 0.5
    spread = 0.75 * 0.25 * count**-0.5
    neighbours = [
        first * second,
        first[..., 1:] * first[..., :-1],
        first[:, :, 1:] * first[:, :, :-1],
        first[:, 1:] * first[:, :-1],
        first[1:] * first[:-1],
    ]
    assert all(abs(products.mean()) < 5 * spread for products in neighbours)


def test_dropout_follows_torchs_seed() -> None:
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(kept_weights(16, 2, 0.5))
    assert masks[0].equal(masks[1])
    assert not masks[0].equal(masks[2])


def test_gradients_pass_the_weights_that_the_states_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "randint", lambda *_, **__: torch.tensor([3, 4], dtype=torch.int32, device=DEVICE)
    )
    length, dropout = 40, 0.25
    kept = kept_weights(length, 2, dropout).double() / (1 - dropout)
    torch.manual_seed(0)
    states = [random_states([length] * 2, length) for _ in range(3)]
    found = attend(states, [length] * 2, [length] * 2, 0.2, dropout)
    grad = torch.randn_like(found)
    exact = [part.detach().double().cpu().requires_grad_() for part in states]
    q, k, v = (part.view(2, length, HEADS, length).transpose(1, 2) for part in exact)
    weights = torch.softmax(q @ k.transpose(-1, -2) * 0.2, -1) * kept
    expected = (weights @ v).transpose(1, 2).flatten(0, 1)
    pairs = zip(
        (found, *torch.autograd.grad(found, states, grad)),
        (expected, *torch.autograd.grad(expected, exact, grad.double().cpu())),
        strict=True,
    )
    assert all(error(one.cpu(), other) < 3e-3 for one, other in pairs)


def test_equal_steps_have_equal_gradients_to_the_bit() -> None:
    torch.manual_seed(0)
    counts = [70, 3, 130]
    states = [random_states(counts, 64) for _ in range(3)]
    grads = []
    for _ in range(2):
        torch.manual_seed(1)
        grads.append(torch.autograd.grad(attend(states, counts, counts, 0.1, 0.1).float().sum(), states))
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))

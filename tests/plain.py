"""Attention written out, one sequence after the other, for tests to compare with."""

from collections.abc import Sequence

import torch
from torch import Tensor

HEADS, WIDTH = 2, 8
SCALING = 0.3


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    counts: Sequence[int],
    lengths: Sequence[int],
    scaling: float = SCALING,
    kept: Sequence[Tensor] | None = None,
) -> Tensor:
    """Softmax attention of each sequence; `kept` multiplies the weights (H, queries, keys) of each."""
    parts = zip(query.split(list(counts)), key.split(list(lengths)), value.split(list(lengths)), strict=True)
    found = []
    for i, (q, k, v) in enumerate(parts):
        weights = (torch.einsum("qhk,nhk->hqn", q, k) * scaling).softmax(-1)
        found.append(torch.einsum("hqn,nhk->qhk", weights if kept is None else weights * kept[i], v))
    return torch.cat(found)


def random_states(
    counts: Sequence[int], lengths: Sequence[int], seed: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values that take gradients, their weights far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(sum(sizes), HEADS, WIDTH, generator=generator, dtype=torch.double)
        for sizes in (counts, lengths, lengths)
    )
    return tuple((2 * states).to(dtype).requires_grad_() for states in (query, key, value))  # type: ignore[return-value]


def with_gradients(attended: Tensor, states: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """The output, and the gradients of a weighted sum of it."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(attended.shape, generator=generator, dtype=torch.double).to(attended)
    return [attended.detach(), *torch.autograd.grad((attended * weights).sum(), list(states))]


def error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected, 0 where both are 0."""
    difference = (found.detach().double() - expected.detach().double()).norm().item()
    return difference and difference / max(expected.detach().double().norm().item(), 1e-30)

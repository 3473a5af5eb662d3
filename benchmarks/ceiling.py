"""What the machine can do at most: the rate of its matrix products, and the products that a token needs."""

import statistics
from collections.abc import Callable

import torch

from benchmarks.clock import now
from benchmarks.systems import Turn
from benchmarks.workload import Size

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
"""Lightning's name of a precision, and the type that its matrix products run in."""

SECONDS = 0.2
"""Of each product in a turn."""

ROWS = {"cpu": (4096,), "cuda": (4096, 16_384)}
"""Tokens in a micro-batch; on a GPU, which slows down under its own heat, the faster of two."""


def rate_of_products(width: int, dtype: torch.dtype, device: str = "cpu", repeats: int = 9) -> float:
    """Floating-point operations a second in the encoder's own products, on whose fastest the ceiling stands.

    They are a feed-forward layer's: to the wide side, back, and the weight's gradient. Each is the median of
    some runs on cached operands, so that a training step cannot do better.
    """
    return max(_rate(rows, width, dtype, device, repeats) for rows in ROWS[device])


def rate_in_turn(width: int, dtype: torch.dtype, *, turn: Turn) -> float:
    """The same on the CPU, computed in turn with the systems, on the machine that they meet."""
    products = _products(ROWS["cpu"][0], width, dtype, "cpu")
    operations, seconds = [0.0] * len(products), [0.0] * len(products)
    for left, right in products:
        torch.mm(left, right)
    while True:
        for number, (left, right) in enumerate(products):
            until = now() + SECONDS
            while (begin := now()) < until:
                torch.mm(left, right)
                seconds[number] += now() - begin
                operations[number] += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        if not turn("train", 0):
            return max(count / duration for count, duration in zip(operations, seconds, strict=True))


def _rate(rows: int, width: int, dtype: torch.dtype, device: str, repeats: int) -> float:
    """The fastest product's rate for so many tokens."""
    operations = 2 * rows * 4 * width**2
    count = max(1, int(2e8 / operations)) if device == "cpu" else 50

    def seconds(left: torch.Tensor, right: torch.Tensor) -> float:
        def run() -> None:
            for _ in range(count):
                torch.mm(left, right)

        return _median_seconds(run, device, repeats)

    return count * operations / min(seconds(*two) for two in _products(rows, width, dtype, device))


def _products(
    rows: int, width: int, dtype: torch.dtype, device: str
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The factors of each product, for so many tokens."""
    states = torch.randn(rows, width, device=device).to(dtype)
    inner = torch.randn(rows, 4 * width, device=device).to(dtype)
    weight = torch.randn(4 * width, width, device=device).to(dtype)
    return [(states, weight.T), (inner, weight), (inner.T, states)]


def _median_seconds(run: Callable[[], None], device: str, repeats: int) -> float:
    """Median duration after a first run that does not count."""
    durations = []
    for _ in range(repeats + 1):
        begin = now()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        durations.append(now() - begin)
    return statistics.median(durations[1:])


def operations_per_token(size: Size, training: bool) -> int:
    """Model operations of a token in the linear layers, without attention's own products.

    Source: Kaplan et al. (2020), section 2.1: 2 a parameter forward, twice that backward.
    """
    return (6 if training else 2) * size.products

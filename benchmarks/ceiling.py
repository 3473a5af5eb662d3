"""Upper limit of the speed: rate of the machine's matrix products, and number of operations for a token."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.measuring import Turn
from benchmarks.workload import Size
from xlt.models.kernels.linear import HAS_ONEDNN

PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
"""Lightning's name of each precision, and the type of its matrix products."""

SECONDS = 0.2
"""Duration of each product in a turn, in seconds."""

ROWS = {"cpu": (4096,), "cuda": (4096, 16_384)}
"""Numbers of tokens in a product, by device. The fastest counts, because a GPU slows down when it is hot."""

Product = tuple[Callable[[], torch.Tensor], int]
"""Matrix product and its number of floating-point operations."""


def rate_of_products(width: int, dtype: torch.dtype, device: str = "cpu", repeats: int = 9) -> float:
    """Return the floating-point operations per second of the encoder's fastest matrix product.

    A feed-forward layer has three products: to the wide side, back, and the gradient of the weights. On a
    CPU, oneDNN also computes the first two. The operands are in the processor's cache, so no training step
    is faster.

    Args:
        width: Hidden width of the encoder.
        dtype: Type of the operands.
        device: `cpu` or `cuda`.
        repeats: Number of timed runs. The median duration counts.
    """
    return max(_rate(rows, width, dtype, device, repeats) for rows in ROWS[device])


def rate_in_turn(width: int, dtype: torch.dtype, *, turn: Turn) -> float:
    """Return the rate of `rate_of_products` on the CPU, measured in turn with the other systems.

    Args:
        width: Hidden width of the encoder.
        dtype: Type of the operands.
        turn: Function to call after each round of all products.
    """
    products = _products(ROWS["cpu"][0], width, dtype, "cpu")
    done, seconds = [0] * len(products), [0.0] * len(products)
    for run, _ in products:
        run()
    while True:
        for number, (run, operations) in enumerate(products):
            until = time.perf_counter() + SECONDS
            while (begin := time.perf_counter()) < until:
                run()
                seconds[number] += time.perf_counter() - begin
                done[number] += operations
        if not turn("train", 0):
            return max(count / duration for count, duration in zip(done, seconds, strict=True))


def _rate(rows: int, width: int, dtype: torch.dtype, device: str, repeats: int) -> float:
    """Return the operations per second of the fastest product of `rows` tokens."""
    products = _products(rows, width, dtype, device)
    count = max(1, int(2e8 / products[0][1])) if device == "cpu" else 50

    def rate(run: Callable[[], torch.Tensor], operations: int) -> float:
        def repeat() -> None:
            for _ in range(count):
                run()

        return count * operations / _median_seconds(repeat, device, repeats)

    return max(rate(*product) for product in products)


def _products(rows: int, width: int, dtype: torch.dtype, device: str) -> list[Product]:
    """Return all products of `rows` tokens."""
    states = torch.randn(rows, width, device=device).to(dtype)
    inner = torch.randn(rows, 4 * width, device=device).to(dtype)
    weight = torch.randn(4 * width, width, device=device).to(dtype)
    pairs = ((states, weight.T), (inner, weight), (inner.T, states))
    found: list[Callable[[], torch.Tensor]] = [partial(torch.mm, *pair) for pair in pairs]
    if device == "cpu" and HAS_ONEDNN:
        onednn = torch.ops.mkldnn._linear_pointwise
        back = weight.T.contiguous()
        found += [
            partial(onednn, a, b, None, "none", [], "none") for a, b in ((states, weight), (inner, back))
        ]
    return [(run, 2 * rows * 4 * width**2) for run in found]


def _median_seconds(run: Callable[[], None], device: str, repeats: int) -> float:
    """Return the median duration of `repeats` runs in seconds. One untimed run comes before."""
    durations = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        durations.append(time.perf_counter() - begin)
    return statistics.median(durations[1:])


def operations_per_token(size: Size, training: bool) -> int:
    """Return the number of floating-point operations for a token in the linear layers.

    The matrix products within attention are not counted.

    Source: Kaplan et al. (2020), section 2.1: 2 operations for each parameter in the
    forward pass, and 4 in the backward pass.
    """
    return (6 if training else 2) * size.products

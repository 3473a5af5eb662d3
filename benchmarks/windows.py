"""Compare time and memory of local attention on the CPU with those of attention to the whole sequence.

    python -m benchmarks.windows --lengths '[512, 2048, 8192]'

Each line describes a sequence length: the median time of a forward and backward pass of a layer's attention
in milliseconds, and the growth of the process's memory by the passes in MiB. Each measurement has a process
of its own. `scores` counts the products of queries and keys that are computed. The default window is that of
mmBERT: 64 tokens on each side.
"""

import json
import sys
from collections.abc import Callable
from math import prod
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from jsonargparse import auto_cli

from xlt.batch.packing import pack
from xlt.models.kernels.blocks import Side, block_attention, lay_out
from xlt.models.kernels.windows import lay_out_local
from xlt.system.tables import aligned
from xlt.training.results import peak_rss_bytes


class Cost(NamedTuple):
    """Cost of a layer's attention: median seconds of a pass, growth of memory in bytes, number of scores."""

    seconds: float
    bytes: int
    scores: int


def cost(length: int, heads: int, width: int, reach: int | None, passes: int) -> Cost:
    """Measure attention within a sequence, and return its cost.

    Args:
        length: Number of tokens.
        heads: Number of heads.
        width: Width of a head.
        reach: Largest distance from a query to a key, in tokens. If None, a query sees all keys.
        passes: Number of timed passes. One untimed pass comes before.
    """
    packing = pack([length])
    if reach is None:
        queries = keys = lay_out(packing.lengths, packing, heads)
    else:
        queries, keys = lay_out_local(packing, heads, reach)
    torch.manual_seed(0)
    states = [torch.randn(length, heads, width, requires_grad=True) for _ in range(3)]
    before, seconds = peak_rss_bytes(), []
    for _ in range(passes + 1):
        start = perf_counter()
        block_attention(states[0], states[1], states[2], queries, keys, width**-0.5, 0.0).sum().backward()
        seconds.append(perf_counter() - start)
    return Cost(median(seconds[1:]), peak_rss_bytes() - before, _scores(queries, keys))


def _scores(queries: Side, keys: Side) -> int:
    """Return the number of products of queries and keys."""
    return sum(
        prod(shape) * num_keys for shape, (_, num_keys) in zip(queries.shapes, keys.shapes, strict=True)
    )


def alone(function: Callable[..., Cost], *arguments: object) -> Cost:
    """Call a function in a process of its own, and return its result."""
    with get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def main(
    lengths: tuple[int, ...] = (128, 512, 2048, 8192),
    heads: int = 2,
    width: int = 64,
    reach: int = 64,
    passes: int = 5,
) -> None:
    """Print time, memory and scores of local and of global attention, and their ratios.

    Args:
        lengths: Numbers of tokens of the sequences.
        heads: Number of heads. Global attention to 8,192 tokens takes 0.5 GiB for each.
        width: Width of a head.
        reach: Largest distance from a query to a key in local attention, in tokens.
        passes: Number of timed passes. One untimed pass comes before.
    """
    lines: list[tuple[str, ...]] = [
        ("tokens", "local ms", "global ms", "ratio", "local MiB", "global MiB", "ratio", "scores ratio")
    ]
    found = {}
    for length in lengths:
        local, whole = (alone(cost, length, heads, width, own, passes) for own in (reach, None))
        ratios = whole.seconds / local.seconds, whole.bytes / max(local.bytes, 1), whole.scores / local.scores
        times, sizes = (
            (f"{1000 * local.seconds:,.1f}", f"{1000 * whole.seconds:,.1f}"),
            (f"{local.bytes / 2**20:,.0f}", f"{whole.bytes / 2**20:,.0f}"),
        )
        lines.append(
            (f"{length:,}", *times, f"{ratios[0]:.1f}", *sizes, f"{ratios[1]:.1f}", f"{ratios[2]:.1f}")
        )
        found[length] = {"local": local._asdict(), "global": whole._asdict()}
    print(aligned(lines))
    print(json.dumps({"heads": heads, "width": width, "reach": reach, "found": found}))


if __name__ == "__main__":
    sys.exit(auto_cli(main, as_positional=False))

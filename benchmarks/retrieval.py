"""Nearest neighbours: xlt's blocked search against faiss's exact index, `python -m benchmarks.retrieval`.

Both search the same unit vectors: random keys, and queries that are noisy copies of keys, as a sentence and
its translation are near each other. Times are medians of interleaved repeats; faiss's index is built before
the clock starts. "Both ways" are the neighbours of queries and of keys, as margin scores need them.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.processes import in_fresh_process
from xlt.metrics.neighbours import Neighbours, both_ways, nearest

K = 4
"""Neighbours of a sentence in the margin score of BUCC (Artetxe and Schwenk 2019, arXiv 1811.01136)."""

TIE = 1e-6
"""Scores that differ by no more may change places between two computations in single precision."""

SEED = 0


def load_faiss() -> Any:
    """The module faiss.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "benchmarks.retrieval compares with faiss, which is not installed: pip install -e '.[dev]'"
        ) from error
    return faiss


def vectors(num_queries: int, num_keys: int, width: int) -> tuple[Tensor, Tensor]:
    """Unit queries and keys; a query has a cosine of about 0.7 with the key that it is a copy of."""
    generator = torch.Generator().manual_seed(SEED)
    keys = torch.randn(num_keys, width, generator=generator)
    queries = torch.randn(num_queries, width, generator=generator)
    queries += keys[torch.randint(num_keys, (num_queries,), generator=generator)]
    return F.normalize(queries), F.normalize(keys)


def faiss_search(queries: Tensor, keys: Tensor) -> Callable[[], Neighbours]:
    """A search through faiss's exact inner products, on as many threads as torch has."""
    faiss = load_faiss()
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(keys.shape[1])
    index.add(keys.numpy())
    return lambda: Neighbours(*map(torch.from_numpy, index.search(queries.numpy(), K)))


def systems(queries: Tensor, keys: Tensor) -> dict[str, Callable[[], Any]]:
    """What is timed."""
    return {
        "xlt": lambda: nearest(queries, keys, K),
        "xlt_both_ways": lambda: both_ways(queries, keys, K),
        "faiss": faiss_search(queries, keys),
        "faiss_backward": faiss_search(keys, queries),
    }


def timed(system: Callable[[], Any]) -> float:
    """Seconds of one search."""
    start = time.perf_counter()
    system()
    return time.perf_counter() - start


def agreement(ours: Neighbours, theirs: Neighbours) -> dict[str, float]:
    """Share of the same indices in the same places, and of those that differ only where scores tie."""
    same = ours.indices == theirs.indices
    ties = (ours.scores - theirs.scores).abs() <= TIE
    return {
        "same_indices": same.double().mean().item(),
        "same_or_tied": (same | ties).double().mean().item(),
        "largest_difference_of_scores": (ours.scores - theirs.scores).abs().max().item(),
    }


def resident_peak() -> float:
    """The most memory that this process has had so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def memory_of(system: str, sizes: tuple[int, int, int]) -> float:
    """MB that a search takes beyond vectors and, for faiss, its index; in a process of its own."""
    small = systems(*vectors(64, 64, sizes[2]))
    small[system]()
    search = systems(*vectors(*sizes))[system]
    before = resident_peak()
    search()
    return resident_peak() - before


def measure(
    num_queries: int = 10_000, num_keys: int = 20_000, width: int = 768, repeats: int = 3
) -> dict[str, Any]:
    """Seconds, memory and agreement of both searches, and their ratios (above 1: xlt is faster).

    Raises:
        ImportError: faiss is not installed.
    """
    load_faiss()
    sizes = num_queries, num_keys, width
    memory = {name: in_fresh_process(memory_of, name, sizes) for name in ("xlt", "xlt_both_ways", "faiss")}
    searches = systems(*vectors(*sizes))
    found = searches["xlt"](), searches["faiss"]()
    seconds = [{name: timed(system) for name, system in searches.items()} for _ in range(repeats)]
    medians = {name: median(row[name] for row in seconds) for name in searches}
    there_and_back = medians["faiss"] + medians["faiss_backward"]
    return {
        "queries": num_queries,
        "keys": num_keys,
        "width": width,
        "k": K,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "seconds": medians,
        "retrieval_vs_faiss": medians["faiss"] / medians["xlt"],
        "both_ways_vs_faiss": there_and_back / medians["xlt_both_ways"],
        "extra_megabytes": memory,
        **agreement(*found),
    }


def show(result: dict[str, Any]) -> None:
    """Print a table, then everything as a line of JSON."""
    seconds, memory = result["seconds"], result["extra_megabytes"]
    shape = f"{result['queries']:,} x {result['keys']:,} x {result['width']}"
    print(f"{shape}, k = {result['k']}, {result['threads']} threads, medians of {result['repeats']}")
    print(f"{'':12}{'xlt':>10}{'faiss':>10}{'ratio':>8}")
    both = seconds["faiss"] + seconds["faiss_backward"]
    print(
        f"{'one way':12}{seconds['xlt']:8.2f} s{seconds['faiss']:8.2f} s{result['retrieval_vs_faiss']:8.2f}"
    )
    print(
        f"{'both ways':12}{seconds['xlt_both_ways']:8.2f} s{both:8.2f} s{result['both_ways_vs_faiss']:8.2f}"
    )
    print(f"{'memory':12}{memory['xlt']:7.0f} MB{memory['faiss']:7.0f} MB")
    print(f"same neighbours {result['same_indices']:.6f}, same or tied {result['same_or_tied']:.6f}")
    print(json.dumps(result))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    show(measure(chosen.queries, chosen.keys, chosen.width, chosen.repeats))


if __name__ == "__main__":
    main()

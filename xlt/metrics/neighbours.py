"""Exact nearest neighbours by cosine, in blocks, so that memory does not grow with queries times keys.

A block of scores is one matrix product of a block of keys and a block of queries. One pass over the block
finds the best score of every group of `GROUP` keys. A query's k best keys are in its k best groups, so only
these groups are searched. The k best so far are kept as ranks: 64-bit integers with a score's bits in the
upper half, minus the index. Comparing ranks compares scores, and prefers the lowest index among equal scores.
Q queries, S keys, N vectors of either, D width (K the keys', which must be equal), k neighbours, R keys and C
queries in a block, G groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK_BYTES = 2**27
"""Memory of a pass beyond vectors and results, in bytes. More is not faster."""

GROUP = 32
"""Scores in a group. Blocks are whole groups, since products of remainders round in another order."""

MOST_KEYS = 4096
"""Maximum number of keys in a block. More are not faster."""

LENGTHS_AT_ONCE = 256
"""Number of vectors whose lengths are computed at a time, in double precision."""

_CANDIDATE_BYTES = 48
"""Bytes of a searched score: the score, its index and rank, and the copies of sorting and joining."""

_WORST = torch.iinfo(torch.int64).min
_INDEX_BITS = 2**32 - 1


class Neighbours(NamedTuple):
    """The nearest keys of each query, best first; of equal scores the lowest index first."""

    scores: Tensor
    """(Q, k) cosines in single precision. Rounding may give up to 1 + 1e-7."""
    indices: Tensor
    """(Q, k) int64 indices of the keys."""


class _Side(NamedTuple):
    """Queries or keys."""

    vectors: Tensor
    """(N, D) vectors of any length."""
    lengths: Tensor
    """(N, 1) Euclidean lengths, in single precision."""

    def units(self, first: int, count: int) -> Tensor:
        """Return `count` vectors of length 1 from `first` on, shape (count, D); zeros past the last."""
        vectors, lengths = (part[first : first + count] for part in self)
        units = lengths.new_empty(count, vectors.shape[1])
        torch.div(vectors, lengths, out=units[: len(vectors)])
        units[len(vectors) :] = 0
        return units


class _Block(NamedTuple):
    """Scores of some queries and keys."""

    query: int
    """Index of the block's first query."""
    key: int
    """Index of the block's first key."""
    scores: Tensor
    """(R, C) cosines of keys and queries; minus infinity past the last key or query."""


@torch.no_grad()
def nearest(
    queries: Float[Tensor, "Q D"], keys: Float[Tensor, "S K"], k: int, block_bytes: int = BLOCK_BYTES
) -> Neighbours:
    """Return the k keys with the greatest cosine to each query.

    Args:
        queries: Vectors of any length but zero, on any device.
        keys: Vectors of any length but zero, on the same device.
        k: Number of neighbours of each query.
        block_bytes: Approximate memory beyond vectors and results, in bytes. A block has at least one group
            of keys and one of queries.

    Raises:
        ValueError: There are fewer than k keys, widths differ, or a vector is zero or not finite.
    """
    sides = _sides(queries, keys)
    _require_enough(k, keys, "keys")
    ranks = _no_ranks(queries, k)
    shape = block_shape(len(queries), len(keys), queries.shape[1], k, block_bytes)
    with _full_precision():
        for block in _blocks(*sides, *shape):
            _serve_queries(ranks, block)
    return _decode(ranks)


@torch.no_grad()
def both_ways(
    queries: Float[Tensor, "Q D"], keys: Float[Tensor, "S K"], k: int, block_bytes: int = BLOCK_BYTES
) -> tuple[Neighbours, Neighbours]:
    """Return the k nearest keys of each query, and the k nearest queries of each key, in one pass.

    Args and errors are those of `nearest`. k must not exceed the number of queries either.
    """
    sides = _sides(queries, keys)
    _require_enough(k, keys, "keys")
    _require_enough(k, queries, "queries")
    forward, backward = _no_ranks(queries, k), _no_ranks(keys, k)
    shape = block_shape(len(queries), len(keys), queries.shape[1], k, block_bytes)
    with _full_precision():
        for block in _blocks(*sides, *shape):
            _serve_queries(forward, block)
            _serve_keys(backward, block)
    return _decode(forward), _decode(backward)


def block_shape(num_queries: int, num_keys: int, width: int, k: int, num_bytes: int) -> tuple[int, int]:
    """Return the numbers of keys and queries in a block, in whole groups, at least one each.

    Args:
        num_queries: Number of all queries.
        num_keys: Number of all keys.
        width: Width of the vectors.
        k: Number of neighbours.
        num_bytes: Approximate memory of a block, in bytes.
    """
    # At least half of a small budget is left for the searched scores.
    rows = _even_part(num_keys, min(MOST_KEYS, int((num_bytes / 8) ** 0.5)))
    looked_into = min(rows, k * GROUP) + rows // GROUP
    column = 4 * rows + 4 * width + _CANDIDATE_BYTES * looked_into
    return rows, _even_part(num_queries, (num_bytes - 4 * rows * width) // column)


def _even_part(count: int, most: int) -> int:
    """Return the size of the fewest equal parts of whole groups, each at most `most` or one group."""
    groups, limit = -(-count // GROUP), max(1, most // GROUP)
    num_parts = max(1, -(-groups // limit))
    return GROUP * max(1, -(-groups // num_parts))


def _blocks(queries: _Side, keys: _Side, rows: int, columns: int) -> Iterator[_Block]:
    """Yield the scores of all queries and keys, block by block, in the same memory."""
    scores = queries.lengths.new_empty(rows, columns)
    for query in range(0, len(queries.vectors), columns):
        # Products of row-major matrices are the fastest. Queries are transposed least often.
        some = queries.units(query, columns).t().contiguous()
        for key in range(0, len(keys.vectors), rows):
            torch.mm(keys.units(key, rows), some, out=scores)
            scores[len(keys.vectors) - key :] = -torch.inf
            scores[:, len(queries.vectors) - query :] = -torch.inf
            yield _Block(query, key, scores)


def _serve_queries(ranks: Int[Tensor, "Q k"], block: _Block) -> None:
    """Update the best keys of the block's queries."""
    # `_serve_keys` of transposed scores would take ten times as long.
    groups = block.scores.unflatten(0, (-1, GROUP)).amax(1)
    mine = ranks[block.query : block.query + block.scores.shape[1]]
    _keep_best(mine, block.scores.t(), groups.t(), block.key)


def _serve_keys(ranks: Int[Tensor, "S k"], block: _Block) -> None:
    """Update the best queries of the block's keys."""
    groups = block.scores.unflatten(1, (-1, GROUP)).amax(2)
    mine = ranks[block.key : block.key + len(block.scores)]
    _keep_best(mine, block.scores, groups, block.query)


def _keep_best(
    best: Int[Tensor, "N k"], scores: Float[Tensor, "M P"], groups: Float[Tensor, "M G"], first: int
) -> None:
    """Update the best ranks so far with the ranks of scores.

    Args:
        best: The best ranks so far.
        scores: The scores. Only the first N rows count.
        groups: The best score of each group.
        first: Index of the first column.
    """
    scores, groups, k = scores[: len(best)], groups[: len(best)], best.shape[1]
    numbers = torch.arange(groups.shape[1], device=scores.device)
    chosen = _ranks(groups, numbers).topk(min(k, len(numbers))).indices
    columns = (chosen[:, :, None] * GROUP + torch.arange(GROUP, device=scores.device)).flatten(1)
    found = _ranks(scores.gather(1, columns), columns + first)
    best.copy_(torch.cat([best, found], 1).topk(k).values)


def _ranks(scores: Float[Tensor, "M P"], indices: Int[Tensor, "..."]) -> Int[Tensor, "M P"]:
    """Return integers in the order of the scores. Of equal scores, the lowest index has the greatest."""
    # Adding zero turns -0.0 into the equal 0.0.
    return _ordered((scores + 0.0).view(torch.int32)).long().bitwise_left_shift_(32).sub_(indices)


def _ordered(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Return the bits of floats as integers in the floats' order, or such integers as bits of floats."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _decode(ranks: Int[Tensor, "N k"]) -> Neighbours:
    """Return the scores and indices of ranks."""
    indices = -ranks & _INDEX_BITS
    return Neighbours(_ordered((ranks + indices >> 32).int()).view(torch.float32), indices)


def _no_ranks(vectors: Float[Tensor, "N D"], k: int) -> Int[Tensor, "N k"]:
    """Return ranks below the rank of every score."""
    return torch.full((len(vectors), k), _WORST, device=vectors.device)


def _sides(queries: Float[Tensor, "Q D"], keys: Float[Tensor, "S E"]) -> tuple[_Side, _Side]:
    """Return both sides with their vectors' lengths.

    Raises:
        ValueError: Widths differ, or a vector is zero or not finite.
    """
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"queries are {queries.shape[1]} wide, keys {keys.shape[1]}: both must come from the same encoder"
        )
    return _Side(queries, _lengths(queries, "queries")), _Side(keys, _lengths(keys, "keys"))


def _lengths(vectors: Float[Tensor, "N D"], name: str) -> Float[Tensor, "N 1"]:
    """Return the vectors' lengths.

    Raises:
        ValueError: One is zero or not finite.
    """
    # Squares overflow and underflow in single precision. Parts bound the memory of the double copies.
    parts = [
        torch.linalg.vector_norm(part.double(), dim=1, keepdim=True)
        for part in vectors.split(LENGTHS_AT_ONCE)
    ]
    lengths = torch.cat(parts).float()
    smallest = torch.finfo(torch.float32).tiny
    _refuse(~lengths.isfinite(), name, "is not finite: no cosine can be computed")
    _refuse(lengths < smallest, name, "is zero: its cosine with anything is undefined")
    return lengths


def _refuse(are_wrong: Bool[Tensor, "N 1"], name: str, fault: str) -> None:
    """Raise ValueError with the first wrong row and the number of wrong rows, if there is one."""
    if bool(are_wrong.any()):
        rows = are_wrong[:, 0].nonzero()[:, 0]
        raise ValueError(f"row {int(rows[0])} of the {name} {fault} ({len(rows)} such of {len(are_wrong)})")


def _require_enough(k: int, vectors: Float[Tensor, "N D"], name: str) -> None:
    """Raise ValueError unless there are k vectors."""
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k is {k}: it must be from 1 to the number of {name}, {len(vectors)}")


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute products in full single precision inside the context, not in TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

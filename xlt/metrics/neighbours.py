"""Exact nearest neighbours by cosine, in blocks: the memory needed does not grow with queries times keys.

A block of scores is one matrix product of a block of keys and a block of queries. One pass over it finds the
best score of every group of `GROUP` neighbours; a query's k best lie in its k best groups, so only those
are looked into. The k best so far are kept as ranks: 64-bit integers, a score's bits in the upper half, less
its index, so that comparing ranks compares scores and, where they tie, prefers the lowest index.
Q queries, S keys, N vectors of either, D width (K the keys', which has to be the same), k neighbours, R keys
and C queries in a block, G groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK_BYTES = 2**27
"""What a pass needs beyond vectors and results, in bytes: small beside the vectors, and no more is faster."""

GROUP = 32
"""Scores in a group. Blocks are whole groups: products of odd remainders are rounded in another order."""

MOST_KEYS = 4096
"""Most keys in a block; more are no faster."""

LENGTHS_AT_ONCE = 256
"""Vectors whose lengths are computed at a time, in double precision."""

_CANDIDATE_BYTES = 48
"""Of a score that is looked into: itself, its index and its rank, with what sorting and joining copy."""

_WORST = torch.iinfo(torch.int64).min
_INDEX_BITS = 2**32 - 1


class Neighbours(NamedTuple):
    """The nearest keys of each query, best first; where scores tie, the lowest index first."""

    scores: Tensor
    """(Q, k) cosines in single precision; rounding may put them past 1 by some 1e-7."""
    indices: Tensor
    """(Q, k) int64, which keys."""


class _Side(NamedTuple):
    """Queries or keys."""

    vectors: Tensor
    """(N, D) as they were given."""
    lengths: Tensor
    """(N, 1) Euclidean, in single precision."""

    def units(self, first: int, count: int) -> Tensor:
        """(count, D) vectors of length 1, from the first on; zeros past the last."""
        vectors, lengths = (part[first : first + count] for part in self)
        units = lengths.new_empty(count, vectors.shape[1])
        torch.div(vectors, lengths, out=units[: len(vectors)])
        units[len(vectors) :] = 0
        return units


class _Block(NamedTuple):
    """Scores of some queries and keys."""

    query: int
    """The first of its queries."""
    key: int
    """The first of its keys."""
    scores: Tensor
    """(R, C) cosines of keys and queries; minus infinity past the last of either."""


@torch.no_grad()
def nearest(
    queries: Float[Tensor, "Q D"], keys: Float[Tensor, "S K"], k: int, block_bytes: int = BLOCK_BYTES
) -> Neighbours:
    """The k keys of the greatest cosine with each query.

    Args:
        queries: Vectors of any length but zero, on any device.
        keys: Likewise, on the same device.
        k: Neighbours of each query.
        block_bytes: About what may be used beyond vectors and results, in bytes; at least a block of one
            group by one group is.

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
    """The k nearest keys of each query and the k nearest queries of each key, from one pass over the scores.

    Args and errors are those of `nearest`; k must not exceed the number of queries either.
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
    """Keys and queries in a block that takes about so many bytes: whole groups, at least one of each."""
    # Half of a small budget at least is left for what is looked into.
    rows = _even_part(num_keys, min(MOST_KEYS, int((num_bytes / 8) ** 0.5)))
    looked_into = min(rows, k * GROUP) + rows // GROUP
    column = 4 * rows + 4 * width + _CANDIDATE_BYTES * looked_into
    return rows, _even_part(num_queries, (num_bytes - 4 * rows * width) // column)


def _even_part(count: int, most: int) -> int:
    """The count in as few like parts, of whole groups, as have at most so many, or one group."""
    groups, limit = -(-count // GROUP), max(1, most // GROUP)
    num_parts = max(1, -(-groups // limit))
    return GROUP * max(1, -(-groups // num_parts))


def _blocks(queries: _Side, keys: _Side, rows: int, columns: int) -> Iterator[_Block]:
    """The scores of all queries and keys, a block at a time, in the same memory."""
    scores = queries.lengths.new_empty(rows, columns)
    for query in range(0, len(queries.vectors), columns):
        # Products of matrices that lie row by row are the fastest; queries are laid out the least often.
        some = queries.units(query, columns).t().contiguous()
        for key in range(0, len(keys.vectors), rows):
            torch.mm(keys.units(key, rows), some, out=scores)
            scores[len(keys.vectors) - key :] = -torch.inf
            scores[:, len(queries.vectors) - query :] = -torch.inf
            yield _Block(query, key, scores)


def _serve_queries(ranks: Int[Tensor, "Q k"], block: _Block) -> None:
    """Update the best keys of the block's queries."""
    # Not `_serve_keys` of transposed scores: their groups would take ten times as long.
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
    """Put the ranks of the scores, whose columns are numbered from the first on, into the best so far.

    `groups` are the best scores of each group. Only the first N rows count.
    """
    scores, groups, k = scores[: len(best)], groups[: len(best)], best.shape[1]
    numbers = torch.arange(groups.shape[1], device=scores.device)
    chosen = _ranks(groups, numbers).topk(min(k, len(numbers))).indices
    columns = (chosen[:, :, None] * GROUP + torch.arange(GROUP, device=scores.device)).flatten(1)
    found = _ranks(scores.gather(1, columns), columns + first)
    best.copy_(torch.cat([best, found], 1).topk(k).values)


def _ranks(scores: Float[Tensor, "M P"], indices: Int[Tensor, "..."]) -> Int[Tensor, "M P"]:
    """Integers in the order of the scores, of equal ones the lowest index greatest."""
    # Adding zero turns -0.0 into 0.0, which it equals.
    return _ordered((scores + 0.0).view(torch.int32)).long().bitwise_left_shift_(32).sub_(indices)


def _ordered(bits: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The bits of floats as integers in the floats' order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _decode(ranks: Int[Tensor, "N k"]) -> Neighbours:
    """The scores and indices that the ranks stand for."""
    indices = -ranks & _INDEX_BITS
    return Neighbours(_ordered((ranks + indices >> 32).int()).view(torch.float32), indices)


def _no_ranks(vectors: Float[Tensor, "N D"], k: int) -> Int[Tensor, "N k"]:
    """Ranks below every score's."""
    return torch.full((len(vectors), k), _WORST, device=vectors.device)


def _sides(queries: Float[Tensor, "Q D"], keys: Float[Tensor, "S E"]) -> tuple[_Side, _Side]:
    """Both sides with their vectors' lengths.

    Raises:
        ValueError: Widths differ, or a vector is zero or not finite.
    """
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"queries are {queries.shape[1]} wide, keys {keys.shape[1]}: both must come from the same encoder"
        )
    return _Side(queries, _lengths(queries, "queries")), _Side(keys, _lengths(keys, "keys"))


def _lengths(vectors: Float[Tensor, "N D"], name: str) -> Float[Tensor, "N 1"]:
    """The vectors' lengths.

    Raises:
        ValueError: One is zero or not finite.
    """
    # Squares overflow and vanish in single precision; in parts, as each is copied to double.
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
    """Raise ValueError with the first row that is wrong and how many are."""
    if bool(are_wrong.any()):
        rows = are_wrong[:, 0].nonzero()[:, 0]
        raise ValueError(f"row {int(rows[0])} of the {name} {fault} ({len(rows)} such of {len(are_wrong)})")


def _require_enough(k: int, vectors: Float[Tensor, "N D"], name: str) -> None:
    """Raise ValueError unless k neighbours can be found."""
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k is {k}: it must be from 1 to the number of {name}, {len(vectors)}")


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep products from rounding to fewer bits (TF32, bfloat16), whatever training has chosen."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""Attention over packed sequences as Triton kernels, for GPUs in half precision.

Flash attention's own kernels cut each sequence into tiles of 128 tokens, and add the queries' gradients up in
memory, in single precision and no fixed order; with sequences of 20 to 100 tokens most of that is waste. Here
tiles follow the micro-batch's longest sequence, and one program writes each gradient once, so that equal
steps give equal gradients to the bit. N key tokens, M query tokens, S sequences, H heads, K width of a head.

Source of the algorithm: Dao (2023), FlashAttention-2, algorithms 1 and 2; of the hash behind dropout's random
numbers: C. Wellons, Hash Prospector (lowbias32), two rounds of it.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634

COUNTS = ("num_queries", "longest", "threshold")
"""Arguments for whose values no kernel is compiled anew."""

MOST = 64
"""Most tokens of a block."""


@triton.jit
def _kept(seed, head, query, key, num_queries, longest, threshold):
    """Whether each weight is kept: hashes of its place and the seed, against a threshold in 2^-32."""
    place = (head * num_queries + query) * longest + key
    number = place.to(tl.uint32, bitcast=True) ^ tl.load(seed).to(tl.uint32, bitcast=True)
    for turn in tl.static_range(2):
        number = (number ^ (number >> 16)) * 0x7FEB352D
        number = (number ^ (number >> 15)) * 0x846CA68B
        number = number ^ (number >> 16)
        if turn == 0:
            number += tl.load(seed + 1).to(tl.uint32, bitcast=True)
    return number >= threshold


@triton.jit
def _tile(states, first, rows, count, head, H: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr):
    """A head's rows of a sequence that starts at a token; zeros beyond it."""
    columns = tl.arange(0, WIDTH)
    places = ((first + rows)[:, None] * H + head) * K + columns[None, :]
    return tl.load(states + places, mask=(rows < count)[:, None] & (columns < K)[None, :], other=0.0)


@triton.jit
def _put(states, values, first, rows, count, head, H: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr):
    """Write what `_tile` reads."""
    columns = tl.arange(0, WIDTH)
    places = ((first + rows)[:, None] * H + head) * K + columns[None, :]
    mask = (rows < count)[:, None] & (columns < K)[None, :]
    tl.store(states + places, values.to(states.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=COUNTS)
def _forward(
    query, key, value, out, norms, query_ends, key_ends, seed,
    num_queries, longest, scale, threshold, rescale,
    H: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, DROPS: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The states of a block of one sequence's queries, and the base-2 logarithms of their norms."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    first, first_key = tl.load(query_ends + sequence), tl.load(key_ends + sequence)
    count = tl.load(query_ends + sequence + 1) - first
    keys = tl.load(key_ends + sequence + 1) - first_key
    rows = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    if tl.program_id(0) * QUERIES < count:
        q = _tile(query, first, rows, count, head, H, K, WIDTH)
        largest = tl.full([QUERIES], float("-inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        states = tl.zeros([QUERIES, WIDTH], tl.float32)
        for begin in range(0, keys, KEYS):
            columns = begin + tl.arange(0, KEYS)
            k = _tile(key, first_key, columns, keys, head, H, K, WIDTH)
            v = _tile(value, first_key, columns, keys, head, H, K, WIDTH)
            scores = tl.dot(q, tl.trans(k)) * scale
            scores = tl.where((columns < keys)[None, :], scores, float("-inf"))
            larger = tl.maximum(largest, tl.max(scores, 1))
            weights = tl.exp2(scores - larger[:, None])
            shrink = tl.exp2(largest - larger)
            total = total * shrink + tl.sum(weights, 1)
            if DROPS:
                kept = _kept(
                    seed, head, (first + rows)[:, None], columns[None, :], num_queries, longest, threshold
                )
                weights = tl.where(kept, weights, 0.0)
            states = states * shrink[:, None] + tl.dot(weights.to(v.dtype), v)
            largest = larger
        _put(out, states * (rescale / total)[:, None], first, rows, count, head, H, K, WIDTH)
        tl.store(norms + head * num_queries + first + rows, largest + tl.log2(total), mask=rows < count)


@triton.jit(do_not_specialize=COUNTS)
def _backward_queries(
    query, key, value, out, norms, grad, query_grad, products, query_ends, key_ends, seed,
    num_queries, longest, scale, threshold, rescale,
    H: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, DROPS: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradient of a block of queries, and the products of their states with the states' gradients."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    first, first_key = tl.load(query_ends + sequence), tl.load(key_ends + sequence)
    count = tl.load(query_ends + sequence + 1) - first
    keys = tl.load(key_ends + sequence + 1) - first_key
    rows = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    if tl.program_id(0) * QUERIES < count:
        q = _tile(query, first, rows, count, head, H, K, WIDTH)
        slope = _tile(grad, first, rows, count, head, H, K, WIDTH)
        states = _tile(out, first, rows, count, head, H, K, WIDTH)
        product = tl.sum(slope.to(tl.float32) * states.to(tl.float32), 1)
        places = head * num_queries + first + rows
        tl.store(products + places, product, mask=rows < count)
        norm = tl.load(norms + places, mask=rows < count, other=0.0)
        found = tl.zeros([QUERIES, WIDTH], tl.float32)
        for begin in range(0, keys, KEYS):
            columns = begin + tl.arange(0, KEYS)
            k = _tile(key, first_key, columns, keys, head, H, K, WIDTH)
            v = _tile(value, first_key, columns, keys, head, H, K, WIDTH)
            scores = tl.dot(q, tl.trans(k)) * scale
            scores = tl.where((columns < keys)[None, :], scores, float("-inf"))
            weights = tl.exp2(scores - norm[:, None])
            to_weights = tl.dot(slope, tl.trans(v))
            if DROPS:
                kept = _kept(
                    seed, head, (first + rows)[:, None], columns[None, :], num_queries, longest, threshold
                )
                to_weights = tl.where(kept, to_weights * rescale, 0.0)
            to_scores = weights * (to_weights - product[:, None])
            found += tl.dot(to_scores.to(k.dtype), k)
        _put(query_grad, found * (scale / 1.4426950408889634), first, rows, count, head, H, K, WIDTH)


@triton.jit(do_not_specialize=COUNTS)
def _backward_keys(
    query, key, value, norms, grad, products, key_grad, value_grad, query_ends, key_ends, seed,
    num_queries, longest, scale, threshold, rescale,
    H: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, DROPS: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradients of a block of one sequence's keys and values."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    first, first_key = tl.load(query_ends + sequence), tl.load(key_ends + sequence)
    count = tl.load(query_ends + sequence + 1) - first
    keys = tl.load(key_ends + sequence + 1) - first_key
    columns = tl.program_id(0) * KEYS + tl.arange(0, KEYS)
    if tl.program_id(0) * KEYS < keys:
        k = _tile(key, first_key, columns, keys, head, H, K, WIDTH)
        v = _tile(value, first_key, columns, keys, head, H, K, WIDTH)
        to_key = tl.zeros([KEYS, WIDTH], tl.float32)
        to_value = tl.zeros([KEYS, WIDTH], tl.float32)
        for begin in range(0, count, QUERIES):
            rows = begin + tl.arange(0, QUERIES)
            q = _tile(query, first, rows, count, head, H, K, WIDTH)
            slope = _tile(grad, first, rows, count, head, H, K, WIDTH)
            places = head * num_queries + first + rows
            norm = tl.load(norms + places, mask=rows < count, other=float("inf"))
            product = tl.load(products + places, mask=rows < count, other=0.0)
            weights = tl.exp2(tl.dot(k, tl.trans(q)) * scale - norm[None, :])
            to_weights = tl.dot(v, tl.trans(slope))
            passed = weights
            if DROPS:
                kept = _kept(
                    seed, head, (first + rows)[None, :], columns[:, None], num_queries, longest, threshold
                )
                passed = tl.where(kept, weights * rescale, 0.0)
                to_weights = tl.where(kept, to_weights * rescale, 0.0)
            to_value += tl.dot(passed.to(slope.dtype), slope)
            to_scores = weights * (to_weights - product[None, :])
            to_key += tl.dot(to_scores.to(q.dtype), q)
        _put(key_grad, to_key * (scale / 1.4426950408889634), first_key, columns, keys, head, H, K, WIDTH)
        _put(value_grad, to_value, first_key, columns, keys, head, H, K, WIDTH)


def _sizes(longest: int) -> int:
    """Tokens of a block of sequences of at most so many."""
    return min(MOST, max(16, triton.next_power_of_2(longest)))


def _shared(query: Tensor, longest_keys: int, scale: float, dropout: float) -> tuple[Any, ...]:
    """What every kernel is given besides its tensors."""
    return (
        query.shape[0],
        longest_keys,
        scale * LOG2_E,
        min(round(dropout * 2**32), 2**32 - 1),
        1 / (1 - dropout),
        query.shape[1],
        query.shape[2],
        max(16, triton.next_power_of_2(query.shape[2])),
        dropout > 0,
    )


@torch.library.custom_op("xlt::attention", mutates_args=())
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    seed: Tensor,
    longest_queries: int,
    longest_keys: int,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    out, norms = torch.empty_like(query), query.new_empty(query.shape[1::-1], dtype=torch.float32)
    queries, keys = _sizes(longest_queries), _sizes(longest_keys)
    _forward[triton.cdiv(longest_queries, queries), query.shape[1], len(key_ends) - 1](
        query,
        key,
        value,
        out,
        norms,
        query_ends,
        key_ends,
        seed,
        *_shared(query, longest_keys, scale, dropout),
        queries,
        keys,
    )
    return out, norms


@_attention.register_fake
def _(query: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    norms = query.new_empty((query.shape[1], query.shape[0]), dtype=torch.float32)
    return torch.empty(query.shape, dtype=query.dtype, device=query.device), norms


@torch.library.custom_op("xlt::attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    norms: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    seed: Tensor,
    longest_queries: int,
    longest_keys: int,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    grad, query, key, value = (states.contiguous() for states in (grad, query, key, value))
    query_grad, key_grad, value_grad = map(torch.empty_like, (query, key, value))
    products = torch.empty_like(norms)
    queries, keys = _sizes(longest_queries), _sizes(longest_keys)
    where = query_ends, key_ends, seed
    shared = (*_shared(query, longest_keys, scale, dropout), queries, keys)
    _backward_queries[triton.cdiv(longest_queries, queries), query.shape[1], len(key_ends) - 1](
        query, key, value, out, norms, grad, query_grad, products, *where, *shared
    )
    _backward_keys[triton.cdiv(longest_keys, keys), query.shape[1], len(key_ends) - 1](
        query, key, value, norms, grad, products, key_grad, value_grad, *where, *shared
    )
    return query_grad, key_grad, value_grad


@_attention_backward.register_fake
def _(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *__: Any) -> tuple[Tensor, Tensor, Tensor]:
    found = [torch.empty(one.shape, dtype=one.dtype, device=one.device) for one in (query, key, value)]
    return found[0], found[1], found[2]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output, *inputs[3:6])
    ctx.rest = inputs[6:]


def _differentiate(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return *_attention_backward(grad, *ctx.saved_tensors, *ctx.rest), *(None,) * 7


_attention.register_autograd(_differentiate, setup_context=_keep)


def triton_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    longest_queries: int,
    longest_keys: int,
    scale: float,
    dropout: float,
) -> Tensor:
    """Scaled dot-product attention of each sequence's queries to its own keys.

    Args:
        query: (M, H, K) in half precision.
        key: (N, H, K).
        value: (N, H, K).
        query_ends: (S + 1,) int32 cumulative counts of each sequence's queries.
        key_ends: (S + 1,) int32 cumulative counts of its keys.
        longest_queries: At least the most queries of a sequence.
        longest_keys: At least the most keys of one.
        scale: Of the products.
        dropout: Probability to drop a weight.

    Returns:
        (M, H, K).
    """
    size = 2 if dropout > 0 else 0
    seed = torch.randint(2**31 - 1, (size,), dtype=torch.int32, device=query.device)
    ends = query_ends, key_ends, seed
    return _attention(query, key, value, *ends, longest_queries, longest_keys, scale, dropout)[0]

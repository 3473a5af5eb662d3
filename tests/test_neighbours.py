"""Nearest neighbours: against brute force in double precision, ties, blocks, both ways, errors, memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from xlt.metrics import neighbours
from xlt.metrics.neighbours import GROUP, Neighbours, block_shape, both_ways, nearest

LAW = settings(deadline=None, max_examples=60, derandomize=True, database=None)

ROUNDING = 1e-6
"""What cosines in single precision may be off by."""


@st.composite
def searches(draw: st.DrawFn, most: int = 150) -> tuple[Tensor, Tensor, int, int]:
    """Queries and keys of any length, k, and bytes for a block; blocks seldom divide the sizes."""
    num_queries, num_keys = draw(st.integers(1, most)), draw(st.integers(1, most))
    width, seed = draw(st.integers(1, 40)), draw(st.integers(0, 2**32))
    k = draw(st.integers(1, min(num_queries, num_keys)))
    generator = np.random.default_rng(seed)
    sides = [
        torch.from_numpy(
            generator.normal(size=(count, width)) * generator.lognormal(0, 2, size=(count, 1))
        ).float()
        for count in (num_queries, num_keys)
    ]
    return *sides, k, draw(st.sampled_from([1, 10_000, 200_000, 600_000, neighbours.BLOCK_BYTES]))


def cosines(queries: Tensor, keys: Tensor) -> np.ndarray:
    """All of them, in double precision."""
    one, other = (side.double().numpy() for side in (queries, keys))
    one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other))
    return one @ other.T


def assert_nearest(found: Neighbours, truth: np.ndarray, k: int) -> None:
    """The k best of each row of cosines, but for the order of those that rounding makes equal."""
    scores, indices = found.scores.numpy(), found.indices.numpy()
    assert scores.shape == indices.shape == (len(truth), k)
    assert all(len(set(row)) == k for row in indices.tolist())
    np.testing.assert_allclose(scores, -np.sort(-truth, axis=1)[:, :k], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(scores, np.take_along_axis(truth, indices, 1), rtol=0, atol=ROUNDING)
    assert (np.diff(scores, axis=1) <= 0).all()


def assert_same(one: Neighbours, other: Neighbours) -> None:
    """To the last bit."""
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.indices, other.indices)


@LAW
@given(searches())
def test_the_neighbours_are_those_of_brute_force(search: tuple[Tensor, Tensor, int, int]) -> None:
    queries, keys, k, block_bytes = search
    assert_nearest(nearest(queries, keys, k, block_bytes), cosines(queries, keys), k)


@LAW
@given(searches())
def test_both_ways_are_the_neighbours_of_queries_and_of_keys(
    search: tuple[Tensor, Tensor, int, int],
) -> None:
    queries, keys, k, block_bytes = search
    forward, backward = both_ways(queries, keys, k, block_bytes)
    truth = cosines(queries, keys)
    assert_nearest(forward, truth, k)
    assert_nearest(backward, truth.T, k)


@st.composite
def exact_searches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int]:
    """Vectors of eight zeros and four entries 1 or -1: cosines are exact quarters, most of them tied."""
    most, width = draw(st.integers(1, 130)), 12
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))

    def side(count: int) -> Tensor:
        entries = np.zeros((count, width), np.float32)
        entries[:, :4] = generator.choice([-1, 1], size=(count, 4))
        return torch.from_numpy(generator.permuted(entries, axis=1))

    num_queries, num_keys = draw(st.integers(1, most)), draw(st.integers(1, most))
    k = draw(st.integers(1, min(num_queries, num_keys)))
    return side(num_queries), side(num_keys), k, draw(st.sampled_from([1, 100_000, 500_000]))


@LAW
@given(exact_searches())
def test_of_equal_scores_the_lowest_index_comes_first(search: tuple[Tensor, Tensor, int, int]) -> None:
    queries, keys, k, block_bytes = search
    truth = (queries @ keys.T / 4).numpy()
    found = both_ways(queries, keys, k, block_bytes)
    assert_same(found[0], nearest(queries, keys, k, block_bytes))
    for side, expected in zip(found, (truth, truth.T), strict=True):
        # numpy's stable sort leaves equal scores in the order of their indices.
        order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
        assert side.indices.tolist() == order.tolist()
        assert side.scores.tolist() == np.take_along_axis(expected, order, 1).tolist()


def test_a_key_that_stands_many_times_is_found_from_the_first_on() -> None:
    # Vectors of 16 entries 1 or -1 have length 4: their cosines are exact.
    keys = torch.tensor([[1.0] * i + [-1.0] * (16 - i) for i in range(5)]).repeat(60, 1)
    found = nearest(keys[2:3] * 3, keys, 50, 40_000)
    assert found.indices.tolist() == [list(range(2, 250, 5))]
    assert found.scores.unique().tolist() == [1.0]


def test_neighbours_by_hand() -> None:
    # (3, 4) and (4, 3) have length 5: 24 / 25 = 0.96, 3 / 5 = 0.6, 4 / 5 = 0.8, -4 / 5.
    keys = torch.tensor([[1.0, 0], [0, 7], [40, 30], [0, -2]])
    found = nearest(torch.tensor([[3.0, 4], [-1, 0]]), keys, 4)
    assert found.indices.tolist() == [[2, 1, 0, 3], [1, 3, 2, 0]]
    expected = torch.tensor([[0.96, 0.8, 0.6, -0.8], [0, 0, -0.8, -1]])
    torch.testing.assert_close(found.scores, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_block_size_does_not_change_the_neighbours(dtype: torch.dtype) -> None:
    generator = torch.manual_seed(1)
    queries, keys = (torch.randn(n, 100, generator=generator).to(dtype) for n in (301, 517))
    expected = both_ways(queries, keys, 5)
    assert expected[0].scores.dtype == torch.float32
    for block_bytes in (1, 60_000, 250_000, 700_000, 2_000_000):
        found = both_ways(queries, keys, 5, block_bytes)
        assert_same(nearest(queries, keys, 5, block_bytes), found[0])
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.indices, other.indices)
            torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=ROUNDING)


def test_both_ways_exchanged_are_the_same_the_other_way_round() -> None:
    generator = torch.manual_seed(2)
    queries, keys = (torch.randn(n, 24, generator=generator) for n in (90, 130))
    forward, backward = both_ways(queries, keys, 4, 100_000)
    there, back = both_ways(keys, queries, 4, 100_000)
    assert forward.indices.tolist() == back.indices.tolist()
    assert backward.indices.tolist() == there.indices.tolist()
    torch.testing.assert_close(forward.scores, back.scores, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("length", [1e-30, 1e-15, 1e15, 1e30])
def test_lengths_whose_squares_overflow_or_vanish_do_not_matter(length: float) -> None:
    generator = torch.manual_seed(3)
    queries, keys = (torch.randn(n, 16, generator=generator) for n in (20, 40))
    assert_nearest(nearest(queries * length, keys, 3), cosines(queries, keys), 3)


def test_a_search_leaves_its_vectors_and_needs_no_gradient() -> None:
    queries, keys = torch.randn(4, 8, requires_grad=True), torch.randn(9, 8).t().contiguous().t()
    before = queries.detach().clone(), keys.clone()
    found = nearest(queries, keys, 2)
    assert not found.scores.requires_grad
    assert torch.equal(queries, before[0])
    assert torch.equal(keys, before[1])


def test_a_search_keeps_full_precision_and_puts_back_what_was_chosen() -> None:
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.amax.default:
                seen.append(torch.get_float32_matmul_precision())
            return func(*args, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with Watch():
            nearest(torch.randn(3, 4), torch.randn(3, 4), 1)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]


def test_no_queries_have_no_neighbours() -> None:
    found = nearest(torch.zeros(0, 3), torch.ones(5, 3), 2)
    assert found.scores.shape == found.indices.shape == (0, 2)


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_keys_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}: it must be from 1 to the number of keys, 5"):
        nearest(torch.ones(9, 3), torch.ones(5, 3), k)


def test_both_ways_refuse_more_neighbours_than_queries() -> None:
    with pytest.raises(ValueError, match="k is 4: it must be from 1 to the number of queries, 3"):
        both_ways(torch.ones(3, 2), torch.ones(5, 2), 4)


def test_vectors_of_two_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="queries are 3 wide, keys 4"):
        nearest(torch.ones(2, 3), torch.ones(5, 4), 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", ["queries", "keys"])
def test_a_vector_that_is_not_finite_is_named(side: str, value: float) -> None:
    vectors = {"queries": torch.ones(7, 3), "keys": torch.ones(5, 3)}
    vectors[side][4, 1] = vectors[side][2, 0] = value
    with pytest.raises(ValueError, match=f"row 2 of the {side} is not finite.*2 such"):
        both_ways(**vectors, k=1)


@pytest.mark.parametrize("side", ["queries", "keys"])
def test_a_zero_vector_is_named(side: str) -> None:
    vectors = {"queries": torch.ones(7, 3), "keys": torch.ones(5, 3)}
    vectors[side][3] = 0
    with pytest.raises(ValueError, match=f"row 3 of the {side} is zero: its cosine.*undefined"):
        nearest(**vectors, k=1)


class _Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation gives, and whether any waits for its result."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.num_waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.num_waits += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not func.is_view:
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("search", [nearest, both_ways])
def test_no_tensor_is_larger_than_the_budget(search) -> None:
    queries, keys = torch.randn(700, 16), torch.randn(900, 16)
    with _Largest() as watch:
        search(queries, keys, 4, 100_000)
    # All scores would be 2.5 MB.
    assert 4 * GROUP**2 <= watch.bytes <= 100_000


@pytest.mark.parametrize("search", [nearest, both_ways])
def test_more_blocks_do_not_wait_for_the_device_more_often(search) -> None:
    queries, keys = torch.randn(100, 16), torch.randn(900, 16)
    waits = []
    for block_bytes in (neighbours.BLOCK_BYTES, 20_000):
        with _Largest() as watch:
            search(queries, keys, 4, block_bytes)
        waits.append(watch.num_waits)
    # Two checks a side.
    assert waits == [4, 4]


@LAW
@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.integers(1, 2000),
    st.integers(1, 5000),
    st.integers(1, 2**30),
)
def test_a_block_is_whole_groups_and_no_larger_than_needed(
    num_queries: int, num_keys: int, width: int, k: int, num_bytes: int
) -> None:
    columns, rows = block_shape(num_queries, num_keys, width, k, num_bytes)
    assert rows % GROUP == columns % GROUP == 0
    assert GROUP <= rows < num_queries + GROUP
    assert GROUP <= columns < num_keys + GROUP
    assert rows == GROUP or 4 * (rows * columns + (rows + columns) * width) <= num_bytes


@pytest.mark.gpu
def test_a_gpu_finds_the_same_neighbours() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.manual_seed(4)
    queries, keys = (torch.randn(n, 64, generator=generator) for n in (500, 3000))
    for found, truth in zip(
        both_ways(queries.cuda(), keys.cuda(), 4, 10**6),
        (cosines(queries, keys), cosines(keys, queries)),
        strict=True,
    ):
        assert found.scores.is_cuda
        assert_nearest(Neighbours(found.scores.cpu(), found.indices.cpu()), truth, 4)

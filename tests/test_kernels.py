"""Which attention kernel serves which device and type, and that each gives what the blocks give."""

from collections.abc import Callable, Sequence

import pytest
import torch
from plain import HEADS, SCALING, WIDTH, error, plain_attention, random_states, with_gradients
from torch import Tensor, nn

from xlt.batch.packing import Packing, pack
from xlt.models.kernels import attention
from xlt.models.kernels.attention import (
    Layout,
    efficient_attention,
    flash_attention,
    jagged_attention,
    layout_of,
    packed_attention,
)

LENGTHS = [30, 512, 1, 29, 7]
"""Tokens start at 0, 30, 542, 543, 572; there are 579."""

READ = {
    "all": None,
    "starts": [0, 30, 542, 543, 572],
    "some": [0, 2, 29, 30, 541, 542, 543, 572, 573, 578],
    "few": [0, 2, 542, 573, 578],
}
COUNTS = {"all": LENGTHS, "starts": [1] * 5, "some": [3, 2, 1, 1, 3], "few": [2, 0, 1, 0, 2]}

cases = pytest.mark.parametrize("read", READ)


def places_of(read: str, packing: Packing) -> Tensor | None:
    """Which tokens are read; the starts as heads give them."""
    if read == "starts":
        return packing.starts
    return None if READ[read] is None else torch.tensor(READ[read], device=packing.starts.device)


def without_blocks(layout: Layout) -> Layout:
    """The layout as it is on CUDA."""
    tokens, read = (side._replace(side=None) for side in layout[:2])
    return layout._replace(tokens=tokens, read=read)


def attend(states: Sequence[Tensor], layout: Layout, dropout: float = 0.0) -> Tensor:
    """The registered attention function, called as transformers calls it."""
    query, key, value = (part.transpose(0, 1)[None] for part in states)
    found, weights = packed_attention(
        nn.Module(), query, key, value, None, layout=layout, scaling=SCALING, dropout=dropout
    )
    assert weights is None
    return found.squeeze(0)


@cases
def test_the_layout_counts_the_queries_of_each_sequence(read: str) -> None:
    packing = pack(LENGTHS)
    layout = layout_of(packing, HEADS, places_of(read, packing))
    assert layout.tokens.boundaries.tolist() == [0, 30, 542, 543, 572, 579]
    assert layout.read.boundaries.diff().tolist() == COUNTS[read]
    assert layout.read.boundaries[0] == 0
    assert layout.read.boundaries.dtype == torch.int32
    assert layout.tokens.longest == 512
    assert layout.read.longest >= max(COUNTS[read])


def test_sequences_without_a_read_token_count_none() -> None:
    layout = layout_of(pack([3, 2, 4, 1]), HEADS, torch.tensor([2, 5]))
    assert layout.read.boundaries.tolist() == [0, 1, 1, 2, 2]


def test_no_sequence_at_all_has_a_layout() -> None:
    packing = pack([])
    for token_indices in (None, packing.starts, torch.zeros(0, dtype=torch.long)):
        layout = layout_of(packing, HEADS, token_indices)
        states = random_states([], [], 0)
        assert [part.numel() for part in with_gradients(attend(states, layout), states)] == [0] * 4


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_the_cpu_attention_is_computed_in_blocks(
    read: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flash_attention", "efficient_attention", "jagged_attention"):
        monkeypatch.delattr(attention, name)
    packing = pack(LENGTHS)
    states = random_states(COUNTS[read], LENGTHS, 0, dtype)
    found = attend(states, layout_of(packing, HEADS, places_of(read, packing)))
    exact = [part.detach().double() for part in states]
    expected = plain_attention(*exact, COUNTS[read], LENGTHS)
    assert found.dtype == dtype
    assert error(found, expected) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "expected"),
    [
        (torch.bfloat16, 64, (8, 0), True),
        (torch.float16, 64, (9, 0), True),
        (torch.float32, 64, (9, 0), False),
        (torch.bfloat16, 20, (9, 0), False),
        (torch.float16, 64, (7, 5), False),
    ],
)
def test_halves_have_flash_attention_on_newer_gpus(
    dtype: torch.dtype,
    width: int,
    capability: tuple[int, int],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert attention.has_flash(torch.zeros(1, 1, width, dtype=dtype)) == expected


@pytest.mark.parametrize(
    ("kernel", "dtype"), [(flash_attention, torch.bfloat16), (efficient_attention, torch.float32)]
)
def test_torch_still_has_the_operators(kernel: Callable[..., Tensor], dtype: torch.dtype) -> None:
    packing = pack(LENGTHS)
    layout = layout_of(packing, HEADS, packing.starts)
    read, tokens = (s._replace(boundaries=s.boundaries.to("meta")) for s in (layout.read, layout.tokens))
    query, key = (
        torch.empty(n, HEADS, WIDTH, dtype=dtype, device="meta", requires_grad=True) for n in (5, 579)
    )
    found = kernel(query, key, key, read, tokens, SCALING, 0.1)
    assert found.shape == query.shape
    assert found.requires_grad


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@cases
def test_jagged_tensors_give_what_the_blocks_give(read: str) -> None:
    packing = pack(LENGTHS)
    layout = layout_of(packing, HEADS, places_of(read, packing))
    states = random_states(COUNTS[read], LENGTHS, 1)
    found = with_gradients(jagged_attention(*states, layout.read, layout.tokens, SCALING, 0.0), states)
    expected = with_gradients(attend(states, layout), states)
    assert all(error(*pair) < 1e-5 for pair in zip(found, expected, strict=True))


def kept_share(layout: Layout, dropout: float, device: str, dtype: torch.dtype = torch.float32) -> float:
    """Share of weights that dropout keeps: zero queries weigh alike, and values of one sum what is kept."""
    tokens = sum(LENGTHS)
    zeros = torch.zeros(tokens, HEADS, WIDTH, device=device, dtype=dtype)
    attended = attend((zeros, zeros, torch.ones_like(zeros)), layout, dropout)
    weights = torch.tensor(LENGTHS, device=device).repeat_interleave(torch.tensor(LENGTHS, device=device))
    mean = (attended[..., 0].float() * weights[:, None]).sum() / (weights.sum() * HEADS)
    return mean.item() * (1 - dropout)


def on_cuda(packing: Packing) -> Packing:
    """The packing as a Trainer moves it."""
    return Packing(*(part.cuda() if isinstance(part, Tensor) else part for part in packing))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@cases
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 2e-2), (torch.float32, 1e-4)]
)
def test_the_kernels_of_cuda_give_what_the_blocks_give(
    read: str, dtype: torch.dtype, tolerance: float
) -> None:
    packing = pack(LENGTHS)
    states = random_states(COUNTS[read], LENGTHS, 2, dtype)
    expected = with_gradients(
        attend([part.float() for part in states], layout_of(packing, HEADS, places_of(read, packing))), states
    )
    moved = on_cuda(packing)
    theirs = [part.detach().cuda().requires_grad_() for part in states]
    layout = layout_of(moved, HEADS, places_of(read, moved))
    assert layout.tokens.side is None
    found = with_gradients(attend(theirs, layout), theirs)
    assert all(error(one.cpu(), other) < tolerance for one, other in zip(found, expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_of_cuda_drop_at_the_rate(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weights = HEADS * sum(length**2 for length in LENGTHS)
    share = kept_share(layout_of(on_cuda(pack(LENGTHS)), HEADS), 0.1, "cuda", dtype)
    rounding = 0.0 if dtype == torch.float32 else 2**-9
    assert abs(share - 0.9) < 4.5 * (0.1 * 0.9 / weights) ** 0.5 + rounding


def test_the_blocks_drop_at_the_rate() -> None:
    torch.manual_seed(0)
    weights = HEADS * sum(length**2 for length in LENGTHS)
    share = kept_share(layout_of(pack(LENGTHS), HEADS), 0.1, "cpu")
    assert abs(share - 0.9) < 4.5 * (0.1 * 0.9 / weights) ** 0.5

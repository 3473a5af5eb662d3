"""Local attention: each kernel sees the keys within the window, and no others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import HEADS, SCALING, WIDTH, error, random_states, with_gradients
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import ModernBertConfig, ModernBertModel

from xlt.batch.packing import Packing, pack
from xlt.models.kernels import attention, windows
from xlt.models.kernels.attention import NAME, flash_attention, layout_of, packed_attention
from xlt.models.kernels.windows import LocalBlocks, lay_out_local

LAW = settings(deadline=None, max_examples=60, derandomize=True, database=None)


def attend(
    states: Sequence[Tensor],
    lengths: Sequence[int],
    window: int,
    read: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Local attention by the registered function; of all tokens, or of those that are read."""
    layout = layout_of(pack(lengths), HEADS, read)
    query, key, value = (part.transpose(0, 1)[None] for part in states)
    query = query if read is None else query[:, :, read]
    found, _ = packed_attention(
        nn.Module(),
        query,
        key,
        value,
        None,
        layout=layout,
        scaling=SCALING,
        dropout=dropout,
        sliding_window=window,
    )
    return found[0]


def plain_weights(query: Tensor, key: Tensor, window: int) -> Tensor:
    """Weights (H, queries, keys) of one sequence, written out: keys less than `window` tokens away."""
    place = torch.arange(len(query))
    is_hidden = (place[:, None] - place).abs() >= window
    scores = torch.einsum("qhk,nhk->hqn", query, key) * SCALING
    return scores.masked_fill(is_hidden, -torch.inf).softmax(-1)


def plain_local(states: Sequence[Tensor], lengths: Sequence[int], window: int) -> Tensor:
    """Local attention written out, one sequence after the other."""
    parts = zip(*(part.split(list(lengths)) for part in states), strict=True)
    return torch.cat([torch.einsum("hqn,nhk->qhk", plain_weights(q, k, window), v) for q, k, v in parts])


def assert_equals_plain(
    lengths: Sequence[int], window: int, dtype: torch.dtype, tolerance: float, read: Tensor | None = None
) -> None:
    """States and gradients are those of attention written out, in double precision."""
    states = random_states(lengths, lengths, len(lengths), dtype)
    exact = [part.detach().double().requires_grad_() for part in states]
    expected = plain_local(exact, lengths, window)
    theirs = with_gradients(expected if read is None else expected[read], exact)
    ours = with_gradients(attend(states, lengths, window, read), states)
    scale = max(part.norm().item() for part in theirs[1:])
    assert error(ours[0], theirs[0]) < tolerance
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        # With one key the gradients of queries and keys are 0 but for rounding.
        assert (one - other).norm() < tolerance * max(other.norm().item(), 1e-2 * scale)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], int]:
    """Lengths up to many times the window, and the window."""
    window = draw(st.integers(1, 17))
    length = st.one_of(st.integers(1, 2 * window + 2), st.integers(1, 130))
    return draw(st.lists(length, min_size=1, max_size=6)), window


@LAW
@given(cases())
def test_blocks_equal_plain_local_attention(case: tuple[list[int], int]) -> None:
    assert_equals_plain(*case, torch.float32, 1e-5)
    assert_equals_plain(*case, torch.float64, 1e-13)


@LAW
@given(cases(), st.data())
def test_queries_that_are_some_of_the_tokens_keep_their_places(
    case: tuple[list[int], int], data: st.DataObject
) -> None:
    total = sum(case[0])
    read = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=total, unique=True))
    assert_equals_plain(*case, torch.float64, 1e-13, torch.tensor(sorted(read)))


@pytest.mark.parametrize("window", range(1, 17))
def test_every_length_up_to_twice_the_window_and_more(window: int) -> None:
    assert_equals_plain(list(range(1, 2 * window + 4)), window, torch.float64, 1e-13)
    starts = pack([5 * window + 1, 3, window]).starts
    assert_equals_plain([5 * window + 1, 3, window], window, torch.float64, 1e-13, starts)


def test_the_gradient_is_that_of_the_function_with_dropout_too() -> None:
    lengths = [27, 3, 1]  # the first is cut into chunks
    states = random_states(lengths, lengths, 1, torch.double)

    def same_masks(*parts: Tensor) -> Tensor:
        torch.manual_seed(6)
        return attend(parts, lengths, 4, dropout=0.4)

    assert torch.autograd.gradcheck(same_masks, states, fast_mode=True)


@pytest.mark.parametrize("lengths", [[90, 88, 7, 1], [20, 19], [5, 5, 3]])
def test_dropout_drops_weights_within_the_window(lengths: list[int]) -> None:
    window, rate, total = 8, 0.25, sum(lengths)
    query, key, value = (part.detach() for part in random_states(lengths, lengths, 3))
    one_hot = torch.eye(total)[:, None].expand(-1, HEADS, -1).contiguous()
    wide = [torch.nn.functional.pad(part, (0, total - WIDTH)) for part in (query, key)]
    torch.manual_seed(1)
    shown = attend((*wide, one_hot), lengths, window, dropout=rate)  # (tokens, H, weight of each token)
    torch.manual_seed(1)
    found = attend((query, key, value), lengths, window, dropout=rate)
    # The same masks: the output is the weights' average of the values.
    assert error(found, torch.einsum("qhn,nhk->qhk", shown, value)) < 1e-5
    whole = torch.block_diag(*(torch.ones(length, length) for length in lengths))
    kept = 0
    for head in range(HEADS):
        parts = zip(query.split(lengths), key.split(lengths), strict=True)
        expected = torch.block_diag(*(plain_weights(q, k, window)[head] for q, k in parts))
        is_kept = shown[:, head] > 0
        assert not (is_kept & (whole == 0)).any()
        torch.testing.assert_close(shown[:, head][is_kept], expected[is_kept] / (1 - rate))
        kept += int(is_kept.sum())
    seen = HEADS * sum(
        min(length, p + window) - max(0, p - window + 1) for length in lengths for p in range(length)
    )
    assert abs(kept / seen - (1 - rate)) < 4.5 * (rate * (1 - rate) / seen) ** 0.5


def test_bf16_states_stay_in_bf16() -> None:
    lengths = [200, 30, 1]
    states = random_states(lengths, lengths, 0, torch.bfloat16)
    found = attend(states, lengths, 9)
    assert found.dtype == torch.bfloat16
    assert error(found, plain_local([part.double() for part in states], lengths, 9)) < 2e-2


# Cost


def test_sequences_within_the_window_cost_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(attention, "local_attention")
    lengths = [16, 9, 1]
    states = random_states(lengths, lengths, 0)
    assert torch.equal(attend(states, lengths, 16), attend(states, lengths, 10**6))


def test_blocks_within_the_window_have_no_mask_but_for_padding() -> None:
    queries, keys = lay_out_local(pack([100, 16, 16, 5]), HEADS, 15)
    assert queries.floors == [None] * 3
    band, none, padding = keys.floors
    assert band is not None
    assert none is None
    assert padding is not None
    assert padding.shape == (1, 1, 1, 3)


@pytest.mark.parametrize("length", [8192, 8191, 4097])
def test_long_sequences_do_not_compute_the_square(length: int) -> None:
    reach = 64
    queries, keys = lay_out_local(pack([length, length - 7]), 1, reach)
    weights = sum(p * q * k for (p, q), (_, k) in zip(queries.shapes, keys.shapes, strict=True))
    assert weights <= 2 * (length + 2 * reach) * 3 * reach
    assert len(keys.rows) <= 2 * (length + 2 * reach) + 2 * reach


def test_blocks_are_laid_out_once_for_each_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def lay_out(packing: Packing, heads: int, reach: int) -> Any:
        made.append(reach)
        return lay_out_local(packing, heads, reach)

    monkeypatch.setattr(windows, "lay_out_local", lay_out)
    local = LocalBlocks(pack([30, 2]), HEADS)
    found = [local.sides(4, torch.device("cpu")) for _ in range(3)]
    assert found[0] is found[1] is found[2]
    assert made == [4]
    local.sides(5, torch.device("cpu"))
    assert made == [4, 5]


# The meaning of the window, by transformers' own model


def modern_bert(local_attention: int, attention: str) -> ModernBertModel:
    """A small ModernBERT of a global layer and two local layers, with attention far from uniform."""
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        local_attention=local_attention,
        max_position_embeddings=512,
        initializer_range=0.4,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        attn_implementation=attention,
    )
    return ModernBertModel(config).eval()


@pytest.mark.parametrize("local_attention", [2, 4, 7, 16, 32])
def test_a_window_means_what_padded_modern_bert_means(local_attention: int) -> None:
    padded = modern_bert(local_attention, "eager")
    packed = modern_bert(local_attention, "eager")
    packed.load_state_dict(padded.state_dict())
    packed.set_attn_implementation(NAME)
    half = local_attention // 2
    lengths = [1, 2, half + 1, half + 2, local_attention, 2 * local_attention + 3, 150]
    generator = np.random.default_rng(local_attention)
    rows = [torch.from_numpy(generator.integers(3, 99, length)) for length in lengths]
    ids = pad_sequence(rows, batch_first=True)
    expected = padded(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[ids != 0]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    layout: Any = layout_of(pack(lengths), 2)
    found = packed(input_ids=torch.cat(rows)[None], position_ids=positions, layout=layout).last_hidden_state[
        0
    ]
    assert error(found, expected) < 1e-5
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    for states in (expected, found):
        (states * weights).sum().backward()
    whole = torch.cat([p.grad.flatten() for p in padded.parameters() if p.grad is not None]).norm()
    for (name, ours), theirs in zip(packed.named_parameters(), padded.parameters(), strict=True):
        assert ours.grad is not None, name
        assert theirs.grad is not None, name
        assert (ours.grad - theirs.grad).norm() < 1e-5 * max(theirs.grad.norm(), 1e-2 * whole), name


# CUDA


class Windows(TorchDispatchMode):
    """Window arguments of the calls of flash attention, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[int, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | (kwargs or {})
        if "window_size_left" in named:
            name = func.overloadpacket.__name__
            self.found[name] = named["window_size_left"], named["window_size_right"]
        return func(*args, **(kwargs or {}))


def test_flash_attention_gets_the_reach_on_both_sides_and_passes_it_to_its_gradient() -> None:
    layout = layout_of(pack([40, 9]), HEADS)
    tokens = layout.tokens._replace(boundaries=layout.tokens.boundaries.to("meta"))
    query, key, value = (
        torch.empty(49, HEADS, WIDTH, dtype=torch.bfloat16, device="meta", requires_grad=True)
        for _ in range(3)
    )
    with Windows() as seen:
        flash_attention(query, key, value, tokens, tokens, SCALING, 0.0, reach=5).sum().backward()
    assert seen.found == {"_flash_attention_forward": (5, 5), "_flash_attention_backward": (5, 5)}


def on_cuda(packing: Packing) -> Packing:
    """The packing as a Trainer moves it."""
    return Packing(*(part.cuda() if isinstance(part, Tensor) else part for part in packing))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [1, 2, 9, 16, 65])
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 2e-2), (torch.float32, 1e-4)]
)
def test_the_kernels_of_cuda_see_the_same_window(
    dtype: torch.dtype, tolerance: float, some: bool, window: int
) -> None:
    lengths = [300, 30, 1, 64, 65]
    total = sum(lengths)
    read = torch.arange(0, total, 3) if some else torch.arange(total)
    states = random_states(lengths, lengths, 2, dtype)
    exact = [part.detach().double().requires_grad_() for part in states]
    expected = with_gradients(plain_local(exact, lengths, window)[read], exact)
    theirs = [part.detach().cuda().requires_grad_() for part in states]
    layout = layout_of(on_cuda(pack(lengths)), HEADS, read.cuda() if some else None)
    query, key, value = (part.transpose(0, 1)[None] for part in theirs)
    found, _ = packed_attention(
        nn.Module(), query[:, :, read.cuda()], key, value, None,
        layout=layout, scaling=SCALING, sliding_window=window,
    )  # fmt: skip
    ours = with_gradients(found[0], theirs)
    assert all(error(one.cpu(), other) < tolerance for one, other in zip(ours, expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_of_cuda_drop_weights_of_the_window_at_the_rate(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    length, window, rate = 400, 9, 0.1
    zeros = torch.zeros(length, HEADS, WIDTH, device="cuda", dtype=dtype)
    layout = layout_of(on_cuda(pack([length])), HEADS)
    query, key, value = (part.transpose(0, 1)[None] for part in (zeros, zeros, torch.ones_like(zeros)))
    found, _ = packed_attention(
        nn.Module(), query, key, value, None,
        layout=layout, scaling=SCALING, dropout=rate, sliding_window=window,
    )  # fmt: skip
    seen = HEADS * length * (2 * window - 1)
    rounding = 0.0 if dtype == torch.float32 else 2**-9
    assert abs(found[0, window:-window, :, 0].float().mean().item() - 1) < 5 * (rate / seen) ** 0.5 + rounding

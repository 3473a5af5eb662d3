"""Word embeddings whose gradient is computed once for each step, not for each micro-batch.

XLM-R's table has 250,002 rows, of which a micro-batch reads some thousands. A dense gradient for each
micro-batch would write and add the whole table every time. Here the gradients of the tokens are held until
the last micro-batch of the step, which turns them into a single dense gradient. On the CPU this gradient uses
the same memory in every step, because new memory takes several times longer than clearing old memory. V rows
of the table, N tokens, D hidden width.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xlt.system.torch_private import become


class _Lookup(torch.autograd.Function):
    """Lookup in the table. Its backward pass returns all held gradients, or nothing while holding."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, input_ids: Tensor, table: "WordEmbedding") -> Tensor:
        ctx.save_for_backward(input_ids)
        ctx.table = table
        return weight[input_ids]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        (input_ids,), table = ctx.saved_tensors, ctx.table
        table.held.append((input_ids.flatten(), grad.flatten(0, -2)))
        if table.is_holding:
            return None, None, None
        ids, rows = (torch.cat(parts) for parts in zip(*table.held, strict=True))
        table.held.clear()
        return table.dense_gradient(ids, rows), None, None


class WordEmbedding(nn.Embedding):
    """`nn.Embedding` that can hold its gradient."""

    is_holding: bool = False
    held: list[tuple[Tensor, Tensor]]
    """Ids and gradients of the tokens of the step's micro-batches so far."""
    _memory: np.ndarray | None = None
    """Memory of the last gradient."""
    _lent: Callable[[], np.ndarray | None] = staticmethod(lambda: None)
    """Weak reference to a view of the memory, which lives as long as a tensor uses it."""

    def forward(self, input: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """Return the rows of the table for token ids."""
        return _Lookup.apply(self.weight, input, self)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the table's gradient inside the block. The next backward pass outside returns the sum.

        Gradients that an interrupted step has left are dropped.
        """
        self.held.clear()
        self.is_holding = True
        try:
            yield
        finally:
            self.is_holding = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which has a gradient memory of its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_memory", "_lent")}

    def dense_gradient(self, ids: Int[Tensor, " N"], rows: Float[Tensor, "N D"]) -> Float[Tensor, "V D"]:
        """Return the sum of the tokens' gradients by id, in the last gradient's memory if that is free."""
        if rows.device.type != "cpu":
            padding = -1 if self.padding_idx is None else self.padding_idx
            return torch.ops.aten.embedding_dense_backward(rows, ids, self.num_embeddings, padding, False)
        size = self.weight.numel() * rows.element_size()
        if self._memory is None or len(self._memory) != size or self._lent() is not None:
            self._memory = np.empty(size, np.uint8)
        # The tensor, and all tensors that share its storage, keep this view alive.
        lent = self._memory[:]
        self._lent = weakref.ref(lent)
        gradient = torch.from_numpy(lent).view(rows.dtype).view(self.weight.shape)
        gradient.zero_().index_add_(0, ids, rows)
        if self.padding_idx is not None:
            gradient[self.padding_idx] = 0
        return gradient


def hold_gradients(embedding: nn.Embedding) -> WordEmbedding:
    """Turn an `nn.Embedding` into a WordEmbedding, in place, and return it."""
    table = become(embedding, WordEmbedding)
    table.held = []
    return table

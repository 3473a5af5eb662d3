"""Word embeddings whose gradient is made once a step, not once a micro-batch.

XLM-R's table has 250,002 rows, a micro-batch touches some thousands of them; a dense gradient for each
micro-batch writes and adds the whole table every time. Here the gradients of the tokens are held back until
the step's last micro-batch, which turns them all into one dense gradient. On the CPU that lies in the same
memory in every step: taking new memory for it costs the system several times what clearing it does. V pieces,
D hidden width.
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
    """Rows of the table; backward, all gradients held so far and this one's, or none while holding."""

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
    """`nn.Embedding` that can hold its gradient back."""

    is_holding: bool = False
    held: list[tuple[Tensor, Tensor]]
    """Ids and gradients of the tokens of a step's micro-batches so far."""
    _memory: np.ndarray | None = None
    """Bytes that the last gradient lies in."""
    _lent: Callable[[], np.ndarray | None] = staticmethod(lambda: None)
    """A view of them, as long as a tensor uses it."""

    def forward(self, input: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """The rows of these pieces."""
        return _Lookup.apply(self.weight, input, self)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Within, a backward pass holds the table's gradient back; the next one outside adds it.

        What an interrupted step has left is dropped.
        """
        self.held.clear()
        self.is_holding = True
        try:
            yield
        finally:
            self.is_holding = False

    def __getstate__(self) -> dict[str, Any]:
        """What a copy needs: a gradient's memory of its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_memory", "_lent")}

    def dense_gradient(self, ids: Int[Tensor, " N"], rows: Float[Tensor, "N D"]) -> Float[Tensor, "V D"]:
        """The rows added up by their piece, in the last gradient's memory once that is given up."""
        if rows.device.type != "cpu":
            padding = -1 if self.padding_idx is None else self.padding_idx
            return torch.ops.aten.embedding_dense_backward(rows, ids, self.num_embeddings, padding, False)
        size = self.weight.numel() * rows.element_size()
        if self._memory is None or len(self._memory) != size or self._lent() is not None:
            self._memory = np.empty(size, np.uint8)
        # The tensor, and whatever shares its storage, keeps this view alive.
        lent = self._memory[:]
        self._lent = weakref.ref(lent)
        gradient = torch.from_numpy(lent).view(rows.dtype).view(self.weight.shape)
        gradient.zero_().index_add_(0, ids, rows)
        if self.padding_idx is not None:
            gradient[self.padding_idx] = 0
        return gradient


def hold_gradients(embedding: nn.Embedding) -> WordEmbedding:
    """The same module as a WordEmbedding."""
    table = become(embedding, WordEmbedding)
    table.held = []
    return table

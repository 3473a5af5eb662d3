"""Word embeddings whose gradient is made once a step, not once a micro-batch.

XLM-R's table has 250,002 rows, a micro-batch touches some thousands of them; a dense gradient for each
micro-batch writes and adds the whole table every time. Here the gradients of the tokens are held back until
the step's last micro-batch, which turns them all into one dense gradient. D hidden width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
        padding = -1 if table.padding_idx is None else table.padding_idx
        size = table.num_embeddings
        return torch.ops.aten.embedding_dense_backward(rows, ids, size, padding, False), None, None


class WordEmbedding(nn.Embedding):
    """`nn.Embedding` that can hold its gradient back."""

    is_holding: bool = False
    held: list[tuple[Tensor, Tensor]]
    """Ids and gradients of the tokens of a step's micro-batches so far."""

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


def hold_gradients(embedding: nn.Embedding) -> WordEmbedding:
    """The same module as a WordEmbedding."""
    embedding.__class__ = WordEmbedding
    assert isinstance(embedding, WordEmbedding)
    embedding.held = []
    return embedding

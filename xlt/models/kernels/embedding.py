"""Word embeddings that train only the rows of the pieces in the run's data, with one gradient for each step.

XLM-R's table has 250,002 rows, of which English data read about ten thousand. The rows that no example reads
have no gradient, but a dense table pays for them in every step: in the gradient, in clipping, in both moments
of AdamW. Here the parameter holds only the rows in use. All other rows wait in a table outside the parameters
and stay as they are, without weight decay. `state_dict` returns the whole table and `load_state_dict` takes
the whole table, so that checkpoints, exports and runs with other data do not depend on the rows in use.

The gradients of the tokens are held until the last micro-batch of the step, which turns them into a single
dense gradient. On the CPU this gradient uses the same memory in every step, because new memory takes several
times longer than clearing old memory. V rows of the table, K rows in use, N tokens, D hidden width.
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
    """`nn.Embedding` that can hold its gradient, and can train a part of its rows.

    The parameter `weight` has the shape (V, D), or (K, D) after `train_only`.
    """

    _table: Tensor | None = None
    """(V, D) table on the CPU. The rows in use are older than those in `weight`. If None, all are in use."""
    _ids: Int[Tensor, " K"]
    """Ids of the rows in use, ascending."""
    _rows: Int[Tensor, " V"]
    """Row of `weight` of each id; K, which is no row, for an id that is not in use."""
    padding_row: int = -1
    """Row of `weight` that has no gradient, the padding token's; -1 if there is none."""
    is_holding: bool = False
    held: list[tuple[Tensor, Tensor]]
    """Ids and gradients of the tokens of the step's micro-batches so far."""
    _memory: np.ndarray | None = None
    """Memory of the last gradient."""
    _lent: Callable[[], np.ndarray | None] = staticmethod(lambda: None)
    """Weak reference to a view of the memory, which lives as long as a tensor uses it."""

    def forward(self, input: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """Return the rows of the table for token ids.

        Raises:
            IndexError: An id is not in use (on the CPU; CUDA reports an assertion of the device).
        """
        if self._table is not None:
            self._rows = self._rows.to(input.device)
            input = self._rows[input]
        return _Lookup.apply(self.weight, input, self)

    @torch.no_grad()
    def train_only(self, ids: Int[Tensor, " K"]) -> None:
        """Train only the rows of these ids from now on. Call this before the optimizer is made.

        Args:
            ids: All ids that `forward` will read, distinct and ascending.
        """
        self._table, self._ids = self.table(), ids
        self._rows = torch.full((self.num_embeddings,), len(ids)).index_copy(0, ids, torch.arange(len(ids)))
        if self.padding_idx is not None:
            row = int(self._rows[self.padding_idx])
            self.padding_row = row if row < len(ids) else -1
        self.weight = nn.Parameter(self._table[ids].to(self.weight.device, self.weight.dtype))

    @torch.no_grad()
    def table(self) -> Float[Tensor, "V D"]:
        """Return the whole table, in which the rows in use are as they are now. It shares its memory."""
        if self._table is None:
            return self.weight.detach()
        return self._table.index_copy_(0, self._ids, self.weight.detach().to(self._table))

    def moments_in_use(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return an optimizer's state of the table, cut to the rows in use if the state has all rows."""
        if self._table is None:
            return state
        return {
            name: value[self._ids] if value.shape == self._table.shape else value
            for name, value in state.items()
        }

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Save the whole table."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._table is not None:
            destination[f"{prefix}weight"] = self.table()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load a whole table."""
        name = f"{prefix}weight"
        if self._table is not None and name in state_dict:
            with torch.no_grad():
                self._table.copy_(state_dict[name])
            state_dict = state_dict | {name: self._table[self._ids]}
        super()._load_from_state_dict(state_dict, prefix, *args)

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

    def dense_gradient(self, ids: Int[Tensor, " N"], rows: Float[Tensor, "N D"]) -> Float[Tensor, "K D"]:
        """Return the sum of the tokens' gradients, in the last gradient's memory if that is free.

        Args:
            ids: Each token's row of `weight`.
            rows: Each token's gradient.
        """
        padding = self.padding_row
        if rows.device.type != "cpu":
            return torch.ops.aten.embedding_dense_backward(rows, ids, len(self.weight), padding, False)
        size = self.weight.numel() * rows.element_size()
        if self._memory is None or len(self._memory) != size or self._lent() is not None:
            self._memory = np.empty(size, np.uint8)
        # The tensor, and all tensors that share its storage, keep this view alive.
        lent = self._memory[:]
        self._lent = weakref.ref(lent)
        gradient = torch.from_numpy(lent).view(rows.dtype).view(self.weight.shape)
        gradient.zero_().index_add_(0, ids, rows)
        if padding >= 0:
            gradient[padding] = 0
        return gradient


def hold_gradients(embedding: nn.Embedding) -> WordEmbedding:
    """Turn an `nn.Embedding` into a WordEmbedding, in place, and return it."""
    table = become(embedding, WordEmbedding)
    table.held = []
    table.padding_row = -1 if embedding.padding_idx is None else embedding.padding_idx
    return table

"""Batch: the tensors of one micro-batch. N tokens, R rows."""

from typing import NamedTuple

from torch import Tensor

from xlt.batch.packing import Packing


class Batch(NamedTuple):
    """One micro-batch, packed: no padding token anywhere.

    `columns` holds the kind's own values, end to end.
    """

    task: str
    rows: Tensor
    """(R,) numbers of the rows in their features."""
    input_ids: Tensor
    """(1, N)."""
    position_ids: Tensor
    """(1, N)."""
    packing: Packing
    columns: dict[str, Tensor]
    step_weight: int
    """Terms of the loss (examples, or labelled tokens) in all micro-batches of the step."""
    seed: int
    """Of this micro-batch's dropout."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the micro-batch, N."""
        return self.input_ids.shape[1]

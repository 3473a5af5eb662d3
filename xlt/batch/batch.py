"""Batch: the tensors of one micro-batch. N tokens, R rows."""

from typing import NamedTuple

from torch import Tensor

from xlt.batch.images import BatchImages
from xlt.batch.packing import Packing


class Batch(NamedTuple):
    """One packed micro-batch, without padding tokens."""

    task: str
    """Name of the task."""
    rows: Tensor
    """(R,) row numbers in the features."""
    input_ids: Tensor
    """(1, N) token ids."""
    position_ids: Tensor
    """(1, N) position ids."""
    packing: Packing
    """Layout of the sequences."""
    columns: dict[str, Tensor]
    """Values of the kind's own columns, end to end."""
    step_weight: int
    """Number of loss terms (examples or labelled tokens) in all micro-batches of the step."""
    seed: int
    """Seed of the micro-batch's dropout."""
    images: BatchImages | None = None
    """Images of the rows. None if the kind reads no images."""
    segment_ids: Tensor | None = None
    """(1, N) 0 for the tokens of a first text, 1 for those of a second. None if the tokenizer gives none."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens, N."""
        return self.input_ids.shape[1]

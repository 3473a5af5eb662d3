"""From rows of features to the tensors of a micro-batch. N tokens, S sequences, R rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xlt.batch.batch import Batch
from xlt.batch.packing import pack
from xlt.data.features import Features
from xlt.data.sampling.masking import Masking

FIRST_POSITION = 2
"""XLM-R's positions start after its padding id, 1 (fairseq's convention)."""


TOKEN_INDICES = "token_indices"
"""The column of token positions, kept relative to the row and here shifted to the micro-batch."""


def collate(
    task: str,
    features: Features,
    rows: np.ndarray,
    inputs: Sequence[str],
    step_weight: int = 1,
    seed: int = 0,
    masking: Masking | None = None,
    masking_key: int = 0,
) -> Batch:
    """The rows' micro-batch.

    Args:
        task: The task's name.
        features: Where the rows are.
        rows: Numbers of the rows, shape (R,).
        inputs: Columns that the task's head takes.
        step_weight: Terms of the loss in the whole step.
        seed: Of the micro-batch's dropout.
        masking: How tokens are hidden, where the task's are.
        masking_key: What the draw of these tokens depends on besides the row.
    """
    ids, sizes = features.gather("input_ids", rows)
    lengths, _ = features.gather("lengths", rows)
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(ids)) - np.repeat(starts, lengths) + FIRST_POSITION
    columns: dict[str, Tensor] = {}
    if masking is not None:
        ids, *hidden = masking.hide(ids, sizes, rows, masking_key)
        columns = dict(zip((TOKEN_INDICES, "targets", "counts"), map(_long, hidden), strict=True))
    for name in inputs:
        values, counts = features.gather(name, rows)
        if name == TOKEN_INDICES:
            values = values + np.repeat(np.cumsum(sizes) - sizes, counts)
            columns["counts"] = _long(counts)
        columns[name] = _long(values)
    return Batch(
        task=task,
        rows=_long(rows),
        input_ids=_long(ids)[None],
        position_ids=_long(positions)[None],
        packing=pack(lengths),
        columns=columns,
        step_weight=step_weight,
        seed=seed,
    )


def _long(values: np.ndarray) -> Tensor:
    """The values as an int64 tensor."""
    return torch.from_numpy(values.astype(np.int64))

"""Collate rows of features into the tensors of a micro-batch. N tokens, S sequences, R rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xlt.batch.batch import Batch
from xlt.batch.images import BatchImages
from xlt.batch.packing import pack
from xlt.data.features import FIRST_SEGMENTS, Features, ImageRows
from xlt.data.sampling.masking import Masking

TOKEN_INDICES = "token_indices"
"""Column of token indices. Features count them from the row's first token, a batch from its own first
token."""


def collate(
    task: str,
    features: Features,
    rows: np.ndarray,
    inputs: Sequence[str],
    first_position: int,
    step_weight: int = 1,
    seed: int = 0,
    masking: Masking | None = None,
    masking_key: int = 0,
) -> Batch:
    """Return the micro-batch of some rows.

    Args:
        task: The task's name.
        features: The features that hold the rows.
        rows: Numbers of the rows, shape (R,).
        inputs: Columns that the task's head takes.
        first_position: Position id of a sequence's first token, which depends on the encoder.
        step_weight: Number of terms of the loss in the whole step.
        seed: Seed of the micro-batch's dropout.
        masking: The rule that masks tokens. If None, no token is masked.
        masking_key: Key of the step, on which the random draws of masked tokens, images and shared columns
            depend.
    """
    ids, sizes = features.gather("input_ids", rows)
    lengths, _ = features.gather("lengths", rows)
    places = within = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found = features.images(rows, masking_key)
    images = None
    if found is not None:
        images = _images(found, places, lengths)
        places = _text_places(places, lengths, found.counts * found.num_tokens)
    segment_ids = None
    if FIRST_SEGMENTS in features.columns:
        firsts, _ = features.gather(FIRST_SEGMENTS, rows)
        segment_ids = _long(within >= np.repeat(firsts, lengths))[None]
    columns: dict[str, Tensor] = {}
    if masking is not None:
        ids, *hidden = masking.hide(ids, sizes, rows, masking_key)
        columns = dict(zip((TOKEN_INDICES, "targets", "counts"), map(_long, hidden), strict=True))
    for name in inputs:
        values, counts = features.gather(name, rows)
        if name == TOKEN_INDICES:
            values = values + np.repeat(np.cumsum(sizes) - sizes, counts)
            columns["counts"] = _long(counts)
        columns[name] = torch.from_numpy(values) if values.dtype == np.float32 else _long(values)
    for name, values in features.shared(masking_key).items():
        columns[name] = torch.from_numpy(values)
    return Batch(
        task=task,
        rows=_long(rows),
        input_ids=_long(ids)[None],
        position_ids=_long(places + first_position)[None],
        packing=pack(lengths),
        columns=columns,
        step_weight=step_weight,
        seed=seed,
        images=images,
        segment_ids=segment_ids,
    )


def _images(found: ImageRows, places: np.ndarray, lengths: np.ndarray) -> BatchImages:
    """Return the images of rows of one sequence each, whose placeholders follow the first token.

    Args:
        found: The images.
        places: Place of each token in its sequence, from 0, shape (N,).
        lengths: Number of tokens of each sequence, shape (R,).
    """
    counts = found.counts
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    is_image = (places > 0) & (places <= np.repeat(counts * found.num_tokens, lengths))
    return BatchImages(
        features=torch.from_numpy(found.features),
        numbers=_long(numbers),
        ids=_long(found.ids),
        token_indices=_long(np.flatnonzero(is_image)),
        negatives=None if found.negatives is None else torch.from_numpy(found.negatives),
        negative_ids=None if found.negative_ids is None else _long(found.negative_ids),
    )


def _text_places(places: np.ndarray, lengths: np.ndarray, num_tokens: np.ndarray) -> np.ndarray:
    """Return the places of the tokens as if the text stood alone; -1 for image tokens.

    In XLM-R, place -1 has the position id of padding. Other families: `xlt.models.encoders`.

    Args:
        places: Place of each token in its sequence, from 0, shape (N,).
        lengths: Number of tokens of each sequence, shape (R,).
        num_tokens: Number of image tokens of each sequence, shape (R,).
    """
    skipped = np.repeat(num_tokens, lengths)
    return np.where(places == 0, 0, np.where(places <= skipped, -1, places - skipped))


def _long(values: np.ndarray) -> Tensor:
    """Return the values as an int64 tensor."""
    return torch.from_numpy(values.astype(np.int64))

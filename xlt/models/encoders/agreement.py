"""Comparison of the packed encoder with transformers' own padded model, which has the same weights.

N tokens, D hidden width.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from xlt.batch.packing import pack
from xlt.models.encoders.text import Encoder

TOLERANCE = 1e-4
"""Largest difference of encoders that agree, as a share of the largest value."""


class Agreement(NamedTuple):
    """The largest differences between the packed and the padded model, and the largest values.

    Args:
        lengths: Numbers of tokens of the sequences.
        states: Largest difference of a state.
        largest_state: Largest state of the padded model.
        gradients: Largest difference of a gradient.
        largest_gradient: Largest gradient of the padded model.
    """

    lengths: tuple[int, ...]
    states: float
    largest_state: float
    gradients: float
    largest_gradient: float

    @property
    def agrees(self) -> bool:
        """True if no difference exceeds TOLERANCE."""
        are_close = self.states <= TOLERANCE * self.largest_state
        return are_close and self.gradients <= TOLERANCE * self.largest_gradient


def padded_model(encoder: Encoder, attention: str = "eager") -> PreTrainedModel:
    """Return transformers' own model for evaluation. Its weights share the memory of the encoder's.

    Args:
        encoder: The encoder.
        attention: Attention function of transformers, such as eager or sdpa.
    """
    model = encoder.family.bare(copy.deepcopy(encoder.config))
    model.set_attn_implementation(attention)
    model.load_state_dict(encoder.transformer.state_dict(), assign=True)
    return model.eval()


def run_padded(
    encoder: Encoder,
    model: PreTrainedModel,
    sequences: Sequence[Tensor],
    segments: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return the padded model's states of all tokens, end to end, shape (N, D).

    transformers makes the position ids.

    Args:
        encoder: The encoder whose family tells the inputs.
        model: The padded model.
        sequences: Token ids of each sequence.
        segments: Segment ids likewise. Defaults to 0.
    """
    pad = int(encoder.config.pad_token_id or 0)
    ids = pad_sequence(list(sequences), batch_first=True, padding_value=pad)
    ones = [torch.ones_like(sequence) for sequence in sequences]
    mask = pad_sequence(ones, batch_first=True)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if segments is not None and encoder.family.has_segments:
        padded = pad_sequence(list(segments), batch_first=True)
        inputs["token_type_ids"] = encoder.family.segments(encoder.config, ids, padded)
    return model(**inputs).last_hidden_state[mask.bool()]


def run_packed(
    encoder: Encoder,
    sequences: Sequence[Tensor],
    segments: Sequence[Tensor] | None = None,
    token_indices: Tensor | None = None,
) -> Tensor:
    """Return the packed encoder's states of all tokens, or of those at the indices, end to end."""
    lengths = [len(sequence) for sequence in sequences]
    places = torch.cat([torch.arange(length) for length in lengths]) + encoder.facts.first_position
    segment_ids = None if segments is None else torch.cat(list(segments))[None]
    ids = torch.cat(list(sequences))[None]
    return encoder(ids, places[None], pack(lengths), token_indices, segment_ids=segment_ids)


def random_sequences(
    encoder: Encoder, lengths: Sequence[int], seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    """Return random token ids of these lengths, and segment ids 0 and then 1.

    One token of each sequence of three or more is the pad token, which a text may hold.
    """
    generator = np.random.default_rng(seed)
    pad, rows = int(encoder.config.pad_token_id or 0), encoder.config.vocab_size
    ids = [torch.from_numpy(generator.integers(0, rows, length)) for length in lengths]
    for sequence in ids:
        if len(sequence) >= 3:
            sequence[generator.integers(len(sequence))] = pad
    firsts = [int(generator.integers(0, length + 1)) for length in lengths]
    segments = [(torch.arange(n) >= first).long() for n, first in zip(lengths, firsts, strict=True)]
    return ids, segments


def lengths_of(encoder: Encoder) -> tuple[int, ...]:
    """Return lengths from 1 to twice the window of local attention, or to 256 tokens without a window."""
    window = int(getattr(encoder.config, "local_attention", 128))
    longest = min(encoder.facts.max_tokens, 2 * window)
    return tuple(sorted({1, 2, *np.geomspace(3, longest, 6).astype(int).tolist(), longest}))


def agreement(encoder: Encoder) -> Agreement:
    """Compare an encoder with the padded eager model on random tokens, without dropout.

    Args:
        encoder: The encoder, on the CPU in single precision.
    """
    was_training = encoder.training
    encoder.eval()
    model, lengths = padded_model(encoder), lengths_of(encoder)
    ids, segments = random_sequences(encoder, lengths)
    found = run_packed(encoder, ids, segments)
    expected = run_padded(encoder, model, ids, segments)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    ours = torch.autograd.grad((found * weights).sum(), list(encoder.transformer.parameters()))
    theirs = torch.autograd.grad((expected * weights).sum(), list(model.parameters()))
    encoder.train(was_training)
    return Agreement(
        lengths,
        float((found - expected).detach().abs().max()),
        float(expected.detach().abs().max()),
        max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)),
        max(float(gradient.abs().max()) for gradient in theirs),
    )

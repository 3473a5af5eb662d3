"""`transformers`' own padded XLM-R with the weights of a packed encoder, for tests to compare with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.batch.batch import Batch
from xlt.data.features import Features, write_features
from xlt.models.encoders.text import Encoder

VOCABULARY, WIDTH, PAD = 16_384, 64, 1

Columns = Mapping[str, list[list[int]]]


def write_config(path: Path) -> str:
    """A config of 2 layers x 64, its weights wide enough for attention that is far from uniform."""
    XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=514,
        type_vocab_size=1,
        initializer_range=0.15,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=2,
    ).save_pretrained(path)
    return str(path)


def fresh_encoder(folder: str) -> Encoder:
    """The packed encoder without dropout."""
    torch.manual_seed(0)
    return Encoder(folder, from_scratch=True).eval()


def stored(path: Path, columns: Columns) -> Features:
    """The columns on disk."""
    write_features(path / "features.arrow", [columns])
    return Features(path / "features.arrow")


def random_rows(lengths: Sequence[int], seed: int) -> Columns:
    """A row of random tokens for each length, special ids left out."""
    generator = np.random.default_rng(seed)
    ids = [generator.integers(4, VOCABULARY, length).tolist() for length in lengths]
    return {"input_ids": ids, "lengths": [[length] for length in lengths]}


def pad(sequences: Sequence[Sequence[int]]) -> Tensor:
    """The sequences, one a row, padded."""
    return pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True, padding_value=PAD)


def run_padded(model: XLMRobertaModel, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """Hidden states of each sequence by transformers; positions and mask as it makes them of the ids."""
    ids = pad(sequences)
    states = model(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
    return [states[i, : len(tokens)] for i, tokens in enumerate(sequences)]


def run_packed(encoder: Encoder, batch: Batch, token_indices: Tensor | None = None) -> Tensor:
    """Our hidden states, sequences end to end; of all tokens or of those at the token indices."""
    return encoder(batch.input_ids, batch.position_ids, batch.packing, token_indices)

"""Measure sentence retrieval on Tatoeba: accuracy of an encoder by language and layer.

As in XTREME (Hu et al. 2020), each foreign sentence retrieves the English sentence with the highest cosine of
mean-pooled states. D hidden width.

Source: Artetxe and Schwenk (2019), https://arxiv.org/abs/1812.10464, section 4.3.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from xlt.batch.packing import pack
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sampling.batches import cut_by_tokens
from xlt.metrics.neighbours import nearest
from xlt.models.encoders.text import Encoder
from xlt.tasks.tatoeba import NAMES

TOKENS = 8192
"""Maximum number of tokens in a batch."""


def accuracies(name: str, root: Path) -> dict[str, list[float]]:
    """Return the accuracy in percent of the embeddings and of each layer, by language.

    The accuracy is the percentage of sentences that retrieve their translation.

    Args:
        name: Folder of the encoder, or its name on the hub.
        root: Data root with google/xtreme. Languages without a file are left out.
    """
    encoder = Encoder(name).eval()
    text = TextEncoder(load_tokenizer(name), 512, 0)
    found = {}
    for language, iso3 in NAMES.items():
        path = root / "google" / "xtreme" / f"tatoeba.{iso3}" / "validation.parquet"
        if path.is_file():
            rows = pq.read_table(path).to_pydict()
            theirs, english = (
                embed(encoder, text, rows[column]) for column in ("source_sentence", "target_sentence")
            )
            found[language] = [retrieval(*pair) for pair in zip(theirs, english, strict=True)]
    return found


def embed(encoder: Encoder, text: TextEncoder, sentences: Sequence[str]) -> Tensor:
    """Return the mean states of the embeddings and of each layer, shape (layers + 1, sentences, D)."""
    ids = [piece.ids for piece in text.singles(sentences)]
    lengths = np.array(list(map(len, ids)))
    order = np.argsort(-lengths, kind="stable")
    cuts = cut_by_tokens(np.cumsum(lengths[order]).tolist(), TOKENS)
    parts = []
    for batch in np.split(order, cuts[:-1]):
        joined = torch.tensor([token for i in batch for token in ids[i]])
        positions = torch.cat([torch.arange(length) for length in lengths[batch]])
        positions += encoder.facts.first_position
        parts.append(encoder.means(joined[None], positions[None], pack(lengths[batch])))
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.from_numpy(order)] = torch.arange(len(order))
    return torch.cat(parts, 1)[:, back]


def retrieval(queries: Tensor, keys: Tensor) -> float:
    """Return the percentage of queries whose nearest key is the key with the same index.

    Args:
        queries: Vectors, shape (sentences, D).
        keys: Vectors, shape (sentences, D).
    """
    found = nearest(queries.contiguous(), keys.contiguous(), 1).indices[:, 0]
    return 100 * (found == torch.arange(len(queries))).double().mean().item()


def best_layer(by_language: Mapping[str, Sequence[float]], languages: Sequence[str]) -> int:
    """Return the layer with the highest mean accuracy over some languages. Layer 0 is the embeddings."""
    num_layers = len(next(iter(by_language.values())))
    means = [np.mean([by_language[name][i] for name in languages]) for i in range(num_layers)]
    return int(np.argmax(means))

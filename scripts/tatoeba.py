"""Sentence retrieval on Tatoeba: accuracy by language and layer of an encoder.

Source: Artetxe and Schwenk (2019), https://arxiv.org/abs/1812.10464, section 4.3; as in XTREME (Hu et al.
2020), the nearest English sentence of each foreign one by cosine of mean-pooled states.
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


def accuracies(name: str, root: Path) -> dict[str, list[float]]:
    """By language: percent of sentences whose translation is the nearest, of the embeddings and each layer.

    Args:
        name: The encoder.
        root: Data root that holds google/xtreme.
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
    """Mean states of the embeddings and every layer, shape (layers + 1, sentences, D)."""
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
    """Percent of the queries whose nearest key has their own number."""
    found = nearest(queries.contiguous(), keys.contiguous(), 1).indices[:, 0]
    return 100 * (found == torch.arange(len(queries))).double().mean().item()


def best_layer(by_language: Mapping[str, Sequence[float]], languages: Sequence[str]) -> int:
    """The layer of the highest mean over these languages; 0 is the embeddings."""
    means = [np.mean([by_language[name][i] for name in languages]) for i in range(_layers(by_language))]
    return int(np.argmax(means))


def _layers(by_language: Mapping[str, Sequence[float]]) -> int:
    return len(next(iter(by_language.values())))

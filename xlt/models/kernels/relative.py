"""Attention whose scores also depend on the distance from key to query, as in DeBERTa, in blocks.

A score is the sum of up to three products: of query and key, of the query with a vector for the distance, and
of the key with another vector for the distance. Distances are counted in buckets, which grow wider with the
distance. M query tokens, N key tokens, H heads, K width of a head, B buckets, S sequences of a block, P slots
of its queries, Q slots of its keys.

Source: He et al. 2021 (arXiv 2006.03654), section 3.1, as in `DisentangledSelfAttention` of transformers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from xlt.models.kernels.blocks import Side


class Buckets(NamedTuple):
    """The buckets of a block.

    Args:
        first: Smallest bucket that the block may have.
        last: Largest bucket that the block may have.
        indices: Bucket of each query and key, minus `first`, shape (S, P, Q).
    """

    first: int
    last: int
    indices: Tensor


class Distances(NamedTuple):
    """How distances are counted.

    Args:
        buckets: Number of buckets on each side of a token. Distances from half of it on share buckets, whose
            widths grow with the logarithm. 0 or less gives each distance its own bucket.
        longest: Largest distance that has a bucket of its own kind, in tokens.
    """

    buckets: int
    longest: int

    @property
    def span(self) -> int:
        """Number of buckets on each side of a token."""
        return self.buckets if self.buckets > 0 else self.longest

    def bucket(self, distance: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """Return the bucket of each distance from a key to a query, in tokens: 0 to 2 · span - 1."""
        if self.buckets > 0 and self.longest > 0:
            distance = make_log_bucket_position(distance, self.buckets, self.longest).long()
        return (distance + self.span).clamp(0, 2 * self.span - 1)

    def in_blocks(
        self, asked: Int[Tensor, " M"], places: Int[Tensor, " N"], queries: Side, keys: Side, heads: int
    ) -> list[Buckets]:
        """Return the buckets of each block.

        Args:
            asked: Positions of the queries.
            places: Positions of the keys.
            queries: Blocks of the queries.
            keys: Blocks of the keys.
            heads: Number of attention heads.
        """
        found = []
        for own, other in zip(_places(asked, queries, heads), _places(places, keys, heads), strict=True):
            # A token without a position, such as a part of an image, stands one before the first.
            first, last = self.bucket(torch.tensor([-other.shape[1], other.shape[1]])).tolist()
            indices = self.bucket(own[:, :, None] - other[:, None, :]).sub_(first)
            found.append(Buckets(first, last, indices.clamp_(0, last - first)))
        return found


def _places(positions: Int[Tensor, " N"], side: Side, heads: int) -> list[Int[Tensor, "S P"]]:
    """Return the positions of the tokens of each block. Padding has the position of any token."""
    sizes = [products * slots for products, slots in side.shapes]
    parts = zip(side.rows.split(sizes), side.shapes, strict=True)
    return [
        positions[rows.view(products // heads, heads, slots)[:, 0] // heads]
        for rows, (products, slots) in parts
    ]


def relative_attention(
    query: Float[Tensor, "M H K"],
    key: Float[Tensor, "N H K"],
    value: Float[Tensor, "N H K"],
    of_queries: Float[Tensor, "B H K"] | None,
    of_keys: Float[Tensor, "B H K"] | None,
    queries: Side,
    keys: Side,
    buckets: Sequence[Buckets],
    dropout: nn.Module,
) -> Float[Tensor, "M H K"]:
    """Compute the attention of each sequence's queries to the sequence's keys.

    Args:
        query: The queries.
        key: The keys.
        value: The values.
        of_queries: Vectors of the buckets that queries are multiplied with. None to leave the product out.
        of_keys: Vectors of the buckets that keys are multiplied with. None to leave the product out.
        queries: Blocks of the queries.
        keys: Blocks of the keys.
        buckets: Buckets of each block.
        dropout: Module that drops weights.
    """
    heads, width = query.shape[1:]
    kinds = 1 + (of_queries is not None) + (of_keys is not None)
    scaling = (width * kinds) ** -0.5
    blocks = zip(
        _blocks(query, queries), _blocks(key, keys), _blocks(value, keys), keys.floors, buckets, strict=True
    )
    attended = []
    for q, k, v, floor, found in blocks:
        scores = q @ k.transpose(-1, -2)
        if of_queries is not None:
            scores = scores + _chosen(q @ _vectors(of_queries, found), found.indices)
        if of_keys is not None:
            turned = _chosen(k @ _vectors(of_keys, found), found.indices.transpose(1, 2))
            scores = scores + turned.transpose(-1, -2)
        scores = scores * scaling
        if floor is not None:
            padded = floor.to(scores.dtype).expand(*scores.shape[:-1], -1)
            before = scores.shape[-1] - floor.shape[-1]
            scores = torch.cat([scores[..., :before], scores[..., before:] + padded], -1)
        attended.append((dropout(scores.softmax(-1)).to(v.dtype) @ v).reshape(-1, width))
    return torch.cat(attended).index_select(0, queries.slots).view(-1, heads, width)


def _blocks(states: Float[Tensor, "N H K"], side: Side) -> list[Float[Tensor, "S H P K"]]:
    """Return the states of each block."""
    heads, width = states.shape[1:]
    rows = states.reshape(-1, width).index_select(0, side.rows)
    parts = rows.split([products * slots for products, slots in side.shapes])
    return [
        part.view(products // heads, heads, slots, width)
        for part, (products, slots) in zip(parts, side.shapes, strict=True)
    ]


def _vectors(table: Float[Tensor, "B H K"], found: Buckets) -> Float[Tensor, "H K _"]:
    """Return the vectors of the buckets of a block, for a product."""
    return table[found.first : found.last + 1].permute(1, 2, 0)


def _chosen(products: Float[Tensor, "S H P _"], indices: Int[Tensor, "S P Q"]) -> Float[Tensor, "S H P Q"]:
    """Return the product with the vector of each pair's bucket."""
    return products.gather(-1, indices[:, None].expand(-1, products.shape[1], -1, -1))

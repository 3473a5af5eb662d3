"""Compare compiled layers with the others: `python -m compiled CONFIG`, in a process that checks no shapes.

Where there is no GPU the layers are traced as for one, but run as they are, with attention as one product.
Prints the largest relative errors of states and gradients as JSON, and the number of graphs.
"""

import json
import sys
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xlt.batch.packing import Packing, pack
from xlt.models.encoders import text
from xlt.models.kernels import attention
from xlt.models.kernels.attention import Layout, Tokens

ON_CUDA = torch.cuda.is_available()
DEVICE = "cuda" if ON_CUDA else "cpu"


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, queries: Tokens, keys: Tokens, scaling: float, dropout: float
) -> Tensor:
    """All queries with all keys, but for a mask."""
    owner, owned = (
        torch.searchsorted(side.boundaries.long(), torch.arange(len(states)), right=True)
        for side, states in ((queries, query), (keys, key))
    )
    states = (part.transpose(0, 1)[None] for part in (query, key, value))
    mask = owner[:, None] == owned
    found = F.scaled_dot_product_attention(*states, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return found[0].transpose(0, 1)


def dense_local(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, reach: int, scaling: float, dropout: float
) -> Tensor:
    """All keys, but for a mask of other sequences and of keys out of reach."""
    place = torch.arange(len(key))
    owner = torch.searchsorted(layout.tokens.boundaries.long(), place, right=True)
    mask = (owner[:, None] == owner) & ((place[:, None] - place).abs() <= reach)
    if len(query) != len(key) and layout.token_indices is not None:
        mask = mask.index_select(0, layout.token_indices)
    states = (part.transpose(0, 1)[None] for part in (query, key, value))
    found = F.scaled_dot_product_attention(*states, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return found[0].transpose(0, 1)


def without_blocks(*arguments: Any) -> Layout:
    """The layout as it is on CUDA."""
    layout = attention.layout_of(*arguments)
    tokens, read = (side._replace(side=None) for side in layout[:2])
    return layout._replace(tokens=tokens, read=read)


def main(config: str) -> None:
    """Compare, and print."""
    if not ON_CUDA:
        attention.jagged_attention = dense_attention
        attention.local_attention = dense_local
        text.layout_of = without_blocks
    torch.manual_seed(0)
    plain = text.Encoder(config, from_scratch=True).to(DEVICE)
    compiled = deepcopy(plain)
    compiled.compile_layers("inductor" if ON_CUDA else "eager")
    errors = {"states": 0.0, "gradients": 0.0}

    def note(name: str, found: Tensor, expected: Tensor) -> None:
        difference = (found.float() - expected.float()).norm() / expected.float().norm()
        errors[name] = max(errors[name], difference.item())

    for lengths in ([30, 512, 1, 29, 7], [3, 80, 80, 1], [40, 2, 7]):
        packing = Packing(*(p.to(DEVICE) if isinstance(p, Tensor) else p for p in pack(lengths)))
        ids = torch.randint(3, 50, (1, sum(lengths)), device=DEVICE)
        places = torch.cat([torch.arange(length) for length in lengths])[None].to(DEVICE)
        positions = places + plain.facts.first_position
        for token_indices in (None, packing.starts, torch.arange(0, sum(lengths), 3, device=DEVICE)):
            for training in (True, False):
                states = []
                for one in (plain, compiled):
                    one.zero_grad()
                    one.train(training)
                    with (
                        torch.autocast("cuda", dtype=torch.bfloat16, enabled=ON_CUDA),
                        nullcontext() if training else torch.inference_mode(),
                    ):
                        states.append(one(ids, positions, packing, token_indices))
                    if training:
                        (states[-1].float()[:, :64] ** 2).mean().backward()
                note("states", states[1].detach(), states[0].detach())
                if training:
                    grads = [
                        torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None])
                        for one in (compiled, plain)
                    ]
                    note("gradients", *grads)
    print(json.dumps({**errors, "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"]}))


if __name__ == "__main__":
    main(sys.argv[1])

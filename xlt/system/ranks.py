"""Values of all ranks of a run."""

from typing import Any, TypeVar

import torch

T = TypeVar("T")


def from_all_ranks(value: T) -> list[T]:
    """Return the value of each rank, in the order of the ranks."""
    if not torch.distributed.is_initialized():
        return [value]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found

"""Reuse of the CPU memory that tensors free."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt. Source: malloc.h."""

LARGEST_VALUE = 2**31 - 1
"""Largest value that both parameters accept, in bytes."""


NUM_PRIMITIVES = 64
"""Number of matrix products that oneDNN keeps ready, enough for one number of tokens. Each number of tokens
needs products of its own, so that the default of 1,024 fills half a gigabyte with products that never return.

Source: oneDNN's guide, "Primitive Cache", variable ONEDNN_PRIMITIVE_CACHE_CAPACITY.
"""


def keep_freed_memory(device: str) -> None:
    """On a CPU, make glibc keep freed memory for later tensors.

    By default glibc returns blocks of 32 MiB or more to the system at once. The system then clears every page
    of the next block, which takes a large share of a step if layers are wide. The price: the process never
    shrinks, and grows during its first few hundred steps, because kept blocks are split into other sizes.
    With another C library nothing happens. Also limit the products that oneDNN keeps ready.

    Args:
        device: Type of the device, such as cpu.
    """
    if device != "cpu":
        return
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(NUM_PRIMITIVES))
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        mallopt(parameter, LARGEST_VALUE)

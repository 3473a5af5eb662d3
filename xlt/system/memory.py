"""The memory in which a CPU's tensors lie."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""

MOST = 2**31 - 1
"""Bytes; the largest value that they take."""


def keep_memory(device: str) -> None:
    """On a CPU, have glibc keep the memory that tensors give back, for the next ones.

    By default it hands blocks of 32 MiB and more back to the system at once, which then clears every page of
    the next one, which takes much of a step where layers are wide. The program keeps what it has needed, and
    for some hundred steps comes to need more, for what is kept is cut into pieces of other sizes. Nothing
    happens where the C library is another.

    Args:
        device: Its type, such as cpu.
    """
    if device != "cpu":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        mallopt(parameter, MOST)

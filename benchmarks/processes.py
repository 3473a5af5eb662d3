"""Processes that have needed nothing yet, for what is measured of a whole process."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.growth", "benchmarks.retrieval"])


def in_fresh_process(function: Callable[..., Any], *args: Any) -> Any:
    """What a function of a module returns, called in a process of its own.

    It is forked by a server that has imported the benchmarks: it has the server's memory to begin with, where
    a process started by exec would inherit its parent's peak.
    """
    with ProcessPoolExecutor(1, CONTEXT) as pool:
        return pool.submit(function, *args).result()

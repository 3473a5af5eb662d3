"""Encoding on every core: chunks of examples go to processes and come back in order.

The tokenizer's Rust side uses all cores by itself, but making columns of its output is Python. Processes
start only once a split has proved large, for each has to import what a task needs first.
"""

import contextlib
import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Protocol, Self

from xlt.data.encode import TextEncoder
from xlt.data.features import Columns
from xlt.data.sampling.workers import why_no_workers

log = logging.getLogger(__name__)

ALONE = 50
"""Chunks encoded in this process before others are started."""

AHEAD = 2
"""Chunks waiting for each process."""

Encoded = tuple[list[Any], Columns, int]
"""A chunk's examples, their columns, and how many lost text to the length limit."""


class Encodes(Protocol):
    """What is needed of a task."""

    @property
    def name(self) -> str:
        """The task's name."""
        ...

    def encode(self, examples: Any, first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Examples to columns."""
        ...


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Processes for one split after another: started where one proves large, ended with the block.

    Args:
        text: The tokenizer and its limits.
    """

    def __init__(self, text: TextEncoder) -> None:
        self._text = text
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    @property
    def is_started(self) -> bool:
        """Whether its processes have imported, or are importing, what they need."""
        return self._executor is not None

    def encoded(self, task: Encodes, chunks: Iterable[list[Any]], first: int) -> Iterator[Encoded]:
        """Each chunk encoded by one of the processes; the first example's number is `first`."""
        num_processes = num_cores()
        if self._executor is None:
            self._executor = ProcessPoolExecutor(num_processes, get_context("spawn"), _start, (self._text,))
        waiting: deque[tuple[list[Any], Future[tuple[Columns, int]]]] = deque()
        for chunk in chunks:
            with _interrupts_held():
                waiting.append((chunk, self._executor.submit(_encode, task, chunk, first)))
            first += len(chunk)
            if len(waiting) > AHEAD * num_processes:
                done, future = waiting.popleft()
                yield done, *_result(future)
        while waiting:
            done, future = waiting.popleft()
            yield done, *_result(future)


def spread(
    task: Encodes, text: TextEncoder, chunks: Iterable[list[Any]], pool: Pool | None = None
) -> Iterator[Encoded]:
    """Each chunk encoded, in order; memory is bounded by a few chunks a process.

    Args:
        task: Whose examples.
        text: The tokenizer and its limits.
        chunks: The examples.
        pool: Processes for this split and others; its own where none are given.
    """
    left, first = iter(chunks), 0
    for _, chunk in zip(range(0 if pool and pool.is_started else ALONE), left, strict=False):
        yield chunk, *task.encode(chunk, first, text)
        first += len(chunk)
    upcoming = next(left, None)
    if upcoming is None:
        return
    rest = chain([upcoming], left)
    reason = _why_not_sent(task)
    if reason:
        reason += ": make read a function of its module"
    elif not (pool and pool.is_started):
        reason = why_no_workers(num_cores())
    if reason:
        log.warning("%s is encoded on one core, for %s", task.name, reason)
        for chunk in rest:
            yield chunk, *task.encode(chunk, first, text)
            first += len(chunk)
    elif pool:
        yield from pool.encoded(task, rest, first)
    else:
        with Pool(text) as own:
            yield from own.encoded(task, rest, first)


def _result(future: Future[tuple[Columns, int]]) -> tuple[Columns, int]:
    """A chunk's columns.

    Raises:
        OSError: A process has died.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a process that encodes rows was killed, as the system does when memory is short: free memory, "
            "or let fewer cores encode (taskset); the same command encodes the split again"
        ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: they end with this one, and print nothing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _why_not_sent(task: Encodes) -> str:
    """Why a task cannot be sent to another process, such as one whose `read` is a lambda; empty if it can."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return str(error)
    return ""


_text: TextEncoder
"""In a process of a pool: its tokenizer."""


def _start(text: TextEncoder) -> None:
    """Keep what every chunk needs; one core a process, which ends with its parent however that ends."""
    global _text
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _text = text


def _end_with_parent() -> None:
    """Wait for the parent's end, and end."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode(task: Encodes, chunk: list[Any], first: int) -> tuple[Columns, int]:
    return task.encode(chunk, first, _text)

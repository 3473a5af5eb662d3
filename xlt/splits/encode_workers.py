"""Encode chunks of examples on all cores, and return the chunks in order.

The tokenizer's Rust code uses all cores by itself, but Python turns its output into columns. Other processes
start only after a split has proved large, because each of them first imports what a task needs.
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
from typing import Any, Self

from xlt.data.encode import TextEncoder
from xlt.data.features import Columns
from xlt.data.sampling.workers import why_no_workers
from xlt.kinds.task import Task

log = logging.getLogger(__name__)

ALONE = 50
"""Number of chunks that this process encodes before it starts others."""

AHEAD = 2
"""Number of chunks that wait for each process."""

EncodedChunk = tuple[list[Any], Columns, int]
"""The examples of a chunk, their columns, and the number of examples that lost text to the length limit."""


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Pool:
    """Processes that encode one split after another. They start with the first large split.

    Args:
        text: The tokenizer and its limits.
    """

    def __init__(self, text: TextEncoder) -> None:
        self._text = text
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Return the pool. No process starts yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    @property
    def is_started(self) -> bool:
        """Return True if the processes have been started."""
        return self._executor is not None

    def encoded(self, task: Task[Any], chunks: Iterable[list[Any]], first: int) -> Iterator[EncodedChunk]:
        """Yield each chunk, encoded by one of the processes, in order.

        Args:
            task: The task of the examples.
            chunks: The examples.
            first: Number of the first example in its split.
        """
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


def encode_chunks(
    task: Task[Any], text: TextEncoder, chunks: Iterable[list[Any]], pool: Pool | None = None
) -> Iterator[EncodedChunk]:
    """Yield each chunk encoded, in order. Memory holds a few chunks for each process.

    Args:
        task: The task of the examples.
        text: The tokenizer and its limits.
        chunks: The examples.
        pool: Processes that are shared with other splits. If None, a large split starts its own.
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
        log.warning("%s is encoded on one core, because %s", task.name, reason)
        for chunk in rest:
            yield chunk, *task.encode(chunk, first, text)
            first += len(chunk)
    elif pool:
        yield from pool.encoded(task, rest, first)
    else:
        with Pool(text) as own:
            yield from own.encoded(task, rest, first)


def _result(future: Future[tuple[Columns, int]]) -> tuple[Columns, int]:
    """Return the columns of a chunk.

    Raises:
        OSError: A process was killed.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a process that encodes rows was killed. The system does this when memory is short. Free memory, "
            "or use fewer cores (taskset), and start the same command again to encode the split"
        ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block Ctrl-C for processes that start inside the block. They end with this process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _why_not_sent(task: Task[Any]) -> str:
    """Return why a task cannot be sent to another process, such as a lambda as `read`; empty if it can."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return str(error)
    return ""


_text: TextEncoder
"""The tokenizer of a process of a pool."""


def _start(text: TextEncoder) -> None:
    """Prepare a process of a pool: keep the tokenizer, use one core, and end when the parent ends."""
    global _text
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _text = text


def _end_with_parent() -> None:
    """Wait until the parent has ended, and end this process."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _encode(task: Task[Any], chunk: list[Any], first: int) -> tuple[Columns, int]:
    return task.encode(chunk, first, _text)
